"""`tenantry apply`: the file's databases, written to the directory."""

from __future__ import annotations

from typing import Annotated

import typer

from tenantry.cli import exit_codes
from tenantry.cli.command import command
from tenantry.cli.render import OutputColumn
from tenantry.cli.session import Session

COLUMNS = (
    OutputColumn("database"),
    OutputColumn("change"),
    OutputColumn("kind"),
    OutputColumn("dsn"),
    OutputColumn("settings"),
    OutputColumn("before"),
)
PlanOption = Annotated[bool, typer.Option("--plan", help="Only show what would change; exit 1 if anything would.")]


async def apply(session: Session, plan: PlanOption = False) -> None:
    """Write the file's databases to the directory, where routers and other processes find them.

    Databases that only the directory has are left alone: `tenantry databases remove` takes them out. Running it
    again changes nothing.
    """
    changes = await session.ops.apply(plan=plan)
    session.out.rows(COLUMNS, [change._asdict() for change in changes])
    pending = sum(change.pending for change in changes)
    if plan and pending:
        session.out.say(f"{pending} would change; `tenantry apply` does it")
        raise typer.Exit(exit_codes.FINDINGS)


def register(root: typer.Typer) -> None:
    """Add `apply`."""
    command(root, "apply")(apply)
