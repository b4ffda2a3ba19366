"""`tenantry rls`: generate, install, lint and attack-test the row-level security."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from tenantry.cli import baseline_file, exit_codes
from tenantry.cli.baseline_file import BaselineOption, WriteOption
from tenantry.cli.command import command, group
from tenantry.cli.options import YesOption
from tenantry.cli.render import OutputColumn
from tenantry.cli.rls_target import DatabaseOption, DsnOption, Where
from tenantry.cli.session import Session
from tenantry.isolation.apply import Progress
from tenantry.isolation.attacks import Outcome
from tenantry.isolation.attacks import Report as AttackReport
from tenantry.isolation.audit import AuditReport, formats
from tenantry.isolation.plan import Plan, PolicyMode
from tenantry.operations import rls
from tenantry.sql import query

app = group("rls", "Row-level security: generated, audited and attacked.")

FINDINGS = tuple(OutputColumn(name) for name in ("code", "severity", "object", "finding"))
ATTEMPTS = (
    OutputColumn("object"),
    OutputColumn("attack"),
    OutputColumn("outcome", style="bold"),
    OutputColumn("detail"),
)
OBSERVED = tuple(
    OutputColumn(name) for name in ("relation", "kind", "problem", "statement", "role", "client", "first_at")
)


class Format(StrEnum):
    """How the audit's findings are written."""

    TABLE = "table"
    JSON = "json"
    SARIF = "sarif"
    GITHUB = "github"


KeysOption = Annotated[
    bool, typer.Option("--foreign-keys", help="Make foreign keys between tenant tables compare the tenants too.")
]
NotNullOption = Annotated[
    bool, typer.Option("--not-null", help="Make tenant columns NOT NULL where no row is without a tenant.")
]
ModeOption = Annotated[
    bool,
    typer.Option(
        "--observe/--enforce",
        help="Policies that allow everything and record what they would refuse; or real ones.",
    ),
]
FormatOption = Annotated[Format, typer.Option("--format", "-f", help="How findings are written.")]


@command(app, "plan")
async def plan(
    session: Session,
    where: Where,
    foreign_keys: KeysOption = False,
    not_null: NotNullOption = False,
    observe: ModeOption = False,
) -> None:
    """Print the SQL that brings every tenant table to the standard. Exit 1 if there is anything to do."""
    found = await rls.plan(
        await where.target(session), foreign_keys=foreign_keys, not_null=not_null, mode=_mode(observe)
    )
    if session.out.as_json:
        session.out.tree(_plan(found))
    else:
        session.out.text((query("isolation/observe") + "\n" if observe and found.steps else "") + found.sql())
    if found.steps:
        raise typer.Exit(exit_codes.FINDINGS)


@command(app, "apply")
async def apply(
    session: Session,
    where: Where,
    foreign_keys: KeysOption = False,
    not_null: NotNullOption = False,
    observe: ModeOption = False,
    yes: YesOption = False,
) -> None:
    """Run the plan in steps that do not block. Broken off, it goes on where it was."""
    there, mode = await where.target(session), _mode(observe)
    found = await rls.plan(there, foreign_keys=foreign_keys, not_null=not_null, mode=mode)
    if found.steps:
        session.out.confirm(f"{len(found.steps)} steps on {there.name}. Go on?", yes=yes)
    with session.out.progress("steps", len(found.steps)) as step:

        def tell(progress: Progress) -> None:
            done = int(progress.state == "done")
            step(done, what=f"{progress.step.kind} of {progress.step.object}: {progress.state}")

        await rls.apply(there, found, mode=mode, progress=tell)
    if session.out.as_json:
        session.out.tree({"applied": len(found.steps), "undecided": _plan(found)["undecided"]})
    elif found.undecided:
        session.out.say(f"{len(found.undecided)} decisions are left to you:")
        session.out.text(found.decisions())


