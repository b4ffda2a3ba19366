"""`tenantry promote`, `demote`, `move`, and `tenantry moves …`: carrying tenants between databases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer

from tenantry.cli import exit_codes, summary
from tenantry.cli.command import MEANS_TENANT, command, group
from tenantry.cli.options import TenantArgument, YesOption, seconds_of
from tenantry.cli.plan_estimates import plan_estimates
from tenantry.cli.render import OutputColumn
from tenantry.cli.run_move import run_move
from tenantry.cli.session import Session
from tenantry.config import size
from tenantry.errors import ConfigError
from tenantry.move import Interrupt, Limits, MovePlan, State
from tenantry.move.errors import in_words

DEFAULT_JOBS: Final = Limits().jobs
ToOption = Annotated[str, typer.Option("--to", help="The database to move to.")]
HomeOption = Annotated[
    str | None, typer.Option("--to", help="The shared database to move to.", show_default="the only one")
]
PlanOption = Annotated[bool, typer.Option("--plan", help="Only show what would be done, and what is in the way.")]
ConsentOption = Annotated[
    str | None,
    typer.Option(
        "--pause", help="Copy under the fence, without logical replication: the pause that you agree to, as 30s."
    ),
]
RateOption = Annotated[
    str | None,
    typer.Option("--rate", help="Copy at most so many bytes a second, as 20MB.", show_default="no limit"),
]
JobsOption = Annotated[int, typer.Option("--jobs", min=1, max=32, help="Tables copied at once.")]
MoveArgument = Annotated[str, typer.Argument(help="The move's id.")]
OfOption = Annotated[str | None, typer.Option("--tenant", help="Only this tenant's."), MEANS_TENANT]

COLUMNS = (
    OutputColumn("id", "MOVE", whole=True),
    OutputColumn("tenant", whole=True),
    OutputColumn("source", "FROM"),
    OutputColumn("target", "TO"),
    OutputColumn("state", text=in_words),
    OutputColumn("step"),
    OutputColumn("created_at", "STARTED"),
    OutputColumn("error", "WHY IT STOPPED"),
)
FINDINGS = (
    OutputColumn("refuses", "STOPS IT"),
    OutputColumn("code"),
    OutputColumn("problem"),
    OutputColumn("fix"),
)
TABLES = (
    OutputColumn("table"),
    OutputColumn("column", "TENANT COLUMN"),
    OutputColumn("rows", right=True),
    OutputColumn("bytes", right=True),
    OutputColumn("format"),
)
#: Bytes a second, below which a copy would look as if it stood still.
_SLOWEST: Final = size("100kB")
LEFT = (
    OutputColumn("move", whole=True),
    OutputColumn("state", text=in_words),
    OutputColumn("database"),
    OutputColumn("kind"),
    OutputColumn("name"),
)


@dataclass(frozen=True, slots=True)
class MoveFlags:
    """What `promote`, `demote` and `move` can be told."""

    plan: PlanOption = False
    pause: ConsentOption = None
    rate: RateOption = None
    jobs: JobsOption = DEFAULT_JOBS
    yes: YesOption = False


app = group("moves", "The journal of moves.")


async def promote(session: Session, tenant: TenantArgument, to: ToOption, how: MoveFlags) -> None:
    """Move a tenant to a dedicated database while it works."""
    await session.ops.moves.check_promotion(to)
    await move_tenant(session, tenant, to, how)


async def demote(session: Session, tenant: TenantArgument, how: MoveFlags, to: HomeOption = None) -> None:
    """Move a tenant back to a shared database while it works."""
    await move_tenant(session, tenant, await session.ops.moves.shared_home(to), how)


async def move(session: Session, tenant: TenantArgument, to: ToOption, how: MoveFlags) -> None:
    """Move a tenant to any other database while it works."""
    await move_tenant(session, tenant, to, how)


@command(app, "list")
async def list_moves(session: Session, tenant: OfOption = None) -> None:
    """All moves, the newest first."""
    moves = await session.ops.moves.list(tenant)
    empty = "no tenant was ever moved" if tenant is None else f"tenant {tenant} was never moved"
    session.out.rows(COLUMNS, [summary.row(one) for one in moves], empty=empty)


@command(app, "show")
async def show(session: Session, move: MoveArgument) -> None:
    """One move: where it stands and what it measured."""
    summary.show(session.out, await session.ops.moves.show(move))


@command(app, "resume")
async def resume(
    session: Session, move: MoveArgument, rate: RateOption = None, jobs: JobsOption = DEFAULT_JOBS
) -> None:
    """Go on with a move that was interrupted, whatever it was doing."""
    interrupt = Interrupt()
    moves, limits = session.ops.moves, _limits(rate, jobs)
    record = await moves.show(move)
    await run_move(
        session,
        record.plan,
        interrupt,
        lambda tell: moves.resume(move, limits=limits, progress=tell, interrupt=interrupt),
    )


@command(app, "abort")
async def abort(session: Session, move: MoveArgument, yes: YesOption = False) -> None:
    """Give a move up before its flip, and take away what it made. After the flip: roll it back.

    Of a move that went back because its audit found differences, delete the rows that were kept at the target.
    """
    interrupt = Interrupt()
    moves = session.ops.moves
    record = await moves.show(move)
    question = f"Give up moving tenant {record.tenant} to {record.target}?"
    if record.state is State.ROLLED_BACK:
        question = (
            f"Delete the rows of tenant {record.tenant} that are left in {record.target}? "
            f"Where they differ from those in {record.source}, they may be the right ones."
        )
    session.out.confirm(question, yes=yes)
    record = await run_move(
        session, record.plan, interrupt, lambda tell: moves.abort(move, progress=tell, interrupt=interrupt)
    )
    if record.state is State.FLIPPED:
        session.out.say(f"the flip came first; `tenantry moves rollback {move}` takes the tenant back")
        raise typer.Exit(exit_codes.FINDINGS)


@command(app, "rollback")
async def rollback(session: Session, move: MoveArgument, yes: YesOption = False) -> None:
    """Take the tenant back to its old home, with everything it wrote since."""
    interrupt = Interrupt()
    moves = session.ops.moves
    record = await moves.show(move)
    session.out.confirm(f"Take tenant {record.tenant} back to {record.source}?", yes=yes)
    await run_move(
        session, record.plan, interrupt, lambda tell: moves.rollback(move, progress=tell, interrupt=interrupt)
    )


@command(app, "release")
async def release(session: Session, move: MoveArgument, yes: YesOption = False) -> None:
    """Give the way back up, and delete the tenant's rows at its old home."""
    interrupt = Interrupt()
    moves = session.ops.moves
    record = await moves.show(move)
    session.out.confirm(
        f"Delete the rows of tenant {record.tenant} in {record.source}? There is no rollback after that.", yes=yes
    )
    await run_move(
        session, record.plan, interrupt, lambda tell: moves.release(move, progress=tell, interrupt=interrupt)
    )


