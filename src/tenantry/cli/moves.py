"""`tenantry promote`, `demote`, `move`, and `tenantry moves …`: carrying tenants between databases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from tenantry.cli import exits
from tenantry.cli.command import command, group
from tenantry.cli.options import TenantArgument, YesOption
from tenantry.cli.render import Column
from tenantry.cli.session import Session, operator_dsn
from tenantry.config import duration
from tenantry.errors import ConfigError
from tenantry.move import (
    CopyProgressed,
    Deleted,
    Endpoint,
    FenceTried,
    Following,
    MovePlan,
    Mover,
    MoveRecord,
    Progress,
    Retrying,
    StepStarted,
)
from tenantry.tenant import Kind

ToOption = Annotated[str, typer.Option("--to", help="The database to move to.")]
HomeOption = Annotated[
    str | None, typer.Option("--to", help="The shared database to move to.", show_default="the only one")
]
PlanOption = Annotated[bool, typer.Option("--plan", help="Only show what would be done, and what is in the way.")]
ConsentOption = Annotated[
    str | None,
    typer.Option(
        "--pause", help="Without logical replication: the pause that you agree to for the tenant, as 30s."
    ),
]
MoveArgument = Annotated[str, typer.Argument(help="The move's id.")]
OfOption = Annotated[str | None, typer.Option("--tenant", help="Only this tenant's.")]

COLUMNS = (
    Column("id", "MOVE"),
    Column("tenant"),
    Column("source", "FROM"),
    Column("target", "TO"),
    Column("state"),
    Column("step"),
    Column("created_at", "STARTED"),
    Column("error", "WHY IT STOPPED"),
)
FINDINGS = (Column("refuses", "STOPS IT"), Column("code"), Column("problem"), Column("mend"))
TABLES = (
    Column("table"),
    Column("column", "TENANT COLUMN"),
    Column("rows", right=True),
    Column("bytes", right=True),
    Column("format"),
)
LEFT = (Column("move"), Column("state"), Column("database"), Column("kind"), Column("name"))

app = group("moves", "The journal of moves.")


async def promote(
    session: Session,
    tenant: TenantArgument,
    to: ToOption,
    plan: PlanOption = False,
    pause: ConsentOption = None,
    yes: YesOption = False,
) -> None:
    """Move a tenant to a dedicated database while it works."""
    if (await session.database(to)).kind is not Kind.DEDICATED:
        raise ConfigError(f"{to} is not a dedicated database; `tenantry move` goes anywhere", key="--to")
    await _move(session, tenant, to, plan, pause, yes)


async def demote(
    session: Session,
    tenant: TenantArgument,
    to: HomeOption = None,
    plan: PlanOption = False,
    pause: ConsentOption = None,
    yes: YesOption = False,
) -> None:
    """Move a tenant back to a shared database while it works."""
    shared = [name for name, found in (await session.databases()).items() if found.kind is Kind.SHARED]
    if to is None:
        if len(shared) != 1:
            raise ConfigError(f"{len(shared)} shared databases: say which", key="--to")
        (to,) = shared
    if to not in shared:
        raise ConfigError(f"{to} is not a shared database; `tenantry move` goes anywhere", key="--to")
    await _move(session, tenant, to, plan, pause, yes)


async def move(
    session: Session,
    tenant: TenantArgument,
    to: ToOption,
    plan: PlanOption = False,
    pause: ConsentOption = None,
    yes: YesOption = False,
) -> None:
    """Move a tenant to any other database while it works."""
    await _move(session, tenant, to, plan, pause, yes)


@command(app, "list")
async def list_moves(session: Session, tenant: OfOption = None) -> None:
    """All moves, the newest first."""
    moves = await (await mover(session)).list(tenant)
    session.out.rows(COLUMNS, [_row(one) for one in moves], empty="no tenant was ever moved")


@command(app, "show")
async def show(session: Session, move: MoveArgument) -> None:
    """One move: where it stands and what it measured."""
    _summary(session, await (await mover(session)).show(move))


@command(app, "resume")
async def resume(session: Session, move: MoveArgument) -> None:
    """Go on with a move that was interrupted, whatever it was doing."""
    carrier = await mover(session)
    with _told(session, "resuming") as tell:
        record = await carrier.resume(move, tell)
    _summary(session, record)


@command(app, "abort")
async def abort(session: Session, move: MoveArgument, yes: YesOption = False) -> None:
    """Give a move up before its flip, and take away what it made. After the flip: roll it back."""
    carrier = await mover(session)
    record = await carrier.show(move)
    session.out.confirm(f"Give up moving tenant {record.tenant} to {record.target}?", yes=yes)
    with _told(session, "aborting") as tell:
        record = await carrier.abort(move, tell)
    _summary(session, record)
    if record.state.value == "flipped":
        session.out.say(f"the flip came first; `tenantry moves rollback {move}` takes the tenant back")
        raise typer.Exit(exits.FINDINGS)


@command(app, "rollback")
async def rollback(session: Session, move: MoveArgument, yes: YesOption = False) -> None:
    """Take the tenant back to its old home, with everything it wrote since."""
    carrier = await mover(session)
    record = await carrier.show(move)
    session.out.confirm(f"Take tenant {record.tenant} back to {record.source}?", yes=yes)
    with _told(session, "rolling back") as tell:
        record = await carrier.rollback(move, tell)
    _summary(session, record)


@command(app, "release")
async def release(session: Session, move: MoveArgument, yes: YesOption = False) -> None:
    """Give the way back up, and delete the tenant's rows at its old home."""
    carrier = await mover(session)
    record = await carrier.show(move)
    session.out.confirm(
        f"Delete the rows of tenant {record.tenant} in {record.source}? There is no rollback after that.", yes=yes
    )
    with _told(session, "releasing") as tell:
        record = await carrier.release(move, tell)
    _summary(session, record)


