"""Operators' scopes over all databases: every row of every tenant once.

While it is open it holds a shared advisory lock in the control database, which a flip takes alone: no tenant
changes its home between the first database and the last. Where a tenant lives is asked of the database that lets
it in, not of the directory, which a move tells late. Copies grow under a reader all the same: a move that has
begun after a database was looked at is kept out by the snapshot (READ ONLY) or found before the COMMIT.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any, Protocol, Self

import asyncpg

from tenantry import sql
from tenantry.config import role_of
from tenantry.directory import Directory
from tenantry.errors import DatabaseUnavailable, TenantSuspended, UnknownTenant
from tenantry.ids import IdType, Placement, TenantId
from tenantry.router.driver import Connection
from tenantry.router.leftovers import hide, show
from tenantry.router.no_flips import ask, no_flips, still_holds
from tenantry.router.operator import Isolation, Operators, transaction
from tenantry.router.pools import DatabaseSpec, Pools


class Visited(Protocol):
    """As much of a router as it takes to visit its databases."""

    ids: IdType
    directory: Directory
    pools: Pools

    def tenant(self, tenant_id: TenantId) -> AbstractAsyncContextManager[Any]: ...
    async def placement(self, tenant_id: TenantId) -> Placement: ...


@asynccontextmanager
async def visit_all(
    router: Visited, operators: Operators, *, reason: str, actor: str | None, readonly: bool
) -> AsyncIterator[AllDatabases]:
    """See `TenantRouter.operators`."""
    async with no_flips(router.directory.store.dsn) as control, AsyncExitStack() as stack:
        visit = AllDatabases(router, operators, control, reason=reason, actor=actor, readonly=readonly)
        stack.push_async_exit(visit.end)
        yield visit


class AllDatabases:
    """`async for name, conn in databases`: an operator's transaction on each database, in the order of the names.

    It commits when the loop goes on, or is left without an error; an error of the body rolls back the database
    that it was at, and those before it stay committed. A database that does not
    answer is an error; where nobody lives, nobody looks.

    Where moves have left rows, names without a schema are views that leave them out, and statements run as the
    scopes' role: what is named with its schema is refused by PostgreSQL there, rather than counted twice.
    """

    # Mutable state: _names (databases to come; None before the first), _since (when that was, by the control
    # database's clock), _current (the open scope), _homes (of tenants with unreleased moves, once asked for).

    def __init__(
        self,
        router: Visited,
        operators: Operators,
        control: Connection,
        *,
        reason: str,
        actor: str | None,
        readonly: bool,
    ) -> None:
        self._router = router
        self._operators = operators
        self._control = control
        self._reason, self._actor, self._readonly = reason, actor, readonly
        self._names: list[str] | None = None
        self._current: AsyncExitStack | None = None
        self._homes: dict[str, str] = {}
        self._since: datetime | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[str, Connection]:
        await self.end(None, None, None)
        if self._names is None:
            self._since = await self._ask("SELECT clock_timestamp()")
            counts = await self._router.directory.store.count_tenants()
            self._names = [name for name, count in counts.items() if count or await self._moved_to(name)]
        if not self._names:
            raise StopAsyncIteration
        name = self._names.pop(0)
        spec = await self._router.pools.spec(name)
        stack = AsyncExitStack()
        scope = self._operators.scope(
            spec, reason=self._reason, actor=self._actor, begin=partial(self._begin, spec)
        )
        connection = await stack.enter_async_context(scope)
        self._current = stack
        return name, connection

    async def end(self, *error: object) -> bool:
        """End the scope that is open, as its block would."""
        stack, self._current = self._current, None
        if stack is None:
            return False
        return bool(await stack.__aexit__(*error))  # type: ignore[arg-type]

    @asynccontextmanager
    async def _begin(self, spec: DatabaseSpec, connection: Connection, database: str) -> AsyncIterator[None]:
        """A transaction in which only those who live here have rows."""
        isolation: Isolation = "repeatable_read" if self._readonly else None
        with contextlib.suppress(_Discard):
            async with transaction(connection, database, isolation=isolation):
                guests = await self._guests(database)
                views = []
                if guests:
                    views = await hide(connection, database, guests, self._router.pools.tenancy, role_of(spec.dsn))
                if self._readonly:
                    await connection.execute("SET TRANSACTION READ ONLY")
                yield
                await still_holds(self._control)
                if self._readonly:
                    raise _Discard  # nothing was written but the views
                if guests:
                    await show(connection, views)
                new = await self._guests(database) - guests
                if new:
                    raise DatabaseUnavailable(
                        database,
                        f"a move has begun to bring tenant {min(new)} here meanwhile, and its rows may have been "
                        "counted or changed; nothing was committed here, repeat the work",
                    )

    async def _guests(self, database: str) -> set[str]:
        """Tenants of whom there may be rows although they live elsewhere. Asked after the snapshot."""
        rows = await self._rows(sql.query("router/unreleased_moves"), database, self._since)
        return {row["tenant"] for row in rows if await self._home(row["tenant"]) != database}

    async def _home(self, tenant: str) -> str:
        """The database that lets a tenant in; of one that nobody is let in for, what the directory says."""
        if tenant not in self._homes:
            row = (await self._router.directory.store.tenants([tenant], removed=True)).get(tenant)
            home = "" if row is None else row.database
            with contextlib.suppress(TenantSuspended, UnknownTenant):
                parsed = self._router.ids.parse(tenant)
                async with self._router.tenant(parsed):
                    home = (await self._router.placement(parsed)).database
            self._homes[tenant] = home
        return self._homes[tenant]

    async def _moved_to(self, database: str) -> bool:
        """Whether a move has brought somebody here of whom the directory has not heard yet."""
        rows = await self._rows(sql.query("router/unreleased_moves"), database, self._since)
        return database in [await self._home(row["tenant"]) for row in rows]

    async def _rows(self, query: str, *args: object) -> list[asyncpg.Record]:
        return await ask(self._control, query, *args)

    async def _ask(self, query: str) -> datetime | None:
        found: datetime | None = (await self._rows(query))[0][0]
        return found


class _Discard(Exception):
    """Rolls a transaction back whose work is done."""
