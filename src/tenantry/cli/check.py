"""`tenantry check`: everything that an operator asks first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from tenantry.cli import baseline_file, exit_codes
from tenantry.cli.baseline_file import BaselineOption, WriteOption
from tenantry.cli.command import command
from tenantry.cli.render import OutputColumn
from tenantry.cli.session import Session
from tenantry.operations.check import FleetFacts, Reached
from tenantry.operations.check.findings import CheckFinding

DATABASES = (
    OutputColumn("database"),
    OutputColumn("kind"),
    OutputColumn("reachable"),
    OutputColumn("server"),
    OutputColumn("role"),
    OutputColumn("pooled"),
    OutputColumn("tls", "TLS"),
    OutputColumn("schema", right=True),
)
FINDINGS = (
    OutputColumn("severity", style="bold"),
    OutputColumn("database"),
    OutputColumn("code"),
    OutputColumn("problem"),
    OutputColumn("fix"),
)
ProcessesOption = Annotated[
    int, typer.Option("--processes", min=1, help="Router processes of the fleet, for the budgets of connections.")
]


MovesOption = Annotated[
    bool, typer.Option("--moves", help="Look too at what a move from or to each database would need.")
]


async def check(
    session: Session,
    processes: ProcessesOption = 1,
    moves: MovesOption = False,
    baseline: BaselineOption = None,
    write_baseline: WriteOption = None,
) -> None:
    """Look at the configuration, the databases, their roles, versions, schemas and clocks. Exit 1 on findings."""
    report = await session.ops.check(processes, moves=moves, accepted=baseline_file.read(baseline))
    databases = list(_databases(report.facts))
    if session.out.as_json:
        listed = [finding._asdict() for finding in report.findings]
        accepted = [finding._asdict() for finding in report.accepted]
        session.out.tree({"ok": report.ok, "databases": databases, "findings": listed, "accepted": accepted})
    else:
        _tell(session, databases, report.findings)
    for key in report.stale:
        session.out.warn(f"the baseline accepts {key!r}, which is no longer found")
    if write_baseline is not None:
        kept = baseline_file.write(write_baseline, (one.key for one in (*report.findings, *report.accepted)))
        session.out.say(f"{write_baseline} accepts {kept} findings now")
    elif not report.ok:
        raise typer.Exit(exit_codes.FINDINGS)


def _tell(session: Session, databases: list[dict[str, Any]], findings: Sequence[CheckFinding]) -> None:
    session.out.rows(DATABASES, databases)
    if not findings:
        session.out.say(f"{len(databases)} databases looked at, nothing found", style="green")
        return
    session.out.text("")
    session.out.rows(FINDINGS, [finding._asdict() for finding in findings])


def _databases(facts: FleetFacts) -> list[dict[str, Any]]:
    control = _row("control", "control", facts.control, facts.listen)
    rest = [_row(one.database.name, one.database.kind.value, one.router, one.operator) for one in facts.databases]
    return [control, *rest]


def _row(name: str, kind: str, reached: Reached, other: Reached | None) -> dict[str, Any]:
    schema = reached.schema if reached.schema is not None or other is None else other.schema
    return {
        "database": name,
        "kind": kind,
        "reachable": reached.error is None,
        "server": reached.version_text,
        "role": reached.role,
        "pooled": reached.pooled,
        "tls": reached.tls,
        "schema": schema,
    }


def register(root: typer.Typer) -> None:
    """Add `check`."""
    command(root, "check")(check)
