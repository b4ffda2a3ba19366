"""What every operation needs, opened when it is first used: the configuration, the directory, connections."""

from __future__ import annotations

import getpass
import socket
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from tenantry.config import Config, ResolvedDatabase, of_config, resolve_all
from tenantry.config import secrets as hidden
from tenantry.directory import Store, TenantRow
from tenantry.errors import DatabaseUnavailable, OperationsClosed, UnknownDatabase, UnknownTenant
from tenantry.events import Events
from tenantry.router import driver
from tenantry.router.driver import Connection
from tenantry.runtime.connection_errors import NOT_CONNECTED, UNREACHABLE, unavailable
from tenantry.runtime.shielded import run_shielded
from tenantry.wiring import Router

CLOSE_SECONDS: Final = 5.0


@asynccontextmanager
async def connected(
    name: str, dsn: str, timeout: float, secrets: Collection[str] = ()
) -> AsyncIterator[Connection]:
    """A connection, closed at the end.

    Args:
        name: what errors call the database.
        timeout: seconds for connecting.
        secrets: what no error may show, besides what the DSN itself has.

    Raises:
        DatabaseUnavailable: it doesn't answer, or doesn't let us in.
    """
    try:
        connection = await driver.connect(
            dsn, timeout=timeout, application_name="tenantry operations", settings={}, cached_statements=False
        )
    except (*NOT_CONNECTED, ValueError) as error:
        raise DatabaseUnavailable(name, why(error, {*secrets, *hidden.of_dsn(dsn)})) from None
    try:
        yield connection
    finally:
        await run_shielded(driver.close(connection), seconds=CLOSE_SECONDS, name=f"closing {name}")


def why(error: BaseException, secrets: Collection[str]) -> str:
    """A driver's or the system's error in a few words without secrets."""
    if isinstance(error, ValueError):  # may quote parts of the DSN
        return f"{type(error).__name__}: its DSN can't be used"
    text = hidden.scrub(str(error).partition("\n")[0], secrets)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class Context:
    """Shared by the parts of `Operations`."""

    # Mutable state: _store and _router, None until used; _open; secrets, added to as DSNs become known.

    def __init__(self, config: Config, actor: str | None = None) -> None:
        self._config = config
        self.actor = actor or f"{getpass.getuser()}@{socket.gethostname()} tenantry"
        """Who does this, for the record."""
        self.secrets: set[str] = set()
        """What must not be shown: parts of every DSN that was read."""
        self._store: Store | None = None
        self._router: Router | None = None
        self._open = False
        for _, dsn in config.dsns():
            self.secrets |= hidden.of_dsn(dsn)
        if config.tenancy.secret is not None:
            self.secrets.add(config.tenancy.secret.get_secret_value())

    @property
    def config(self) -> Config:
        """The configuration.

        Raises:
            OperationsClosed: it was not entered, or is used after its end.
        """
        if not self._open:
            raise OperationsClosed
        return self._config

    @property
    def store(self) -> Store:
        """The directory's tables. Raises as `config`."""
        if self._store is None:
            self._store = Store(self.config.control.dsn.get_secret_value())
        return self._store

    @property
    def router(self) -> Router:
        """A router that has not been started: for sign-up. Closed with the rest. Raises as `config`."""
        if self._router is None:
            self._router = Router.assemble(self.config, Events())
        return self._router

    # -- what the directory knows ------------------------------------------------------------------

    def id_of(self, tenant: object) -> str:
        """A tenant's id as the directory stores it; a text is read as users type it.

        Raises:
            InvalidTenantId: not an id of the configured type. Before any I/O.
        """
        ids = self.config.tenancy.type
        return str(ids.parse(tenant) if isinstance(tenant, str) else ids.validate(tenant))

    async def tenant(self, tenant: object) -> TenantRow:
        """The directory's row of a tenant.

        Raises:
            InvalidTenantId: not an id of the configured type.
            UnknownTenant: it isn't in the directory.
        """
        text = self.id_of(tenant)
        rows = await self.store.tenants([text])
        if text not in rows:
            raise UnknownTenant(text)
        return rows[text]

    async def databases(self) -> dict[str, ResolvedDatabase]:
        """Every database, by name: the configuration's, and those that only the directory has."""
        found = resolve_all(self.config, await self.store.databases())
        for database in found.values():
            for dsn in (database.dsn, database.operator_dsn, database.direct_dsn):
                self.secrets |= hidden.of_dsn(dsn) if dsn else set()
        return found

    def configured(self) -> dict[str, ResolvedDatabase]:
        """The configuration's databases, by name: nothing is asked for these."""
        return {name: of_config(self.config, name) for name in sorted(self.config.databases)}

    async def database(self, name: str) -> ResolvedDatabase:
        """One database.

        Raises:
            UnknownDatabase: neither the configuration nor the directory has it.
        """
        if name in self.config.databases:
            return of_config(self.config, name)
        found = await self.databases()
        if name not in found:
            raise UnknownDatabase(name, list(found))
        return found[name]

    # -- connections -------------------------------------------------------------------------------

    @asynccontextmanager
    async def pool(self) -> AsyncIterator[asyncpg.Pool[asyncpg.Record]]:
        """The directory's pool, for the ledger.

        Raises:
            DatabaseUnavailable: for "control", whatever the body's queries met there.
        """
        try:
            yield await self.store.pool()
        except UNREACHABLE as error:
            raise unavailable("control", error) from error
        except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError) as error:
            why = "its tenantry schema is missing or old; run `tenantry init`"
            raise DatabaseUnavailable("control", why) from error

    @asynccontextmanager
    async def control(self) -> AsyncIterator[Connection]:
        """A connection to the control database, past a pooler where that is configured."""
        async with self.connect("control", self.config.control.listen_dsn) as connection:
            yield connection

    @asynccontextmanager
    async def operator(self, name: str) -> AsyncIterator[Connection]:
        """A connection of the operator's role.

        Raises:
            UnknownDatabase: there is no such database.
            ConfigError: it has no operator_dsn.
            DsnUnreadable: the reference to its DSN leads nowhere here.
            DatabaseUnavailable: it doesn't answer.
        """
        async with self.connect(name, (await self.database(name)).require_operator_dsn()) as connection:
            yield connection

    @asynccontextmanager
    async def connect(self, name: str, dsn: str, *, timeout: float | None = None) -> AsyncIterator[Connection]:
        """Any connection. `name` is what errors call it; `timeout` in seconds, for connecting."""
        seconds = timeout or self.config.router.connect_timeout
        async with connected(name, dsn, seconds, self.secrets) as connection:
            yield connection

    def why(self, error: BaseException) -> str:
        """A driver's or the system's error in a few words without secrets."""
        return why(error, self.secrets)

    # -- life --------------------------------------------------------------------------------------

    def enter(self) -> None:
        """From now on it can be used."""
        self._open = True

    async def close(self) -> None:
        """Close what was opened; nothing works after it. Idempotent."""
        self._open = False
        router, self._router = self._router, None
        if router is not None:
            await router.close(grace=1.0)
        store, self._store = self._store, None
        if store is not None:
            await store.close()
