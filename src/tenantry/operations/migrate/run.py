"""One run: the canary alone, then the others some at a time; each is journalled before and after.

The order is the reason why a killed process loses nothing: the journal says "running" before the command begins,
and "done" after it has ended, so whatever was cut off in between is run again. The command's own transaction
decides what of it is there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

import asyncpg

from tenantry import sql
from tenantry.catalog.read import read_fingerprint
from tenantry.config import ResolvedDatabase, role_of
from tenantry.errors import DatabaseUnavailable, OperationRefused
from tenantry.isolation import apply as applying
from tenantry.operations.context import Context
from tenantry.operations.migrate import command
from tenantry.operations.migrate.journal import MigrationJournal
from tenantry.operations.migrate.survey import Ground, without_moves
from tenantry.operations.migrate.values import (
    DatabaseRun,
    MigrateEvent,
    MigrateOptions,
    Tell,
    TurnState,
)
from tenantry.router.driver import Connection
from tenantry.runtime.connection_errors import ANY_FAILURE
from tenantry.runtime.shielded import run_shielded
from tenantry.wiring import tenancy_of

#: Seconds before the command is begun again after it could not have a lock: doubled each time, up to the second.
LOCK_PAUSE, LONGEST_PAUSE = 1.0, 15.0
#: Seconds for what the command of a killed process does at its end, before its sessions are ended.
ORPHANS = command.GRACE + 2
#: What is told of a command that may have gone elsewhere, to an address of its own.
UNVISITED: Final = "the command ended well, and nobody has logged in to this database: does it find its address?"
#: Seconds after which a session that has ended is surely counted.
COUNTED = 1.0
#: Seconds for the journal's last word.
_LAST_WORD: Final = 30.0


class Order(NamedTuple):
    """What a run is told."""

    run: str
    argv: Sequence[str]
    ground: Ground
    options: MigrateOptions
    withheld: Collection[str]
    """Variables that the command does not get."""
    done: int
    """Databases that were done before."""


class Runner:
    """Runs the command on the databases of one order."""

    # Mutable state: the databases that wait for their turn; how many are done; why no more are begun.

    def __init__(self, context: Context, journal: MigrationJournal, order: Order, tell: Tell) -> None:
        self._context = context
        self._journal = journal
        self._order = order
        self._tell = tell
        self._waiting = deque(order.ground.databases.values())
        self._total = order.done + len(order.ground.databases)
        self._done = order.done
        self.stopped: str | None = None
        """Why it has stopped; None: it hasn't."""
        self.lost: DatabaseUnavailable | None = None
        """How the journal was lost; to be raised once all that had begun has ended. None: it wasn't."""

    async def run(self) -> None:
        """Run to the end, or to the first failure: what has begun goes on to its end, nothing more begins."""
        await self._next()  # the canary
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._order.options.jobs, len(self._waiting))):
                group.create_task(self._worker())

    async def _worker(self) -> None:
        while self._waiting and self.stopped is None:
            await self._next()

    async def _next(self) -> None:
        database = self._waiting.popleft()
        try:
            one = await self._migrate(database)
            await self._journal.end(self._order.run, one)
        except DatabaseUnavailable as error:  # the journal: commands that run are left to their end, no more begin
            self.stopped, self.lost = self.stopped or str(error), self.lost or error
            return
        if one.state is TurnState.DONE:
            self._done += 1
        elif self.stopped is None:
            self.stopped = f"{database.name}: {one.error}"
        self._tell(MigrateEvent("end", database.name, done=self._done, total=self._total, run=one))

    async def _migrate(self, database: ResolvedDatabase) -> DatabaseRun:
        name, attempts = database.name, 0
        if not await self._journal.take_database(name, self._order.options.wait):
            return DatabaseRun(name, TurnState.FAILED, error="a move is at work there")
        try:
            # After the lock: a move takes it before its journal says that it is there; one sees the other.
            await without_moves(self._journal, [name], self._order.options)
            opened = await self._without_orphans(database)
            while True:
                attempts += 1
                await self._journal.start(self._order.run, name)
                self._tell(MigrateEvent("start", name, done=self._done, total=self._total))
                ended = await self._command(database)
                if ended.exit is None:
                    await self._end_left_sessions(database)
                if ended.exit == 0:
                    return await self._look(database, ended, attempts, opened)
                if not ended.locked or attempts > self._order.options.lock_retries:
                    why = ended.why + (f", {attempts} times, for want of a lock" if ended.locked else "")
                    return self._not_done(TurnState.FAILED, name, attempts, ended, why)
                self._tell(MigrateEvent("retry", name, "a lock was not to be had in time"))
                await asyncio.sleep(min(LOCK_PAUSE * 2 ** (attempts - 1), LONGEST_PAUSE))
        except OperationRefused as error:
            return DatabaseRun(name, TurnState.FAILED, attempts, error=str(error))
        except OSError as error:  # by the system: no memory, no processes, more words than it takes
            why = f"the command can't be begun: {error.strerror or error}"
            return DatabaseRun(name, TurnState.FAILED, attempts, error=why)
        except asyncio.CancelledError:
            await self._last_word(self._end_left_sessions(database), name)
            why = "it was interrupted; the command was ended"
            one = DatabaseRun(name, TurnState.INTERRUPTED, attempts, error=why)
            await self._last_word(self._journal.end(self._order.run, one), name)
            raise
        finally:
            await self._last_word(self._journal.give_back(name), name)

    async def _last_word(self, work: object, name: str) -> None:
        with contextlib.suppress(
            DatabaseUnavailable, TimeoutError
        ):  # then the locks are gone too, and say the same
            await run_shielded(work, seconds=_LAST_WORD, name=f"journalling {name}")  # type: ignore[arg-type]

    async def _command(self, database: ResolvedDatabase) -> command.Ended:
        order = self._order
        env = command.environment(
            database,
            order.run,
            lock_timeout=order.options.lock_timeout,
            variables=order.options.variables,
            without=order.withheld,
        )
        return await command.run(
            list(order.argv),
            env,
            timeout=order.options.timeout,
            known=self._context.secrets,
            tell=lambda line: self._tell(MigrateEvent("output", database.name, line)),
        )

    async def _without_orphans(self, database: ResolvedDatabase) -> int:
        """See that no command of a process that was killed is still at work here. Waits for its end, a little.

        Returns how many sessions the database has had.

        Raises:
            OperationRefused: one is, or the database can't be asked.
        """
        name = database.name
        try:
            async with self._context.connect(name, database.require_operator_dsn()) as connection:
                await self._outlast(connection, name)
                return await _opened(connection)
        except (DatabaseUnavailable, *ANY_FAILURE) as error:
            if isinstance(error, OperationRefused):
                raise
            raise OperationRefused(f"it can't be reached: {self._context.why(error)}") from None

    async def _outlast(self, connection: Connection, name: str) -> None:
        """Wait for sessions of commands whose migration has died, then end them.

        We are the one who migrates, so nobody minds these. The command was ended with its process; a server that
        executes does not look whether its client is there.
        """
        loop = asyncio.get_running_loop()
        patience = loop.time() + ORPHANS
        while rows := await connection.fetch(sql.query("migrate/sessions"), "tenantry migrate r%", timeout=30.0):
            if loop.time() > patience:
                await _end_sessions(connection, "tenantry migrate r%")
            if loop.time() > patience + ORPHANS:
                pids = ", ".join(str(row["pid"]) for row in rows)
                raise OperationRefused(
                    f"the command of a migration that was killed is still at work in {name}: let it end, or end "
                    f"its sessions ({pids}) by pg_terminate_backend"
                )
            await asyncio.sleep(0.2)

    async def _end_left_sessions(self, database: ResolvedDatabase) -> None:
        """After a command was ended by force: what it has asked for must not go on in the server."""
        pattern = command.application_name(self._order.run)
        with contextlib.suppress(*ANY_FAILURE):  # the next run looks for them, too
            async with self._context.connect(database.name, database.require_operator_dsn()) as connection:
                await _end_sessions(connection, pattern)

    def _not_done(self, state: TurnState, name: str, attempts: int, ended: command.Ended, why: str) -> DatabaseRun:
        return DatabaseRun(name, state, attempts, ended.exit, ended.seconds, why, ended.output)

    async def _look(
        self, database: ResolvedDatabase, ended: command.Ended, attempts: int, opened: int
    ) -> DatabaseRun:
        """What is there now, and what `rls plan` would do. That it can't be seen does not undo what is done."""
        one = DatabaseRun(database.name, TurnState.DONE, attempts, ended.exit, ended.seconds)
        role = None if database.dsn is None else role_of(database.dsn)
        try:
            async with self._context.connect(database.name, database.require_operator_dsn()) as connection:
                if not await _was_visited(connection, opened):
                    one = one._replace(error=UNVISITED)
                found = await read_fingerprint(connection)
                planned = await applying.compute(
                    connection, tenancy_of(self._context.config), role=role, not_null=False
                )
        except ANY_FAILURE as error:
            return one._replace(error=f"it is done, and could not be looked at since: {self._context.why(error)}")
        return one._replace(fingerprint=found.digest, rls_steps=len(planned.steps))


async def _end_sessions(connection: Connection, pattern: str) -> None:
    """End the sessions whose application_name is like that, as far as this role may."""
    for row in await connection.fetch(sql.query("migrate/sessions"), pattern, timeout=30.0):
        with contextlib.suppress(asyncpg.InsufficientPrivilegeError):
            await connection.fetchval("SELECT pg_terminate_backend($1)", row["pid"], timeout=30.0)


async def _opened(connection: Connection) -> int:
    """How many sessions the database has had, this one included."""
    await connection.execute("SELECT pg_stat_force_next_flush()")
    return int(await connection.fetchval(sql.query("migrate/opened"), timeout=30.0))


async def _was_visited(connection: Connection, before: int) -> bool:
    """Whether there were other sessions than this one since `before`. A session is counted when it has ended."""
    deadline = asyncio.get_running_loop().time() + COUNTED
    while await _opened(connection) <= before + 1:
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True
