"""`tenantry placements …`: where tenants live, against what is said of regions, tiers and capacities."""

from __future__ import annotations

from typing import Annotated

import typer

from tenantry.cli import exit_codes
from tenantry.cli.command import command, group
from tenantry.cli.render import OutputColumn
from tenantry.cli.session import Session

FINDINGS = (
    OutputColumn("database"),
    OutputColumn("rule"),
    OutputColumn("wanted"),
    OutputColumn("tenants", right=True),
    OutputColumn("named", text=lambda ids: ", ".join(ids) or "-"),
    OutputColumn("problem"),
    OutputColumn("fix"),
)
TENANTS = (
    OutputColumn("tenant", whole=True),
    OutputColumn("database"),
    OutputColumn("region"),
    OutputColumn("tier"),
    OutputColumn("problem"),
)
TenantsOption = Annotated[
    bool, typer.Option("--tenants", help="List every tenant that may not live where it does, for scripts.")
]

app = group("placements", "Where tenants live, against what is said of regions, tiers and capacities.")


@command(app, "check")
async def check_placements(session: Session, tenants: TenantsOption = False) -> None:
    """Who lives where region or tier say otherwise, and which databases have too many. Exit 1 on findings."""
    if tenants:
        misplaced = (one._asdict() async for one in session.ops.placements.misplaced())
        found = await session.out.stream(TENANTS, misplaced, empty="every tenant lives where it may")
    else:
        findings = [one._asdict() for one in await session.ops.placements.check()]
        found = session.out.rows(FINDINGS, findings, empty="every tenant lives where it may")
    if found:
        raise typer.Exit(exit_codes.FINDINGS)


def register(root: typer.Typer) -> None:
    """Add `placements …`."""
    root.add_typer(app)
