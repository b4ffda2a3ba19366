"""What a command needs, opened when it is first used: the configuration, the store, connections."""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import SecretStr

from tenantry.cli import secrets
from tenantry.cli.render import Renderer
from tenantry.config import Config, DatabaseSection
from tenantry.directory import DatabaseRow, Store
from tenantry.errors import ConfigError, DatabaseUnavailable
from tenantry.events import Events
from tenantry.lifecycle import to_the_end
from tenantry.router import driver
from tenantry.router.driver import Connection
from tenantry.tenant import Kind
from tenantry.wiring import Router, created_section

DEFAULT_CONFIG: Final = Path("config/tenantry.yaml")
CLOSE_SECONDS: Final = 5.0
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.%]*\]|[^:\[\]]*)(:\d{1,5})?")


@dataclass(frozen=True, slots=True)
class Database:
    """A database, from the file or, if the file doesn't name it, from the directory."""

    name: str
    kind: Kind
    reference: str
    """"env:NAME", "file:PATH", "server:NAME" or "config": where its DSN comes from."""
    dsn: str | None = field(repr=False)
    """None: the reference leads nowhere on this machine."""
    operator_dsn: str | None = field(default=None, repr=False)
    """Of the role that may bypass RLS."""
    direct_dsn: str | None = field(default=None, repr=False)
    """Of the operator's role, past any pooler."""
    tenant: str | None = None
    size: int = 20
    """Connections of one process's pool at most."""
    idle: float = 600.0
    """Seconds."""
    section: DatabaseSection | None = field(default=None, repr=False)
    """Its section of the file; None: only the directory knows it."""

    @property
    def settings(self) -> dict[str, Any]:
        """What the directory keeps of it, for processes whose file doesn't name it."""
        said = self.section.server_settings if self.section else {}
        return {"max": self.size, "idle": self.idle, **({"settings": said} if said else {})}


class Session:
    """One run of one command. An async context manager that closes what was opened."""

    # Mutable state: _config, _store, _router: None until used; planned: databases that nobody has registered yet.

    def __init__(self, path: Path, out: Renderer) -> None:
        self.path = path
        self.out = out
        self.planned: dict[str, Database] = {}
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
            for key, dsn in _dsns(config):
                self.out.secrets |= secrets.of_dsn(dsn)
                check_dsn(dsn, source=str(self.path), key=key)
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

    async def databases(self) -> dict[str, Database]:
        """Every database, by name: the file's, and those that only the directory has."""
        found = {name: self.in_file(name) for name in self.config.databases}
        for row in await self.store.databases():
            found.setdefault(row.name, self._of_row(row))
        return dict(sorted({**self.planned, **found}.items()))

    def in_file(self, name: str) -> Database:
        """A database of the file."""
        return self.of_section(name, self.config.databases[name], self.config.references.get(name, "config"))

    def of_section(self, name: str, section: DatabaseSection, reference: str) -> Database:
        """A database that a section of the file describes."""
        return Database(
            name,
            section.kind,
            reference,
            section.dsn.get_secret_value(),
            _revealed(section.operator_dsn),
            _revealed(section.direct_dsn),
            section.tenant,
            section.pool.max,
            section.pool.idle,
            section,
        )

    async def database(self, name: str) -> Database:
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

    def _of_row(self, row: DatabaseRow) -> Database:
        section = created_section(self.config, row)
        if section is not None:
            self.out.secrets |= secrets.of_dsn(section.dsn.get_secret_value())
            return self.of_section(row.name, section, row.dsn)

        def resolved(reference: object) -> str | None:
            dsn = read_reference(str(reference)) if reference else None
            if dsn:
                self.out.secrets |= secrets.of_dsn(dsn)
                check_dsn(dsn, key=f"{reference} of database {row.name}")
            return dsn

        operator, direct = row.settings.get("operator"), row.settings.get("direct")
        return Database(
            row.name,
            row.kind,
            row.dsn,
            resolved(row.dsn),
            resolved(operator),
            resolved(direct),
            size=int(row.settings.get("max", 20)),
            idle=float(row.settings.get("idle", 600.0)),
        )

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
            DatabaseUnavailable: it doesn't answer.
        """
        async with self.connect(name, operator_dsn(await self.database(name))) as connection:
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
        except (*driver.LINK_ERRORS, *driver.REFUSALS, TimeoutError, ValueError) as error:
            raise DatabaseUnavailable(name, self.why(error)) from None
        try:
            yield connection
        finally:
            await to_the_end(driver.close(connection), seconds=CLOSE_SECONDS, name=f"closing {name}")

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


def operator_dsn(database: Database) -> str:
    """The DSN for what may bypass RLS: past a pooler where one is configured.

    Raises:
        ConfigError: there is none.
    """
    dsn = database.direct_dsn or database.operator_dsn
    if dsn is None:
        raise ConfigError(
            "no operator role is configured; set it to the DSN of a role that owns the tables or may bypass RLS",
            key=f"databases.{database.name}.operator_dsn",
        )
    return dsn


def read_reference(reference: str, environment: Mapping[str, str] | None = None) -> str | None:
    """The DSN that "env:NAME" or "file:PATH" leads to; None: it leads nowhere here."""
    scheme, _, target = reference.partition(":")
    if scheme == "env":
        return (os.environ if environment is None else environment).get(target) or None
    if scheme == "file":
        try:
            return Path(target).read_text(encoding="utf-8").strip() or None
        except (OSError, UnicodeDecodeError):
            return None
    return None


def check_dsn(dsn: str, *, key: str, source: str | None = None) -> None:
    """See that a DSN is a connection URL that the driver will read as it was meant.

    Raises:
        ConfigError: it isn't; the DSN is not repeated.
    """
    mend = (
        "write postgresql://user:password@host:5432/database, reserved characters in a password as %40 and so on"
    )
    try:
        parts = urlsplit(dsn)
        hosts = parts.netloc.rpartition("@")[2].split(",")
    except ValueError:
        raise ConfigError(f"not a connection URL; {mend}", source=source, key=key) from None
    if parts.scheme not in ("postgresql", "postgres") or not all(_HOST.fullmatch(host) for host in hosts):
        raise ConfigError(f"not a connection URL; {mend}", source=source, key=key)
    if parts.fragment:
        raise ConfigError(f"a # cuts the connection URL short; {mend}", source=source, key=key)


def role_of(dsn: str) -> str:
    """The role that a DSN logs in as, by libpq's rules."""
    parts = urlsplit(dsn)
    name = unquote(parts.netloc.rpartition("@")[0].partition(":")[0])
    return name or dict(parse_qsl(parts.query)).get("user") or os.environ.get("PGUSER") or getpass.getuser()


def _dsns(config: Config) -> list[tuple[str, str]]:
    """Every DSN of the file with its key."""
    named: list[tuple[str, SecretStr | None]] = [
        ("control.dsn", config.control.dsn),
        ("control.direct_dsn", config.control.direct_dsn),
    ]
    for part in ("servers", "databases"):
        for name, section in getattr(config, part).items():
            for key in ("dsn", "operator_dsn", "direct_dsn"):
                named.append((f"{part}.{name}.{key}", getattr(section, key)))
    return [(key, dsn.get_secret_value()) for key, dsn in named if dsn is not None]


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