@command(app, "audit")
async def audit_(
    session: Session,
    where: Where,
    format: FormatOption = Format.TABLE,
    baseline_: BaselineOption = None,
    write_baseline: WriteOption = None,
) -> None:
    """Find what lets rows cross between tenants, and say how to fix it. Changes nothing. Exit 1 on findings."""
    there = await where.target(session, reads=True)
    report = await rls.audit_target(there, baseline=baseline_file.read(baseline_))
    _show(session, report, Format.JSON if session.out.as_json else format)
    if write_baseline is not None:
        kept = baseline_file.write(write_baseline, (one.key for one in (*report.findings, *report.accepted)))
        session.out.say(f"{write_baseline} accepts {kept} findings now")
    elif not report.clean:
        raise typer.Exit(exit_codes.FINDINGS)


@command(app, "probe")
async def probe_(
    session: Session,
    where: Where,
) -> None:
    """Attack every tenant table as the application role, in transactions that are rolled back. Exit 1 if one
    gives way.
    """
    there = await where.target(session)
    with session.out.progress("tables") as step:
        report = await rls.probe_target(there, progress=lambda name: step(1, what=name))
    _tell(session, report)
    if not report.passed:
        raise typer.Exit(exit_codes.FINDINGS)


@command(app, "observed")
async def observed(session: Session, database: DatabaseOption = None, dsn: DsnOption = None) -> None:
    """What would have been refused, while `apply --observe` is in force. Exit 1 if there is anything."""
    there = await Where(database=database, dsn=dsn).target(session)
    found = await rls.observed(there)
    session.out.rows(OBSERVED, [one._asdict() for one in found], empty="nothing would have been refused")
    if found:
        raise typer.Exit(exit_codes.FINDINGS)


def _tell(session: Session, report: AttackReport) -> None:
    attempts = [attempt._asdict() for attempt in report.attempts]
    if session.out.as_json:
        session.out.tree({"passed": report.passed, "problems": list(report.problems), "attempts": attempts})
        return
    shown = [attempt for attempt in attempts if attempt["outcome"] is not Outcome.HELD]
    session.out.rows(ATTEMPTS, shown, empty="nothing gave way")
    session.out.say(
        f"{len(attempts)} attacks: {len(report.held)} held, {len(report.broken)} broke through, "
        f"{len(report.untried)} could not be tried"
    )
    for problem in report.problems:
        session.out.warn(f"this proves nothing: {problem}")


def _show(session: Session, report: AuditReport, format: Format) -> None:
    out = session.out
    match format:
        case Format.JSON:
            out.tree(formats.to_json(report))
        case Format.SARIF:
            out.tree(formats.to_sarif(report))
        case Format.GITHUB:
            out.text("\n".join(formats.to_github(report)))
        case Format.TABLE:
            rows = [dict(zip(formats.HEADER, row, strict=True)) for row in formats.rows(report)]
            out.rows(FINDINGS, rows, empty="nothing found")
            if any(row["fix"] for row in rows):
                out.text("\n-- what fixes it")
                out.text(
                    "\n".join(f"-- {row['code']} {row['object']}\n{row['fix']}" for row in rows if row["fix"])
                )
    for reason in report.unchecked:
        out.warn(f"it can't be told {reason}")
    for key in report.stale:
        out.warn(f"the baseline accepts {key!r}, which is no longer found")
    out.say(f"{report.tables} tenant tables, {len(report.findings)} findings, {len(report.accepted)} accepted")


def _mode(observe: bool) -> PolicyMode:
    return PolicyMode.OBSERVE if observe else PolicyMode.ENFORCE


def _plan(found: Plan) -> dict[str, Any]:
    return {
        "steps": [step._asdict() for step in found.steps],
        "undecided": [item._asdict() for item in found.undecided],
        "kept": list(found.kept),
    }


def register(root: typer.Typer) -> None:
    """Add `rls`."""
    root.add_typer(app)
