"""`tenantry databases …`: the directory's databases. Credentials are named there, never stored."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from tenantry.cli import exits
from tenantry.cli.command import command, group
from tenantry.cli.options import YesOption, check_name
from tenantry.cli.render import Column
from tenantry.cli.session import Session
from tenantry.config import duration, read_reference
from tenantry.directory import DatabaseRow
from tenantry.errors import ConfigError, DsnUnreadable
from tenantry.ids import Kind

COLUMNS = (
    Column("name"),
    Column("kind"),
    Column("dsn", "DSN FROM"),
    Column("source"),
    Column("tenants", right=True),
    Column("max", "POOL MAX", right=True),
)
NameArgument = Annotated[str, typer.Argument(help="The database's name in the directory.")]
KindOption = Annotated[Kind, typer.Option("--kind", help="Many tenants, or one.")]
NewKindOption = Annotated[Kind | None, typer.Option("--kind", help="Many tenants, or one.")]
EnvOption = Annotated[
    str | None, typer.Option("--dsn-env", help="Environment variable that holds the DSN of the routers' role.")
]
FileOption = Annotated[
    str | None, typer.Option("--dsn-file", help="File that holds the DSN of the routers' role.")
]
OperatorEnvOption = Annotated[
    str | None, typer.Option("--operator-env", help="Environment variable that holds the operator's DSN.")
]
OperatorFileOption = Annotated[
    str | None, typer.Option("--operator-file", help="File that holds the operator's DSN.")
]
ServerOption = Annotated[
    str | None, typer.Option("--server", help="Server of the configuration: a move makes the database there.")
]
MaxOption = Annotated[int | None, typer.Option("--max", min=1, help="Connections of one process's pool at most.")]
IdleOption = Annotated[str | None, typer.Option("--idle", help="Close unused connections after so long: 10m.")]

app = group("databases", "The databases of the directory.")


@command(app, "list")
async def list_databases(session: Session) -> None:
    """Every database, of the directory and of the file."""
    counts = await session.store.count_tenants()
    rows = [
        {
            "name": database.name,
            "kind": database.kind,
            "dsn": database.reference,
            "source": source_of(database.name in session.config.databases, database.name in counts),
            "tenants": counts.get(database.name, 0),
            "max": database.pool.max,
        }
        for database in (await session.databases()).values()
    ]
    session.out.rows(COLUMNS, rows, empty="no databases; `tenantry apply` writes the file's to the directory")


@command(app, "show")
async def show_database(session: Session, name: NameArgument) -> None:
    """One database: where its credentials come from, and who lives there."""
    database = await session.database(name)
    counts = await session.store.count_tenants()
    facts = {
        "name": name,
        "kind": database.kind,
        "dsn": database.reference,
        "address": address_of(database.dsn),
        "source": source_of(name in session.config.databases, name in counts),
        "tenants": counts.get(name, 0),
        "max": database.pool.max,
        "idle": database.pool.idle,
        "operator": (database.operator_dsn or database.direct_dsn) is not None,
        "direct": database.direct_dsn is not None,
        "tenant": database.tenant,
    }
    titles = {"dsn": "DSN from", "operator": "operator's DSN", "direct": "direct DSN", "idle": "idle (s)"}
    session.out.facts(facts, titles=titles)
    for error in database.unreadable.values():
        session.out.warn(str(error))


@command(app, "add")
async def add_database(
    session: Session,
    name: NameArgument,
    kind: KindOption,
    dsn_env: EnvOption = None,
    dsn_file: FileOption = None,
    operator_env: OperatorEnvOption = None,
    operator_file: OperatorFileOption = None,
    server: ServerOption = None,
    max: MaxOption = None,
    idle: IdleOption = None,
) -> None:
    """Add a database to the directory, by a reference to its credentials."""
    check_name(name, "NAME")
    if await _row(session, name) is not None:
        session.out.error(f"database {name} is in the directory already; `tenantry databases set` changes it")
        raise typer.Exit(exits.FINDINGS)
    reference = _on_server(session, server) or reference_of("dsn", dsn_env, dsn_file)
    if reference is None:
        raise ConfigError(
            "pass --dsn-env VARIABLE, --dsn-file PATH or --server NAME: credentials are not stored, only named"
        )
    settings = _settings({}, reference_of("operator", operator_env, operator_file), max, idle)
    await _put(session, name, kind, reference, settings, "database.added")


@command(app, "set")
async def set_database(
    session: Session,
    name: NameArgument,
    kind: NewKindOption = None,
    dsn_env: EnvOption = None,
    dsn_file: FileOption = None,
    operator_env: OperatorEnvOption = None,
    operator_file: OperatorFileOption = None,
    server: ServerOption = None,
    max: MaxOption = None,
    idle: IdleOption = None,
) -> None:
    """Change what is given, leave the rest. The file wins over the directory for the databases that it names."""
    row = await _there(session, name)
    living = (await session.store.count_tenants()).get(name, 0)
    if kind is Kind.DEDICATED and row.kind is not kind and living > 1:
        raise exits.Refused(f"database {name} holds {living} tenants, so it can't become a dedicated one")
    settings = _settings(row.settings, reference_of("operator", operator_env, operator_file), max, idle)
    reference = _on_server(session, server) or reference_of("dsn", dsn_env, dsn_file) or row.dsn
    await _put(session, name, kind or row.kind, reference, settings, "database.changed")


@command(app, "remove")
async def remove_database(session: Session, name: NameArgument, yes: YesOption = False) -> None:
    """Take a database out of the directory. Nothing is dropped in it. Refused while tenants live there."""
    await _there(session, name)
    session.out.confirm(f"Take database {name} out of the directory?", yes=yes)
    try:
        await session.store.remove_database(name)
    except ValueError as error:
        raise exits.Refused(str(error)) from None
    await session.store.record("database.removed", session.actor, database=name)
    session.out.say(f"database {name} is out of the directory")
    if name in session.config.databases:
        session.out.warn(f"{session.path} still names it: `tenantry apply` brings it back")


def source_of(in_file: bool, in_directory: bool) -> str:
    """Who knows a database."""
    if in_file and in_directory:
        return "both"
    return "file" if in_file else "directory"


def address_of(dsn: str | None) -> str | None:
    """Host, port and database of a DSN, and nothing else of it."""
    if dsn is None:
        return None
    parts = urlsplit(dsn)
    return parts.netloc.rpartition("@")[2] + parts.path


def reference_of(what: str, variable: str | None, path: str | None) -> str | None:
    """ "env:NAME" or "file:PATH"; None when neither was given.

    Raises:
        ConfigError: both were given, or something that looks like a DSN.
    """
    if variable and path:
        raise ConfigError(f"pass --{what}-env or --{what}-file, not both")
    given = variable or path
    if given is None:
        return None
    if "://" in given or (variable and not variable.replace("_", "a").isalnum()):
        raise ConfigError(f"--{what}-env wants a variable's name, --{what}-file a path; never the DSN itself")
    return f"env:{variable}" if variable else f"file:{path}"


def _on_server(session: Session, server: str | None) -> str | None:
    """ "server:NAME"; None when no server was given."""
    if server is None:
        return None
    if server not in session.config.servers:
        known = ", ".join(session.config.servers) or "none"
        raise ConfigError(f"{session.path} has no server {server}; there are: {known}", key="--server")
    return f"server:{server}"


def _settings(before: dict[str, Any], operator: str | None, size: int | None, idle: str | None) -> dict[str, Any]:
    try:
        seconds = None if idle is None else duration(idle)
    except ValueError as error:
        raise ConfigError(str(error), key="--idle") from None
    given = {"max": size, "idle": seconds, "operator": operator}
    return {**before, **{key: value for key, value in given.items() if value is not None}}


async def _row(session: Session, name: str) -> DatabaseRow | None:
    rows = {row.name: row for row in await session.store.databases()}
    return rows.get(name)


async def _there(session: Session, name: str) -> DatabaseRow:
    row = await _row(session, name)
    if row is None:
        session.out.error(f"no database {name} in the directory; `tenantry databases list` shows them")
        raise typer.Exit(exits.FINDINGS)
    return row


async def _put(
    session: Session, name: str, kind: Kind, reference: str, settings: dict[str, Any], event: str
) -> None:
    await session.store.put_database(name, kind, reference, settings)
    detail = {"kind": kind.value, "dsn": reference, "settings": settings}
    await session.store.record(event, session.actor, database=name, detail=detail)
    session.out.facts({"name": name, **detail})
    if reference.startswith("server:"):
        session.out.say(f"`tenantry promote TENANT --to {name}` creates it, if it isn't there")
    elif reference != "config":
        try:
            read_reference(reference, database=name)
        except DsnUnreadable as error:
            session.out.warn(f"{error}; the routers' machines need it")


def register(root: typer.Typer) -> None:
    """Add `databases …`."""
    root.add_typer(app)