@command(app, "leftovers")
async def leftovers(session: Session) -> None:
    """What moves have left in databases and no mover is at work on."""
    left = await session.ops.moves.leftovers()
    if session.out.rows(LEFT, [_leftover(one) for one in left], empty="nothing is left"):
        raise typer.Exit(exit_codes.FINDINGS)


def register(root: typer.Typer) -> None:
    """Add the commands."""
    for name, work in (("promote", promote), ("demote", demote), ("move", move)):
        command(root, name)(work)
    root.add_typer(app)


async def move_tenant(session: Session, tenant: str, to: str, how: MoveFlags) -> None:
    """Plan a move, ask, and run it in sight of the user; or only show the plan."""
    interrupt, moves, limits = Interrupt(), session.ops.moves, _limits(how.rate, how.jobs)
    plan = await moves.plan(tenant, to, consent=seconds_of(how.pause, "--pause"), limits=limits)
    if not how.plan:
        await moves.check_not_moving(plan)  # then the answer is "no", not that preflight refuses
    if how.plan or plan.refusals:
        with session.out.unless_unread():
            _show_plan(session, plan)
        if plan.refusals:
            session.out.error(f"moving tenant {plan.tenant} to {to} is refused; nothing was touched")
            raise typer.Exit(exit_codes.REFUSED)
        return
    for finding in plan.findings:
        session.out.warn(f"{finding.problem} ({finding.code}); {finding.fix}")
    session.out.confirm(
        f"Move tenant {plan.tenant} from {plan.source} to {to} (about {plan.rows} rows, {plan.bytes} bytes; "
        f"it pauses for at most {plan.pause:g} s)?",
        yes=how.yes,
    )
    await run_move(
        session,
        plan,
        interrupt,
        lambda tell: moves.run(plan, limits=limits, progress=tell, interrupt=interrupt),
    )


def _limits(rate: str | None, jobs: int) -> Limits:
    return Limits(jobs=jobs, copy_rate=None if rate is None else _rate(rate))


def _rate(text: str) -> int:
    """Bytes a second, written as sizes are written in the file."""
    try:
        rate = size(int(text) if text.strip().isdigit() else text)
    except ValueError as error:
        raise ConfigError(str(error), key="--rate") from None
    if rate < _SLOWEST:
        raise ConfigError(
            f"{text} is below 100kB a second: the copy would look as if it stood still", key="--rate"
        )
    return rate


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
        **plan_estimates(plan, as_json=session.out.as_json),
    }
    if session.out.as_json:
        session.out.tree({**facts, "tables": tables, "findings": findings})
        return
    session.out.facts(facts)
    session.out.rows(TABLES, tables)
    if findings:
        session.out.rows(FINDINGS, findings)


def _leftover(left: Any) -> dict[str, Any]:
    return {
        "move": left.move,
        "state": left.state.value,
        "database": left.database,
        "kind": left.kind,
        "name": left.name,
    }
