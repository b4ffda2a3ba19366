"""`tenantry migrate`: the product's migrations on every database."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer

from tenantry.cli import exit_codes
from tenantry.cli.command import command, group
from tenantry.cli.options import seconds_of
from tenantry.cli.render import OutputColumn, Renderer
from tenantry.cli.session import Session
from tenantry.cli.signals import on_signals
from tenantry.errors import ConfigError
from tenantry.operations import MigrateEvent, MigrateOptions, MigrateRun, MigrationStopped

COLUMNS: Final = (
    OutputColumn("database"),
    OutputColumn("state"),
    OutputColumn("attempts", right=True),
    OutputColumn("exit", right=True),
    OutputColumn("seconds", right=True),
    OutputColumn("fingerprint", "SCHEMA"),
    OutputColumn("rls_steps", "RLS STEPS", right=True),
    OutputColumn("error"),
)
PLAN_COLUMNS: Final = (
    OutputColumn("turn", right=True),
    OutputColumn("database"),
    OutputColumn("fingerprint", "SCHEMA"),
)
#: Lines of a failed command that are shown without --output.
_LINES: Final = 20

CommandArgument = Annotated[
    list[str], typer.Argument(metavar="-- COMMAND …", help="What to run on each database.", show_default=False)
]
DatabaseOption = Annotated[
    list[str] | None, typer.Option("--database", "-d", help="Only this one; may be repeated.", show_default="all")
]
PlanOption = Annotated[bool, typer.Option("--plan", help="Only say what would be done.")]
JobsOption = Annotated[
    int, typer.Option("--jobs", "-j", min=1, max=256, help="Databases at once, after the canary.")
]
CanaryOption = Annotated[
    str | None,
    typer.Option("--canary", help="The first database, alone.", show_default="the one with fewest tenants"),
]
TimeoutOption = Annotated[
    str | None, typer.Option("--timeout", help="End a command that takes longer: 2h.", show_default="no limit")
]
LockTimeoutOption = Annotated[
    str, typer.Option("--lock-timeout", help="How long a statement waits for a lock; off: as it likes.")
]
LockRetriesOption = Annotated[
    int, typer.Option("--lock-retries", min=0, help="How often it is begun again for want of a lock.")
]
WaitOption = Annotated[
    str | None,
    typer.Option("--wait", help="Wait so long for moves and migrations under way.", show_default="refuse at once"),
]
AgainOption = Annotated[
    bool, typer.Option("--again", help="On the databases too that the unfinished run has done.")
]
WayBackOption = Annotated[
    bool, typer.Option("--with-way-back", help="Where a move's way back is open too; it may break.")
]
EnvOption = Annotated[
    list[str] | None,
    typer.Option("--env", metavar="NAME=TEMPLATE", help="A variable for the command: DATABASE_URL={url}."),
]
OutputOption = Annotated[
    bool, typer.Option("--output", help="Show what the commands say, a database's name in front.")
]


app = group("migrate", "A command on every database, such as `migrate -- alembic upgrade head`.", default="run")


@command(app, "run")
async def run(
    session: Session,
    argv: CommandArgument,
    database: DatabaseOption = None,
    plan: PlanOption = False,
    jobs: JobsOption = 4,
    canary: CanaryOption = None,
    timeout: TimeoutOption = None,
    lock_timeout: LockTimeoutOption = "5s",
    lock_retries: LockRetriesOption = 5,
    wait: WaitOption = None,
    again: AgainOption = False,
    with_way_back: WayBackOption = False,
    env: EnvOption = None,
    output: OutputOption = False,
) -> None:
    """Run a command on every database: a canary first, then some at a time. Stops at the first failure.

    The command finds the database by libpq's variables (PGHOST, PGPASSWORD …) and by TENANTRY_MIGRATE_URL. Run the
    same command again, and it goes on where it has stopped.
    """
    options = MigrateOptions(
        jobs=jobs,
        canary=canary,
        timeout=seconds_of(timeout, "--timeout"),
        lock_timeout=0.0 if lock_timeout == "off" else seconds_of(lock_timeout, "--lock-timeout") or 0.0,
        lock_retries=lock_retries,
        wait=seconds_of(wait, "--wait") or 0.0,
        again=again,
        with_way_back=with_way_back,
        variables=dict(_variable(one) for one in env or ()),
    )
    migrations = session.ops.migrations
    if plan:
        await _show_plan(session, argv, database or (), options)
        return
    telling = _Telling(session.out, output)
    try:
        with _cancelled_by_signals(session.out):
            done = await migrations.run(argv, database or (), options, tell=telling)
    except MigrationStopped as stopped:
        _show(session.out, stopped.run)
        raise
    except asyncio.CancelledError:
        await _say_where(session)
        raise typer.Exit(exit_codes.INTERRUPTED) from None
    _show(session.out, done)
    if _tell_findings(session.out, done):
        raise typer.Exit(exit_codes.FINDINGS)


@command(app, "status")
async def status(session: Session) -> None:
    """The unfinished run, else the last one: where each database stands. Exit 1 if one is behind."""
    found = await session.ops.migrations.status()
    if session.out.as_json:
        session.out.tree(None if found is None else found._asdict() | {"databases": [*_rows(found, output=True)]})
    elif found is None:
        session.out.say("nothing was ever migrated by `tenantry migrate`")
    else:
        session.out.facts(
            {
                "run": found.id,
                "command": found.command,
                "state": found.state,
                "by": found.actor,
                "started": found.started_at,
                "changed": found.changed_at,
            }
        )
        session.out.rows(COLUMNS, _rows(found))
        for one in found.databases:
            if one.output:
                _show_tail(session.out, one.database, one.output)
    if found is not None and (found.behind or _tell_findings(session.out, found)):
        if found.behind:
            session.out.say(f"behind: {', '.join(found.behind)}")
        raise typer.Exit(exit_codes.FINDINGS)


@command(app, "abandon")
async def abandon(session: Session) -> None:
    """Give the unfinished run up: nobody counts as behind by it any more. Changes no database."""
    given_up = await session.ops.migrations.abandon()
    session.out.rows((OutputColumn("run"),), [{"run": run} for run in given_up], empty="no run is unfinished")


# -- how ---------------------------------------------------------------------------------------------


def _variable(text: str) -> tuple[str, str]:
    name, given, template = text.partition("=")
    if not given:
        raise ConfigError(f"write NAME=TEMPLATE, such as DATABASE_URL={{url}}; got {name!r}", key="env")
    return name, template


def _show(out: Renderer, run: MigrateRun) -> None:
    """How a run has ended. That nobody reads it changes no exit code."""
    with out.unless_unread():
        out.rows(COLUMNS, _rows(run))


def _rows(run: MigrateRun, *, output: bool = False) -> Iterator[dict[str, Any]]:
    for one in run.databases:
        row = one._asdict()
        yield row if output else {key: value for key, value in row.items() if key != "output"}


async def _show_plan(
    session: Session, argv: list[str], databases: list[str] | tuple[()], options: MigrateOptions
) -> None:
    found = await session.ops.migrations.plan(argv, databases, options)
    if session.out.as_json:
        session.out.tree(found._asdict())
        return
    turns = [
        {
            "turn": "canary" if number == 0 else number,
            "database": name,
            "fingerprint": found.fingerprints.get(name),
        }
        for number, name in enumerate(found.todo)
    ]
    session.out.rows(PLAN_COLUMNS, turns, empty="every database is done")
    session.out.say(f"`{found.command}` would be run on {len(found.todo)} databases, the first one alone")
    if found.resumes:
        done = ", ".join(found.done) or "none"
        session.out.say(
            f"it goes on with run {found.resumes}, which has done: {done}. --again runs it on these too"
        )
    if found.absent:
        session.out.say(f"not made yet, so left out: {', '.join(found.absent)}; a move brings the schema")
    if found.withheld:
        session.out.say(
            f"not passed on, for they name databases: {', '.join(found.withheld)}; "
            f"`--env {found.withheld[0]}={{url}}` gives the command each database's own"
        )


def _tell_findings(out: Renderer, run: MigrateRun) -> bool:
    """What is not as it should be where the command was done. True: something isn't."""
    for one in run.unplanned:
        out.warn(
            f"{one.database}: `tenantry rls plan` has {one.rls_steps} steps to do; "
            f"`tenantry rls apply --database {one.database}` does them"
        )
    if run.drifted:
        out.warn(
            f"the schema is another one than that of the others in {', '.join(run.drifted)}; "
            "`tenantry check` says in what"
        )
    return bool(run.unplanned or run.drifted)


