"""Databases with the tenantry schema installed, for the isolation tests."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.ids import IdType
from tenantry.runtime.sqltext import identifier
from tests.support.installing import SETTING, make_data

Connection = asyncpg.Connection
_roles = itertools.count(1)


@pytest.fixture
async def connection(pg: EmbeddedServer, database: str) -> AsyncIterator[Connection]:
    """The superuser's connection to an empty database, on each version."""
    opened = await asyncpg.connect(pg.dsn(database))
    try:
        yield opened
    finally:
        await opened.close()


@pytest.fixture
async def role(connection: Connection) -> AsyncIterator[str]:
    """An application role: login, nothing else. Its name wants quoting."""
    name = f"App-{os.getpid()}-{next(_roles)}"
    await connection.execute(f"CREATE ROLE {identifier(name)} LOGIN")
    try:
        yield name
    finally:
        await connection.execute("RESET ROLE")
        await connection.execute(f"DROP OWNED BY {identifier(name)} CASCADE")
        await connection.execute(f"DROP ROLE {identifier(name)}")


@pytest.fixture
async def other_role(connection: Connection) -> AsyncIterator[str]:
    """Another role, which nobody logs in as."""
    name = f"other {os.getpid()} {next(_roles)}"
    await connection.execute(f"CREATE ROLE {identifier(name)}")
    try:
        yield name
    finally:
        await connection.execute(f"DROP OWNED BY {identifier(name)} CASCADE")
        await connection.execute(f"DROP ROLE {identifier(name)}")


async def install(connection: Connection, id_type: IdType, *, setting: str = SETTING) -> None:
    """Make the tenantry schema, as `tenantry init` does."""
    await make_data(connection, None, id_type, setting=setting)


async def enroll(connection: Connection, *tenants: object) -> None:
    """Let tenants live here."""
    for tenant in tenants:
        await connection.execute("SELECT tenantry.enroll($1, 1)", str(tenant))


@pytest.fixture
def dsn(pg: EmbeddedServer, database: str) -> Callable[[str], str]:
    """The DSN of the test's database for a role."""
    return lambda user: pg.dsn(database, user)
