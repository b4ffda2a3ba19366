"""What a command needs, opened when it is first used: the configuration, the store, connections."""

from __future__ import annotations

import getpass
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Self

from tenantry.cli import secrets
from tenantry.cli.render import Renderer
from tenantry.config import Config, ResolvedDatabase, of_config, resolve_all
from tenantry.directory import Store
from tenantry.errors import ConfigError, DatabaseUnavailable
from tenantry.events import Events
from tenantry.router import driver
from tenantry.router.driver import Connection
from tenantry.runtime.connection_errors import NOT_CONNECTED
from tenantry.runtime.shielded import run_shielded
from tenantry.wiring import Router

DEFAULT_CONFIG: Final = Path("config/tenantry.yaml")
CLOSE_SECONDS: Final = 5.0


class Session:
    """One run of one command. An async context manager that closes what was opened."""

    # Mutable state: _config, _store, _router: None until used; planned: databases that nobody has registered yet.

    def __init__(self, path: Path, out: Renderer) -> None:
        self.path = path
        self.out = out
        self.planned: dict[str, ResolvedDatabase] = {}
        self._config: Config | None = None
        self._store: Store | None = None
        self._router: Router | None = None

    @property
    def config(self) -> Config:
        """The file, read once.

        Raises:
            ConfigError: it can't be used.
        """
        if self._config is None:
            config = Config.load(self.path)
            for _, dsn in config.dsns():
                self.out.secrets |= secrets.of_dsn(dsn)
            if config.tenancy.secret is not None:
                self.out.secrets.add(config.tenancy.secret.get_secret_value())
            self._config = config
        return self._config

    @property
    def store(self) -> Store:
        """The directory's tables."""
        if self._store is None:
            self._store = Store(self.config.control.dsn.get_secret_value())
        return self._store

    @property
    def router(self) -> Router:
        """A router that has not been started: for sign-up and the like. Closed with the session."""
        if self._router is None:
            self._router = Router.assemble(self.config, Events())
        return self._router

    @property
    def actor(self) -> str:
        """Who runs this command, for the record."""
        return f"{getpass.getuser()}@{socket.gethostname()} tenantry cli"

    # -- databases ---------------------------------------------------------------------------------

    async def databases(self) -> dict[str, ResolvedDatabase]:
        """Every database, by name: the file's, and those that only the directory has."""
        found = resolve_all(self.config, await self.store.databases())
        for database in found.values():
            for dsn in (database.dsn, database.operator_dsn, database.direct_dsn):
                self.out.secrets |= secrets.of_dsn(dsn) if dsn else set()
        return dict(sorted({**self.planned, **found}.items()))

    def in_file(self, name: str) -> ResolvedDatabase:
        """A database of the file."""
        return of_config(self.config, name)

    async def database(self, name: str) -> ResolvedDatabase:
        """One database.

        Raises:
            ConfigError: neither the file nor the directory has it.
        """
        if name in self.config.databases:
            return self.in_file(name)
        found = await self.databases()
        if name not in found:
            raise ConfigError(
                f"no database {name}; there are: {', '.join(found) or 'none'} (`tenantry databases list`)"
            )
        return found[name]

    # -- connections -------------------------------------------------------------------------------

    @asynccontextmanager
    async def control(self) -> AsyncIterator[Connection]:
        """A connection to the control database, past a pooler where that is configured."""
        async with self.connect("control", self.config.control.listen_dsn) as connection:
            yield connection

    @asynccontextmanager
    async def operator(self, name: str) -> AsyncIterator[Connection]:
        """A connection of the operator's role.

        Raises:
            ConfigError: the database has no operator_dsn.
            DsnUnreadable: its reference leads nowhere here.
            DatabaseUnavailable: it doesn't answer.
        """
        async with self.connect(name, (await self.database(name)).require_operator_dsn()) as connection:
            yield connection

    @asynccontextmanager
    async def connect(self, name: str, dsn: str, *, timeout: float | None = None) -> AsyncIterator[Connection]:
        """Any connection. `name` is what errors call it; `timeout` in seconds, for connecting."""
        try:
            connection = await driver.connect(
                dsn,
                timeout=timeout or self.config.router.connect_timeout,
                application_name="tenantry cli",
                settings={},
                cached_statements=False,
            )
        except (*NOT_CONNECTED, ValueError) as error:
            raise DatabaseUnavailable(name, self.why(error)) from None
        try:
            yield connection
        finally:
            await run_shielded(driver.close(connection), seconds=CLOSE_SECONDS, name=f"closing {name}")

    def why(self, error: BaseException) -> str:
        """A driver's or the system's error in a few words without secrets."""
        if isinstance(error, ValueError):  # may quote parts of the DSN
            return f"{type(error).__name__}: its DSN can't be used"
        text = secrets.scrub(str(error).partition("\n")[0], self.out.secrets)
        return f"{type(error).__name__}: {text}" if text else type(error).__name__

    # -- life --------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        router, self._router = self._router, None
        if router is not None:
            await router.close(grace=1.0)
        store, self._store = self._store, None
        if store is not None:
            await store.close()
