"""Which database an `rls` command looks at, as whom, and how its tenants are told apart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated

import typer

from tenantry.catalog.tenancy import Tenancy
from tenantry.cli import secrets
from tenantry.cli.session import Session
from tenantry.config import ResolvedDatabase, check_dsn, role_of
from tenantry.errors import ConfigError
from tenantry.ids import IdType, Kind
from tenantry.isolation.attacks.probe import Bind
from tenantry.isolation.attacks.scene import Connection
from tenantry.proof import bind_proof, database_key
from tenantry.wiring import tenancy_of

_CONNECT_SECONDS = 10.0
_HERE = "A database that tenantry does not route"
DatabaseOption = Annotated[
    str | None,
    typer.Option("--database", "-d", help="Which one; needed where there is more than one shared database."),
]
RoleOption = Annotated[
    str | None, typer.Option("--role", help="The application role; by default the one of the database's DSN.")
]
DsnOption = Annotated[
    str | None,
    typer.Option("--dsn", help="Look here, without a configuration file.", rich_help_panel=_HERE),
]
ColumnOption = Annotated[
    str | None, typer.Option("--column", help="With --dsn: the tenant column.", rich_help_panel=_HERE)
]
TypeOption = Annotated[
    IdType | None, typer.Option("--type", help="With --dsn: the type of the ids.", rich_help_panel=_HERE)
]
SettingOption = Annotated[
    str | None,
    typer.Option("--setting", help="With --dsn: the setting that policies read.", rich_help_panel=_HERE),
]
TableOption = Annotated[
    list[str] | None,
    typer.Option(
        "--table",
        help="With --dsn: SCHEMA.TABLE=COLUMN, =reference, =once or =ignore; may be repeated.",
        rich_help_panel=_HERE,
    ),
]


@dataclass(frozen=True, slots=True)
class Target:
    """A database to look at."""

    name: str
    dsn: str = field(repr=False)
    tenancy: Tenancy
    role: str | None
    bind: Bind | None = None
    """How hardened mode binds; None: as everybody may."""
    timeout: float | None = None
    """Seconds for connecting; None: the configuration's."""

    @asynccontextmanager
    async def connect(self, session: Session) -> AsyncIterator[Connection]:
        """A connection of the role that looks and changes."""
        async with session.connect(self.name, self.dsn, timeout=self.timeout) as connection:
            yield connection


@dataclass(frozen=True, slots=True)
class Where:
    """What every `rls` command can be told of the database to look at."""

    database: DatabaseOption = None
    role: RoleOption = None
    dsn: DsnOption = None
    column: ColumnOption = None
    type: TypeOption = None
    setting: SettingOption = None
    table: TableOption = None

    async def target(self, session: Session, *, reads: bool = False) -> Target:
        """From the configuration, or from the command line alone.

        Args:
            reads: True for commands that only read: without an operator's role the application's will do.

        Raises:
            ConfigError: it can't be told which, or how.
        """
        overrides = dict(_override(text) for text in self.table or ())
        given = {"column": self.column, "id_type": self.type, "setting": self.setting, "tables": overrides}
        told = {name: value for name, value in given.items() if value}
        if self.dsn is not None:
            session.out.secrets |= secrets.of_dsn(self.dsn)
            check_dsn(self.dsn, key="--dsn")
            tenancy = Tenancy(**told)  # type: ignore[arg-type]  # the keys are its fields
            return Target("the database", self.dsn, tenancy, self.role, timeout=_CONNECT_SECONDS)
        if told:
            raise ConfigError(
                "--column, --type, --setting and --table go with --dsn; else the file's tenancy says it"
            )
        found = await _chosen(session, self.database)
        own = found.best_dsn
        where = own if reads and own is not None else found.require_operator_dsn()
        logged_in = None if found.dsn is None else role_of(found.dsn)
        proving = _proving(session, found.name)
        return Target(found.name, where, tenancy_of(session.config), self.role or logged_in, proving)


async def _chosen(session: Session, name: str | None) -> ResolvedDatabase:
    if name is not None:
        return await session.database(name)
    shared = [one for one in (await _known(session)).values() if one.kind is Kind.SHARED]
    if len(shared) != 1:
        names = ", ".join(one.name for one in shared) or "none"
        raise ConfigError(f"say which database with --database; shared ones: {names}")
    return shared[0]


async def _known(session: Session) -> dict[str, ResolvedDatabase]:
    """The file's databases: nothing here needs the control database."""
    return {name: session.in_file(name) for name in session.config.databases}


def _proving(session: Session, name: str) -> Bind | None:
    section = session.config.tenancy
    if not section.hardened or section.secret is None:
        return None
    key = database_key(section.secret.get_secret_value(), name)

    async def bind(connection: Connection, tenant: str) -> None:
        backend = await connection.fetchval("SELECT pg_backend_pid()")
        await connection.execute("SELECT tenantry.bind($1, $2)", tenant, bind_proof(key, backend, tenant))

    return bind


def _override(text: str) -> tuple[str, str]:
    table, found, column = text.partition("=")
    if not found or "." not in table or not column:
        raise ConfigError(f"{text!r} is not SCHEMA.TABLE=COLUMN, =reference, =once or =ignore", key="--table")
    return table, column
