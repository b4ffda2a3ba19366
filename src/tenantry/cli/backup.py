"""`tenantry backup`: the backups that are due, for cron and timers."""

from __future__ import annotations

from typing import Annotated

import typer

from tenantry.cli import exit_codes
from tenantry.cli.command import command
from tenantry.cli.render import OutputColumn
from tenantry.cli.session import Session

COLUMNS = (OutputColumn("database"), OutputColumn("exit", right=True), OutputColumn("seconds", right=True))
DatabasesArgument = Annotated[
    list[str] | None, typer.Argument(help="Back these up now, due or not.", show_default="what is due")
]
PlanOption = Annotated[bool, typer.Option("--plan", help="Only say what is due; exit 1 if anything is.")]


async def backup(session: Session, databases: DatabasesArgument = None, plan: PlanOption = False) -> None:
    """Run the configured command of every database whose last backup is older than its policy allows.

    One after the other. A backup that another process is making is left to it, so timers of several machines may
    overlap. Exit 1 if a command failed: it is tried again by the next run.
    """
    if plan:
        due = await session.ops.backups.due()
        session.out.rows(COLUMNS[:1], [{"database": name} for name in due], empty="nothing is due")
        if due:
            raise typer.Exit(exit_codes.FINDINGS)
        return
    done = [one async for one in session.ops.backups.run(databases or None)]
    session.out.rows(COLUMNS, [one._asdict() for one in done], empty="nothing was due")
    if any(one.exit for one in done):
        raise typer.Exit(exit_codes.FINDINGS)


def register(root: typer.Typer) -> None:
    """Add `backup`."""
    command(root, "backup")(backup)
