"""The operator's scope: a role that may bypass row-level security, and the record of who used it and why."""

from __future__ import annotations

import asyncio
import getpass
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Literal

import asyncpg

from tenantry import sql
from tenantry.directory import Store
from tenantry.errors import ConfigError, OperatorScopeLost, TenantryError
from tenantry.events import Events, OperatorScopeEnded
from tenantry.router import disconnect, driver
from tenantry.router.connections import CLEANUP
from tenantry.router.driver import Connection
from tenantry.router.no_flips import no_flips, still_holds
from tenantry.router.pools import DatabaseSpec, Pools
from tenantry.runtime.connection_errors import NOT_CONNECTED, said_by_server, unavailable
from tenantry.runtime.shielded import run_shielded

logger = logging.getLogger(__name__)

#: Opens a transaction on a connection to the named database, and ends it.
Begin = Callable[[Connection, str], AbstractAsyncContextManager[None]]
Isolation = Literal["repeatable_read"] | None


class Operators:
    """Opens operators' scopes, on connections of their own within the process's budget."""

    # No mutable state.

    def __init__(self, pools: Pools, store: Store, events: Events, *, connect_timeout: float) -> None:
        """Args:
        store: of the control database, which keeps the record.
        connect_timeout: seconds.
        """
        self._pools = pools
        self._store = store
        self._events = events
        self._connect_timeout = connect_timeout

    @asynccontextmanager
    async def scope(
        self, spec: DatabaseSpec, *, reason: str, actor: str | None, begin: Begin
    ) -> AsyncIterator[Connection]:
        """See `TenantRouter.operator`. `begin`: opens the transaction and ends it."""
        if spec.operator_dsn is None:
            raise ConfigError(
                "no operator role is configured; set it to the DSN of a role that may bypass RLS",
                key=f"databases.{spec.name}.operator_dsn",
            )
        who = actor or f"{getpass.getuser()}@{socket.gethostname()} pid {os.getpid()}"
        event = await self._store.record("operator", who, database=spec.name, reason=reason.strip())
        loop = asyncio.get_running_loop()
        started = loop.time()
        outcome = "rollback"
        try:
            async with self._connection(spec.name, spec.operator_dsn) as connection:
                async with begin(connection, spec.name):
                    yield connection
                    outcome = "unknown"  # from here on its COMMIT may be on its way
                outcome = "commit"
        except (asyncpg.PostgresError, TenantryError) as error:
            if isinstance(error, TenantryError) or said_by_server(error):
                outcome = "rollback"  # the server has said so, or we have before the COMMIT
            raise
        finally:
            seconds = loop.time() - started
            self._events.emit(OperatorScopeEnded(spec.name, reason, seconds, outcome))
            try:
                await run_shielded(
                    self._store.amend(event, {"seconds": round(seconds, 6), "outcome": outcome}),
                    seconds=CLEANUP,
                    name="tenantry operator record",
                )
            except (TenantryError, TimeoutError):
                logger.warning("the end of operator scope %d could not be recorded", event)

    @asynccontextmanager
    async def _connection(self, database: str, dsn: str) -> AsyncIterator[Connection]:
        async with self._pools.permit(database):
            try:
                connection = await driver.connect(
                    dsn,
                    timeout=self._connect_timeout,
                    application_name="tenantry operator",
                    settings={},
                    cached_statements=False,
                    origin=self._pools.origin,
                )
            except NOT_CONNECTED as error:
                raise unavailable(database, error) from error
            try:
                yield connection
            finally:
                await run_shielded(
                    disconnect.cancel_and_close(connection), seconds=CLEANUP, name="tenantry operator close"
                )


@asynccontextmanager
async def transaction(
    connection: Connection, database: str, *, readonly: bool = False, isolation: Isolation = None
) -> AsyncIterator[None]:
    """A transaction of an operator's role that sees every tenant's rows."""
    async with connection.transaction(readonly=readonly, isolation=isolation):
        await _refuse_filtered(connection, database)
        await connection.execute("SET LOCAL tenantry.operator = 'open'")  # as local as the transaction
        yield
        await _be_open(connection, database)


async def _be_open(connection: Connection, database: str) -> None:
    """Make sure that the COMMIT will commit what was done since the scope began.

    Raises:
        OperatorScopeLost: it will not. PostgreSQL calls a COMMIT after a failed statement no error.
    """
    try:
        state = await connection.fetchval("SELECT pg_catalog.current_setting('tenantry.operator', true)")
    except asyncpg.InFailedSQLTransactionError as error:
        raise OperatorScopeLost(database, "failed") from error
    if state != "open":
        raise OperatorScopeLost(database, "ended")


@asynccontextmanager
async def writing(control_dsn: str, connection: Connection, database: str) -> AsyncIterator[None]:
    """A transaction of an operator's role, and no tenant changes its home before the COMMIT is answered."""
    async with no_flips(control_dsn) as control, transaction(connection, database):
        yield
        await still_holds(control)


async def _refuse_filtered(connection: Connection, database: str) -> None:
    """Make sure that the role sees every tenant's rows, now and in tables that are made meanwhile.

    Raises:
        ConfigError: row-level security applies to the role, so that it would see no rows, without an error.
    """
    await connection.execute("SET LOCAL row_security = off")
    filtered = await connection.fetchrow(sql.query("router/filtered_tables"))
    if filtered is None:
        return
    raise ConfigError(
        f"role {filtered['role']} would see no tenant's rows, and no error: row-level security applies to it on "
        f"{filtered['count']} tables, {', '.join(filtered['tables'])} among them. "
        f"`ALTER ROLE {filtered['quoted']} BYPASSRLS`, or name a role that has it",
        key=f"databases.{database}.operator_dsn",
    )
