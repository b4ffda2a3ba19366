"""The ways to run one query for a tenant that are compared: each as its users would write it, and warm."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import asyncpg

from benchmarks.rounds import Work
from tenantry import Config, Router

#: (tenant, id of one of its rows): what a caller asks for, turn by turn.
Errands = list[tuple[UUID, int]]

#: Not a multiple of any number of tenants, so that callers do not march in step.
_STRIDE = 7919


def _errand(errands: Errands, caller: int, turn: int) -> tuple[UUID, int]:
    return errands[(caller * _STRIDE + turn) % len(errands)]


@asynccontextmanager
async def tenantry(config: Config, errands: Errands, table: str) -> AsyncIterator[Work]:
    """A scope of the router, the query inside."""
    query = f"SELECT id, name FROM {table} WHERE id = $1"
    async with Router.open(config, metrics=False) as router:

        async def work(caller: int, turn: int) -> None:
            tenant, row = _errand(errands, caller, turn)
            async with router.tenant(tenant) as connection:
                found = await connection.fetchrow(query, row)
            assert found is not None

        yield work


@asynccontextmanager
async def one_shot(config: Config, errands: Errands, table: str) -> AsyncIterator[Work]:
    """The same by `router.fetchrow`."""
    query = f"SELECT id, name FROM {table} WHERE id = $1"
    async with Router.open(config, metrics=False) as router:

        async def work(caller: int, turn: int) -> None:
            tenant, row = _errand(errands, caller, turn)
            assert await router.fetchrow(tenant, query, row) is not None

        yield work


@asynccontextmanager
async def handwritten(dsn: str, errands: Errands, table: str, size: int) -> AsyncIterator[Work]:
    """The wrapper that teams write: acquire, BEGIN, set_config, the query, COMMIT, the pool's reset."""
    query = f"SELECT id, name FROM {table} WHERE id = $1"
    async with asyncpg.create_pool(dsn, min_size=size, max_size=size) as pool:

        async def work(caller: int, turn: int) -> None:
            tenant, row = _errand(errands, caller, turn)
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute("SELECT set_config('app.current_tenant', $1, true)", str(tenant))
                found = await connection.fetchrow(query, row)
            assert found is not None

        yield work


@asynccontextmanager
async def plain(dsn: str, errands: Errands, table: str, size: int) -> AsyncIterator[Work]:
    """asyncpg's pool in autocommit: no tenancy, no RLS, a WHERE that nobody may forget."""
    query = f"SELECT id, name FROM {table} WHERE tenant_id = $1 AND id = $2"
    async with asyncpg.create_pool(dsn, min_size=size, max_size=size) as pool:

        async def work(caller: int, turn: int) -> None:
            tenant, row = _errand(errands, caller, turn)
            found = await pool.fetchrow(query, tenant, row)
            assert found is not None

        yield work


@asynccontextmanager
async def psycopg_pool(dsn: str, errands: Errands, table: str, size: int) -> AsyncIterator[Work]:
    """psycopg's pool with set_config in each transaction. It has no reset: four flights."""
    from psycopg_pool import AsyncConnectionPool

    query = f"SELECT id, name FROM {table} WHERE id = %s"
    async with AsyncConnectionPool(dsn, min_size=size, max_size=size, open=False) as pool:
        await pool.wait()

        async def work(caller: int, turn: int) -> None:
            tenant, row = _errand(errands, caller, turn)
            async with pool.connection() as connection:
                await connection.execute("SELECT set_config('app.current_tenant', %s, true)", (str(tenant),))
                found = await (await connection.execute(query, (row,))).fetchone()
            assert found is not None

        yield work


@asynccontextmanager
async def sqlalchemy(dsn: str, errands: Errands, table: str, size: int) -> AsyncIterator[Work]:
    """SQLAlchemy's asyncio engine (Core, no ORM) with a listener that sets the tenant at BEGIN."""
    from sqlalchemy import event, text

    bound: ContextVar[str] = ContextVar("bound")
    query = text(f"SELECT id, name FROM {table} WHERE id = :id")
    engine = _engine(dsn, size)

    @event.listens_for(engine.sync_engine, "begin")
    def set_tenant(connection: Any) -> None:
        connection.exec_driver_sql("SELECT set_config('app.current_tenant', $1, true)", (bound.get(),))

    async def work(caller: int, turn: int) -> None:
        tenant, row = _errand(errands, caller, turn)
        bound.set(str(tenant))
        async with engine.begin() as connection:
            found = (await connection.execute(query, {"id": row})).first()
        assert found is not None

    try:
        yield work
    finally:
        await engine.dispose()


@asynccontextmanager
async def sqlalchemy_tenants(dsn: str, errands: Errands, table: str, size: int) -> AsyncIterator[Work]:
    """The library sqlalchemy-tenants: a role per tenant, SET SESSION ROLE in each session.

    Raises:
        ImportError: it is not installed.
    """
    from sqlalchemy import text

    managers = importlib.import_module("sqlalchemy_tenants.aio")
    query = text(f"SELECT id, name FROM {table} WHERE id = :id")
    engine = _engine(dsn, size)
    manager = managers.PostgresManager.from_engine(engine, schema_name="public")

    async def work(caller: int, turn: int) -> None:
        tenant, row = _errand(errands, caller, turn)
        async with manager.new_tenant_session(tenant, create_if_missing=False) as session:
            found = (await session.execute(query, {"id": row})).first()
            await session.commit()
        assert found is not None

    try:
        yield work
    finally:
        await engine.dispose()


def _engine(dsn: str, size: int) -> Any:
    from sqlalchemy.ext.asyncio import create_async_engine

    url = urlunsplit(urlsplit(dsn)._replace(scheme="postgresql+asyncpg"))
    return create_async_engine(url, pool_size=size, max_overflow=0, pool_timeout=60)
