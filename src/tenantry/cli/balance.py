"""`tenantry balance`: the tenants that shared databases should exchange, shown or moved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer

from tenantry.cli.command import command
from tenantry.cli.format import share
from tenantry.cli.moves import MoveFlags, move_tenant
from tenantry.cli.options import YesOption
from tenantry.cli.render import OutputColumn
from tenantry.cli.session import Session
from tenantry.promotion.balance import Balance

LOADS: Final = (
    OutputColumn("database"),
    OutputColumn("load", "LOAD / FAIR PART", right=True),
    OutputColumn("state"),
)
MOVES: Final = (
    OutputColumn("tenant", whole=True),
    OutputColumn("source", "FROM"),
    OutputColumn("target", "TO"),
    OutputColumn("share", "OF ITS LOAD", right=True, text=share),
    OutputColumn("source_before", "FROM BEFORE", right=True),
    OutputColumn("source_after", "AFTER", right=True),
    OutputColumn("target_before", "TO BEFORE", right=True),
    OutputColumn("target_after", "AFTER", right=True),
)
PlanOption = Annotated[bool, typer.Option("--plan", help="Only say what would be moved.")]


async def balance(session: Session, plan: PlanOption = False, yes: YesOption = False) -> None:
    """Move tenants so that no shared database carries much more than its part, as few as will do.

    At most one move for each database, one after the other, each as `tenantry move` would do it.
    """
    proposed = await session.ops.balance()
    told = as_json(proposed)
    if not session.out.as_json:
        _show(session, proposed, told)
    elif plan:
        session.out.tree(told)
    if plan or not proposed.moves:
        return
    session.out.confirm(f"Move {len(proposed.moves)} tenants, one after the other?", yes=yes)
    for number, one in enumerate(proposed.moves, 1):
        session.out.say(f"{number} of {len(proposed.moves)}: tenant {one.tenant} to {one.target}")
        now = await session.ops.tenants.get(one.tenant)
        if now.database != one.source:  # somebody has moved it meanwhile, to where this would fetch it back from
            session.out.say(f"tenant {one.tenant} lives in {now.database} by now: it stays there")
            continue
        await move_tenant(session, one.tenant, one.target, MoveFlags(yes=True))


def as_json(proposed: Balance) -> dict[str, Any]:
    """`loads`, `moves`, `over` and `unknown`, as `--json` has them."""
    return {
        "loads": dict(proposed.loads),
        "moves": [
            {
                "tenant": one.tenant,
                "source": one.source,
                "target": one.target,
                "share": one.share,
                "source_before": one.source_load[0],
                "source_after": one.source_load[1],
                "target_before": one.target_load[0],
                "target_after": one.target_load[1],
            }
            for one in proposed.moves
        ],
        "over": [one._asdict() for one in proposed.over],
        "unknown": [day.isoformat() for day in proposed.unknown],
    }


def _show(session: Session, proposed: Balance, told: Mapping[str, Any]) -> None:
    leaving = {one.source for one in proposed.moves} | {one.database for one in proposed.over}
    rows = [
        {"database": name, "load": round(load, 2), "state": "over" if name in leaving else "ok"}
        for name, load in sorted(proposed.loads.items(), key=lambda item: (-item[1], item[0]))
    ]
    session.out.rows(LOADS, rows, empty=_nothing(proposed))
    for one in proposed.over:
        session.out.say(f"{one.database}: {one.why}")
    if proposed.moves:
        session.out.rows(
            MOVES,
            [
                {name: round(value, 2) if isinstance(value, float) else value for name, value in move.items()}
                for move in told["moves"]
            ],
        )


def _nothing(proposed: Balance) -> str:
    if proposed.unknown:
        days = ", ".join(day.isoformat() for day in proposed.unknown)
        return f"too little is known of {days}, so nobody is moved; `tenantry usage` tells what is missing"
    return "there is nothing to balance: fewer than two shared databases, or hardly any load"


def register(root: typer.Typer) -> None:
    """Add the command."""
    command(root, "balance")(balance)
