"""`Operations.migrations`: an operator's command on every database, as a run that is journalled."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Collection, Sequence
from typing import NamedTuple

from tenantry.errors import ConfigError, DatabaseUnavailable
from tenantry.operations.context import Context
from tenantry.operations.migrate import command
from tenantry.operations.migrate import run as running
from tenantry.operations.migrate.journal import MigrationJournal
from tenantry.operations.migrate.run import Order, Runner
from tenantry.operations.migrate.survey import Ground, survey, without_moves
from tenantry.operations.migrate.values import (
    Listener,
    MigrateEvent,
    MigrateOptions,
    MigratePlan,
    MigrateRun,
    MigrationStopped,
    RunState,
    Tell,
    silence,
)
from tenantry.runtime.shielded import run_shielded

_DEFAULT = MigrateOptions()


class _Decided(NamedTuple):
    """What a run will do."""

    plan: MigratePlan
    ground: Ground


class Migrations:
    """`Operations.migrations`.

    Raises (every method): DatabaseUnavailable for "control" when the control database doesn't answer.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    async def plan(
        self, argv: Sequence[str], databases: Collection[str] = (), options: MigrateOptions = _DEFAULT
    ) -> MigratePlan:
        """What `run` would do now. Touches nothing.

        Raises: as `run`, before anything is touched.
        """
        self._check(argv, options)
        async with MigrationJournal.opened(self._context) as journal:
            return (await self._decide(journal, argv, databases, options, fingerprints=True)).plan

    async def run(
        self,
        argv: Sequence[str],
        databases: Collection[str] = (),
        options: MigrateOptions = _DEFAULT,
        *,
        tell: Tell = silence,
    ) -> MigrateRun:
        """Run a command on every database: the canary first, alone, then the others some at a time.

        Goes on with the run of the same command that did not reach all of them, and leaves alone what is done.
        Stops at the first failure. Cancelled, it ends the commands that run; the journal says where it was.

        Args:
            argv: the program and its arguments. No shell reads them, and everybody on the machine can: the secrets
                are in its environment, see `command.environment`.
            databases: only these; empty: all.
            tell: told what happens. What it raises is raised at the end.

        Raises:
            ConfigError: there is no such program, or an option can't be used.
            UnknownDatabase: there is no such database.
            OperationRefused: another migration runs, a tenant is being moved, a database can't be had; nothing was
                touched.
            MigrationStopped: a database could not be migrated; it says who is behind.
        """
        self._check(argv, options)
        listener = Listener(tell)
        async with MigrationJournal.opened(self._context) as journal:
            if died := await journal.take(options.wait):
                # Its commands have that long to end, and may be the kind whose sessions nobody can tell.
                listener(MigrateEvent("wait", text=", ".join(died)))
                await asyncio.sleep(running.ORPHANS)
            plan, ground = await self._decide(journal, argv, databases, options)
            listener(MigrateEvent("plan", text=plan.resumes or "", done=len(plan.done), total=len(plan.todo)))
            if plan.absent:
                listener(MigrateEvent("absent", text=", ".join(plan.absent)))
            if plan.withheld:
                listener(MigrateEvent("withheld", text=", ".join(plan.withheld)))
            run = plan.resumes
            if run is not None:
                await journal.resume(run, plan.todo, whole=not databases)
            else:
                run = await journal.begin(plan.command, self._context.actor, plan.todo, whole=not databases)
            order = Order(run, argv, ground, options, plan.withheld, len(plan.done))
            runner = Runner(self._context, journal, order, listener)
            state = RunState.STOPPED
            try:
                if plan.todo:
                    await runner.run()
                if runner.stopped is None and not (await journal.show(run)).behind:
                    state = RunState.DONE
            finally:
                with contextlib.suppress(DatabaseUnavailable):  # then its lock is gone too, and says the same
                    await run_shielded(journal.close(run, state), seconds=30.0, name=f"closing run {run}")
            if runner.lost is not None:
                raise runner.lost
            done = await journal.show(run)
        kind, detail = f"migrate.{state.value}", {"run": run, "command": plan.command, "behind": list(done.behind)}
        await self._context.store.record(kind, self._context.actor, detail=detail)
        if runner.stopped is not None:
            raise MigrationStopped(done, runner.stopped)
        if listener.error is not None:
            raise listener.error
        return done

    async def status(self) -> MigrateRun | None:
        """The unfinished run, else the newest one; None: there was none."""
        async with MigrationJournal.opened(self._context) as journal:
            return await journal.last()

    async def abandon(self) -> tuple[str, ...]:
        """Give up the unfinished runs: nobody is behind by them any more. Returns their ids. Changes no database.

        Raises:
            OperationRefused: a migration is running.
        """
        async with MigrationJournal.opened(self._context) as journal:
            await journal.take(0)
            given_up = tuple(await journal.abandon())
        for run in given_up:
            await self._context.store.record("migrate.abandoned", self._context.actor, detail={"run": run})
        return given_up

    # -- how ---------------------------------------------------------------------------------------

    def _check(self, argv: Sequence[str], options: MigrateOptions) -> None:
        _ = self._context.config  # raises where the operations are closed
        command.check_command(list(argv))
        command.check_variables(options.variables)
        if not 1 <= options.jobs <= 256:
            raise ConfigError("is from 1 to 256", key="jobs")
        if options.lock_retries < 0:
            raise ConfigError("is 0 or more", key="lock_retries")
        for key, seconds in (
            ("timeout", options.timeout),
            ("lock_timeout", options.lock_timeout),
            ("wait", options.wait),
        ):
            if (seconds is not None and not 0 <= seconds < 1e6) or (key, seconds) == ("timeout", 0):
                raise ConfigError("is a number of seconds", key=key)

    async def _decide(
        self,
        journal: MigrationJournal,
        argv: Sequence[str],
        databases: Collection[str],
        options: MigrateOptions,
        *,
        fingerprints: bool = False,
    ) -> _Decided:
        ground = await survey(self._context, databases, options, fingerprints=fingerprints)
        words = command.words(list(argv), self._context.secrets)
        before = None if options.again else await journal.unfinished(words)
        behind = set(before.behind) if before else set()
        known = {one.database for one in before.databases} if before else set()
        # What has failed comes first, alone: if it fails again, nothing else has begun.
        tried = {one.database for one in before.databases if one.attempts} if before else set()
        turns = sorted(ground.databases, key=lambda name: (name != options.canary, name not in tried))
        todo = {name: ground.databases[name] for name in turns if name in behind or name not in known}
        await without_moves(journal, list(todo), options)
        plan = MigratePlan(
            words,
            before.id if before else None,
            tuple(todo),
            tuple(name for name in ground.databases if name not in todo),
            ground.absent,
            command.withheld(os.environ, self._context.secrets),
            ground.fingerprints,
        )
        return _Decided(plan, ground._replace(databases=todo))