@command(app, "leftovers")
async def leftovers(session: Session) -> None:
    """What moves have left in databases and no mover is at work on."""
    left = await (await mover(session)).leftovers()
    if session.out.rows(LEFT, [_leftover(one) for one in left], empty="nothing is left"):
        raise typer.Exit(exits.FINDINGS)


def register(root: typer.Typer) -> None:
    """Add the commands."""
    for name, work in (("promote", promote), ("demote", demote), ("move", move)):
        command(root, name)(work)
    root.add_typer(app)


async def mover(session: Session) -> Mover:
    """The mover for the configured databases. Those without an operator's role can't take part."""
    endpoints = {}
    for name, database in (await session.databases()).items():
        try:
            endpoints[name] = Endpoint(name, database.kind, operator_dsn(database))
        except ConfigError as error:
            session.out.say(str(error))
    tenancy = session.config.tenancy
    return Mover(session.config.control.listen_dsn, endpoints, column=tenancy.column, tables=tenancy.tables)


async def _move(session: Session, tenant: str, to: str, only_plan: bool, pause: str | None, yes: bool) -> None:
    carrier = await mover(session)
    text = str(session.config.tenancy.type.parse(tenant))
    consent = None if pause is None else duration(pause)
    plan = await carrier.plan(text, to, consent=consent)
    if only_plan or plan.refusals:
        _show_plan(session, plan)
        if plan.refusals:
            session.out.error(f"moving tenant {text} to {to} is refused; nothing was touched")
            raise typer.Exit(exits.REFUSED)
        return
    session.out.confirm(
        f"Move tenant {text} from {plan.source} to {to} (about {plan.rows} rows, {plan.bytes} bytes; "
        f"it pauses for at most {plan.pause:g} s)?",
        yes=yes,
    )
    with _told(session, f"moving to {to}") as tell:
        record = await carrier.run(plan, tell)
    _summary(session, record)
    session.out.say(
        f"the way back is open: `tenantry moves rollback {record.id}` takes the tenant back, "
        f"`tenantry moves release {record.id}` deletes the old rows"
    )


def _show_plan(session: Session, plan: MovePlan) -> None:
    tables = [
        {
            "table": table.quoted,
            "column": table.column or None,
            "rows": table.rows,
            "bytes": table.bytes,
            "format": "binary" if table.binary else "text",
        }
        for table in (*plan.tables, *plan.references)
    ]
    findings = [finding._asdict() for finding in plan.findings]
    facts = {
        "tenant": plan.tenant,
        "from": plan.source,
        "to": plan.target,
        "mechanism": plan.mechanism.value,
        "rows": plan.rows,
        "bytes": plan.bytes,
        "pause_at_most_seconds": plan.pause,
        "schema": "loaded by pg_dump" if plan.load_schema else "there already",
    }
    if session.out.as_json:
        session.out.tree({**facts, "tables": tables, "findings": findings})
        return
    session.out.facts(facts)
    session.out.rows(TABLES, tables)
    if findings:
        session.out.rows(FINDINGS, findings)


@contextmanager
def _told(session: Session, what: str) -> Iterator[Any]:
    """Progress for people (a line of what is going on) or, with --json, an event a line."""
    if session.out.as_json:
        yield lambda event: session.out.text(json.dumps({"event": type(event).__name__, **event._asdict()}))
        return
    with session.out.progress(what) as step:

        def tell(event: Progress) -> None:
            if line := _line(event):
                step(what=line)
            if isinstance(event, StepStarted):
                step(1)
            elif isinstance(event, FenceTried | Retrying):
                session.out.say(_line(event) or "")

        yield tell


def _line(event: Progress) -> str | None:
    """What is going on, in a few words."""
    match event:
        case StepStarted(_, step):
            return step
        case CopyProgressed(_, table, done, expected, rows, seconds):
            rate = done / seconds / 1e6 if seconds else 0.0
            part = f"{rows} rows" if rows is not None else f"{done / 1e6:.1f} of about {expected / 1e6:.1f} MB"
            return f"copy {table}: {part}, {rate:.1f} MB/s"
        case Following(_, lag, latency):
            probe = "" if latency is None else f", probe {latency * 1000:.0f} ms"
            return f"follow: {lag} bytes behind{probe}"
        case FenceTried(_, attempt, True, pause, _):
            return f"fence {attempt}: flipped, the tenant paused for {pause * 1000:.0f} ms"
        case FenceTried(_, attempt, False, pause, why):
            return f"fence {attempt}: missed after {pause * 1000:.0f} ms: {why}"
        case Deleted(_, table, rows):
            return f"delete {table}: {rows} rows"
        case Retrying(_, step, error, wait):
            return f"{step}: {error}; again in {wait:g} s"
    return None


def _row(record: MoveRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "tenant": record.tenant,
        "source": record.source,
        "target": record.target,
        "state": record.state.value,
        "step": record.step,
        "created_at": record.created_at,
        "error": record.error,
    }


def _summary(session: Session, record: MoveRecord) -> None:
    """What one can paste into a ticket."""
    session.out.facts({**_row(record), "flipped_at": record.flipped_at, **record.result})


def _leftover(left: Any) -> dict[str, Any]:
    return {
        "move": left.move,
        "state": left.state.value,
        "database": left.database,
        "kind": left.kind,
        "name": left.name,
    }
