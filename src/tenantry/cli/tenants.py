"""`tenantry tenants …`: the directory's tenants."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict

import typer

from tenantry.cli import exit_codes
from tenantry.cli.command import command, group
from tenantry.cli.options import (
    DatabaseOption,
    NewTenantArgument,
    ReasonOption,
    RegionOption,
    TenantArgument,
    TierOption,
    YesOption,
)
from tenantry.cli.render import OutputColumn
from tenantry.cli.session import Session
from tenantry.config import duration
from tenantry.directory import TenantRow
from tenantry.directory.placements import Placed
from tenantry.errors import ConfigError
from tenantry.residence import mismatches

COLUMNS = (
    OutputColumn("id", "TENANT", whole=True),
    OutputColumn("name"),
    OutputColumn("database"),
    OutputColumn("kind"),
    OutputColumn("epoch", right=True),
    OutputColumn("state"),
    OutputColumn("plan"),
    OutputColumn("weight", right=True),
    OutputColumn("limits"),
    OutputColumn("region"),
    OutputColumn("tier"),
)
HomeOption = Annotated[
    str | None,
    typer.Option("--database", "-d", help="Where it shall live.", show_default="tenancy.default_database"),
]
NameOption = Annotated[
    str | None,
    typer.Option("--name", help="What people call it; commands take it for the id.", show_default=False),
]
PlanOption = Annotated[str | None, typer.Option("--plan", help="A word of the product's own.")]
WeightOption = Annotated[
    float | None,
    typer.Option(
        "--weight", min=0.01, max=100, help="Its part of a busy pool, relative to others; new ones have 1."
    ),
]
ConnectionsOption = Annotated[
    int | None, typer.Option("--connections", min=0, help="Connections of a pool at most; 0: no limit of its own.")
]
QueueOption = Annotated[
    int | None, typer.Option("--queue", min=0, help="Waiting checkouts at most; 0: router.queue.")
]
TimeoutOption = Annotated[
    str | None,
    typer.Option(
        "--statement-timeout", help="One statement may run so long: 5s, 500ms; 0: the database's setting."
    ),
]
StateOption = Annotated[str | None, typer.Option("--state", help="Only these: active or suspended.")]
FromOption = Annotated[
    str | None,
    typer.Option(
        "--from",
        envvar="TENANTRY_TENANTS_IMPORT_FROM",
        help="Read the ids from this column of the database: schema.table.column.",
    ),
]
InOption = Annotated[
    Path | None,
    typer.Option("--file", help="Read the ids from this file, an id a line or CSV; - reads standard input."),
]
CsvOption = Annotated[
    str | None, typer.Option("--column", help="The file is CSV with a header: the column with the ids.")
]
RestoreOption = Annotated[bool, typer.Option("--restore", help="Bring it back if it was removed, where it lived.")]
BatchOption = Annotated[int, typer.Option("--batch", min=1, max=50_000, help="Ids written at once.")]


@dataclass(frozen=True, slots=True)
class TermsFlags:
    """What `add` and `set` can say of a tenant; None: nothing."""

    plan: PlanOption = None
    weight: WeightOption = None
    connections: ConnectionsOption = None
    queue: QueueOption = None
    statement_timeout: TimeoutOption = None
    region: RegionOption = None
    tier: TierOption = None

    def limits(self) -> dict[str, int]:
        """The limits that were given; 0 takes one away.

        Raises:
            ConfigError: the timeout is no duration.
        """
        milliseconds: int | None = None
        if self.statement_timeout is not None:
            try:
                zero = self.statement_timeout.strip("0smhd") == ""
                milliseconds = 0 if zero else max(1, round(duration(_number(self.statement_timeout)) * 1000))
            except ValueError as error:
                raise ConfigError(str(error), key="--statement-timeout") from None
        given = {"connections": self.connections, "queue": self.queue, "statement_timeout": milliseconds}
        return {name: value for name, value in given.items() if value is not None}


class ImportFlags(TypedDict):
    """What `import` can say of the tenants that are new; None: nothing."""

    database: str | None
    plan: str | None
    region: str | None
    tier: str | None


app = group("tenants", "The tenants of the directory.")


@command(app, "list")
async def list_tenants(
    session: Session, database: DatabaseOption = None, state: StateOption = None, plan: PlanOption = None
) -> None:
    """Every tenant, in the order of the ids."""
    if state not in (None, "active", "suspended"):
        raise ConfigError("must be active or suspended", key="--state")
    rows = session.ops.tenants.list(database=database, state=state, plan=plan)
    await session.out.stream(COLUMNS, (row_of(row) async for row in rows), empty="no tenants")


@command(app, "show")
async def show_tenant(session: Session, tenant: TenantArgument) -> None:
    """One tenant: where it lives, on what terms, and what its database says of it."""
    found = await session.ops.tenants.show(tenant)
    there = {"unknown": found.unknown} if found.unknown else dict.fromkeys(Placed._fields)
    seen = there if found.in_database is None else found.in_database._asdict()
    titles = {"id": "tenant", "in_database": "its database says"}
    session.out.facts({**row_of(found.row), "in_database": seen}, titles=titles)


@command(app, "add")
async def add_tenant(
    session: Session,
    tenant: NewTenantArgument,
    terms: TermsFlags,
    database: HomeOption = None,
    name: NameOption = None,
    restore: RestoreOption = False,
) -> None:
    """Sign a tenant up: it can be served when this returns. Adding it again changes nothing."""
    limits = {k: v for k, v in terms.limits().items() if v}
    row, new = await session.ops.tenants.add(
        tenant,
        database=database,
        plan=terms.plan,
        weight=terms.weight,
        limits=limits,
        name=name,
        region=terms.region,
        tier=terms.tier,
        restore=restore,
    )
    session.out.facts(row_of(row), titles={"id": "tenant"})
    session.out.say(f"tenant {row.id} lives in {row.database}" if new else f"tenant {row.id} was there already")


@command(app, "set")
async def set_tenant(session: Session, tenant: TenantArgument, terms: TermsFlags, name: NameOption = None) -> None:
    """Change the terms that are given, leave the rest. Routers follow within milliseconds."""
    row = await session.ops.tenants.set(
        tenant,
        plan=terms.plan,
        weight=terms.weight,
        limits=terms.limits(),
        name=name,
        region=terms.region,
        tier=terms.tier,
    )
    session.out.facts(row_of(row), titles={"id": "tenant"})
    if terms.region or terms.tier:
        home = (await session.ops.databases.show(row.database)).database
        for one in mismatches(row.residence, home.site.residence):
            session.out.warn(f"it lives in {row.database}, where it may not any more ({one}): `tenantry move` it")


@command(app, "suspend")
async def suspend_tenant(
    session: Session, tenant: TenantArgument, reason: ReasonOption = None, yes: YesOption = False
) -> None:
    """Shut a tenant out: its requests fail with TenantSuspended, its data stay."""
    row = await session.ops.tenants.get(tenant)
    session.out.confirm(f"Suspend tenant {row.id} on {row.database}? Its requests will fail.", yes=yes)
    await session.ops.tenants.suspend(row.id, reason=reason)
    session.out.say(f"tenant {row.id} is suspended; `tenantry tenants resume {row.id}` lets it in again")


@command(app, "resume")
async def resume_tenant(session: Session, tenant: TenantArgument, reason: ReasonOption = None) -> None:
    """Let a suspended tenant in again."""
    row = await session.ops.tenants.resume(tenant, reason=reason)
    session.out.say(f"tenant {row.id} is active")


@command(app, "remove")
async def remove_tenant(
    session: Session, tenant: TenantArgument, reason: ReasonOption = None, yes: YesOption = False
) -> None:
    """Take a tenant out of the directory and shut it out of its database. Its rows are not deleted."""
    row = await session.ops.tenants.get(tenant)
    session.out.confirm(f"Remove tenant {row.id}, which lives in {row.database}?", yes=yes)
    await session.ops.tenants.remove(row.id, reason=reason)
    session.out.say(f"tenant {row.id} is removed; its rows in {row.database} are still there")


@command(app, "import")
async def import_tenants(
    session: Session,
    source: FromOption = None,
    file: InOption = None,
    column: CsvOption = None,
    database: HomeOption = None,
    plan: PlanOption = None,
    region: RegionOption = None,
    tier: TierOption = None,
    batch: BatchOption = 5000,
) -> None:
    """Adopt the ids of an existing table or file: they live in the database from now on. Repeatable."""
    if (source is None) == (file is None):
        raise ConfigError("pass --from schema.table.column, or --file PATH")
    tenants, terms = session.ops.tenants, ImportFlags(database=database, plan=plan, region=region, tier=tier)
    with session.out.progress("importing") as step:
        if source is not None:
            found = await tenants.import_table(source, batch=batch, progress=step, **terms)
        else:
            assert file is not None  # one of the two was given
            found = await tenants.import_file(file, column=column, batch=batch, progress=step, **terms)
    session.out.facts(found._asdict())
    if found.elsewhere or found.removed:
        session.out.say("those that live elsewhere or were removed have been left alone")
    if not found.ids:
        session.out.error("no ids were found, so nothing was imported")
        raise typer.Exit(exit_codes.FINDINGS)


def row_of(row: TenantRow) -> dict[str, Any]:
    """A row of the directory with the columns' keys."""
    found = row._asdict()
    del found["changed"]
    return found


def _number(text: str) -> str:
    """A bare number means seconds, as in the file."""
    return f"{text}s" if text.replace(".", "", 1).isdigit() else text


def register(root: typer.Typer) -> None:
    """Add `tenants …`."""
    root.add_typer(app)
