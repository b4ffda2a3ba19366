"""`tenantry databases …`: the directory's databases. Credentials are named there, never stored."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

import typer

from tenantry.cli.command import command, group
from tenantry.cli.options import RegionOption, TierOption, YesOption, seconds_of
from tenantry.cli.render import OutputColumn
from tenantry.cli.session import Session
from tenantry.config import resolve
from tenantry.directory import DatabaseRow
from tenantry.errors import ConfigError
from tenantry.ids import Kind

COLUMNS = (
    OutputColumn("name"),
    OutputColumn("kind"),
    OutputColumn("dsn", "DSN FROM"),
    OutputColumn("source"),
    OutputColumn("tenants", right=True),
    OutputColumn("max", "POOL MAX", right=True),
    OutputColumn("region"),
    OutputColumn("tier"),
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

CapacityOption = Annotated[
    int | None,
    typer.Option("--capacity", min=0, help="Of a shared one: tenants that it may have; 0: any number."),
]
AcceptsOption = Annotated[
    bool | None,
    typer.Option(
        "--accepts/--no-accepts", help="Of a shared one: whether sign-ups without a database may choose it."
    ),
]

app = group("databases", "The databases of the directory.")


@command(app, "list")
async def list_databases(session: Session) -> None:
    """Every database, of the directory and of the file."""
    rows = [
        {
            "name": found.database.name,
            "kind": found.database.kind,
            "dsn": found.database.reference,
            "source": found.source,
            "tenants": found.tenants,
            "max": found.database.pool.max,
            **found.database.site.residence._asdict(),
        }
        for found in await session.ops.databases.list()
    ]
    session.out.rows(COLUMNS, rows, empty="no databases; `tenantry apply` writes the file's to the directory")


@command(app, "show")
async def show_database(session: Session, name: NameArgument) -> None:
    """One database: where its credentials come from, and who lives there."""
    database, source, tenants = await session.ops.databases.show(name)
    facts = {
        "name": name,
        "kind": database.kind,
        "dsn": database.reference,
        "address": address_of(database.dsn),
        "source": source,
        "tenants": tenants,
        "max": database.pool.max,
        "idle": database.pool.idle,
        "operator": (database.operator_dsn or database.direct_dsn) is not None,
        "direct": database.direct_dsn is not None,
        "tenant": database.tenant,
        **database.site.residence._asdict(),
        "capacity": database.site.capacity,
        "accepts": database.site.accepts,
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
    region: RegionOption = None,
    tier: TierOption = None,
    capacity: CapacityOption = None,
    accepts: AcceptsOption = None,
) -> None:
    """Add a database to the directory, by a reference to its credentials."""
    reference = _on_server(server) or reference_of("dsn", dsn_env, dsn_file)
    if reference is None:
        raise ConfigError(
            "pass --dsn-env VARIABLE, --dsn-file PATH or --server NAME: credentials are not stored, only named"
        )
    operator = reference_of("operator", operator_env, operator_file)
    seconds = seconds_of(idle, "--idle")
    database = await session.ops.databases.add(
        name,
        kind,
        reference,
        operator=operator,
        max=max,
        idle=seconds,
        region=region,
        tier=tier,
        capacity=capacity,
        accepts=accepts,
    )
    _tell(session, database)


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
    region: RegionOption = None,
    tier: TierOption = None,
    capacity: CapacityOption = None,
    accepts: AcceptsOption = None,
) -> None:
    """Change what is given, leave the rest. The file wins over the directory for the databases that it names."""
    database = await session.ops.databases.set(
        name,
        kind=kind,
        dsn=_on_server(server) or reference_of("dsn", dsn_env, dsn_file),
        operator=reference_of("operator", operator_env, operator_file),
        max=max,
        idle=seconds_of(idle, "--idle"),
        region=region,
        tier=tier,
        capacity=capacity,
        accepts=accepts,
    )
    _tell(session, database)


@command(app, "remove")
async def remove_database(session: Session, name: NameArgument, yes: YesOption = False) -> None:
    """Take a database out of the directory. Nothing is dropped in it. Refused while tenants live there."""
    await session.ops.databases.show(name)
    session.out.confirm(f"Take database {name} out of the directory?", yes=yes)
    await session.ops.databases.remove(name)
    session.out.say(f"database {name} is out of the directory")
    if name in session.config.databases:
        session.out.warn(f"{session.path} still names it: `tenantry apply` brings it back")


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


def _on_server(server: str | None) -> str | None:
    """ "server:NAME"; None when no server was given."""
    return None if server is None else f"server:{server}"


def _tell(session: Session, database: DatabaseRow) -> None:
    session.out.facts(
        {"name": database.name, "kind": database.kind, "dsn": database.dsn, "settings": database.settings}
    )
    if database.dsn.startswith("server:"):
        session.out.say(f"`tenantry promote TENANT --to {database.name}` creates it, if it isn't there")
    for error in resolve(session.config, database).unreadable.values():
        session.out.warn(f"{error}; the routers' machines need it")


def register(root: typer.Typer) -> None:
    """Add `databases …`."""
    root.add_typer(app)