def _show_tail(out: Renderer, database: str, output: str) -> None:
    for line in output.splitlines()[-_LINES:]:
        out.say(f"[{database}] {line}")


class _Telling:
    """Tells how far a run is."""

    def __init__(self, out: Renderer, output: bool) -> None:
        self._out = out
        self._output = output

    def __call__(self, event: MigrateEvent) -> None:
        """For `Migrations.run`."""
        if event.kind == "plan" and event.text:
            self._out.say(f"goes on with run {event.text}, which has done {event.done} databases")
        elif event.kind == "absent":
            self._out.say(f"not made yet, so left out: {event.text}; a move brings the schema")
        elif event.kind == "wait":
            self._out.say(f"a migration has died at work in {event.text}: its commands have some seconds to end")
        elif event.kind == "withheld":
            self._out.say(f"not passed on, for they name databases: {event.text}; `--env` says what is")
        elif event.kind == "output" and self._output:
            self._out.say(f"[{event.database}] {event.text}")
        elif event.kind == "retry":
            self._out.say(f"{event.database}: {event.text}; the command is begun again")
        elif event.kind == "end" and event.run is not None:
            took = "" if event.run.seconds is None else f" in {event.run.seconds:.1f} s"
            why = f": {event.run.error}" if event.run.error else ""
            self._out.say(f"{event.database} {event.run.state}{took} ({event.done} of {event.total} done){why}")
            if event.run.output and not self._output:
                _show_tail(self._out, event.database, event.run.output)


@contextlib.contextmanager
def _cancelled_by_signals(out: Renderer) -> Iterator[None]:
    """While the body runs, Ctrl-C and SIGTERM cancel it: commands that run are ended, the journal is told."""
    task = asyncio.current_task()
    assert task is not None

    def cancel() -> None:
        out.say("ending the commands that run")
        task.cancel()

    with on_signals(cancel):
        yield


async def _say_where(session: Session) -> None:
    found = await session.ops.migrations.status()
    if found is not None and found.behind:
        _show(session.out, found)
        session.out.say(
            f"run {found.id} was interrupted. Behind: {', '.join(found.behind)}; the same command goes on"
        )


def register(root: typer.Typer) -> None:
    """Add `migrate …`."""
    root.add_typer(app)
