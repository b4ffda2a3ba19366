"""The journal of migrations in the control database, and who holds which database for one."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any, Final

import asyncpg

from tenantry import sql
from tenantry.errors import DatabaseUnavailable, OperationRefused
from tenantry.operations.context import Context
from tenantry.operations.migrate.values import DatabaseRun, MigrateRun, RunState, TurnState
from tenantry.runtime.connection_errors import TRANSIENT
from tenantry.runtime.locks import MIGRATED, MIGRATING
from tenantry.runtime.shielded import stop

#: Seconds between two words on the session.
HEARTBEAT = 30.0
#: Seconds between two looks at what is waited for.
_AGAIN: Final = 0.25
_DATABASE: Final = "database, state, attempts, exit, seconds, error, output, fingerprint, rls_steps"


class MigrationJournal:
    """Of one process that migrates. Its session holds the locks that say so: they end with it, however it ends.

    Raises (every method): DatabaseUnavailable for "control" when the session is lost: another may migrate by now.
    """

    # Mutable state: the session, by turns of those who work at once.

    def __init__(self, connection: Any) -> None:
        """Use `opened`."""
        self._connection = connection
        self._turn = asyncio.Lock()

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(cls, context: Context) -> AsyncIterator[MigrationJournal]:
        """One with a session of its own, which lives through hours in which a command runs."""
        async with context.control() as connection:
            await connection.execute("SET idle_session_timeout = 0")
            journal = cls(connection)
            beating = asyncio.create_task(journal._beat(), name="heartbeat of the migration's session")
            try:
                yield journal
            finally:
                await stop(beating)

    async def _beat(self) -> None:
        """Let no firewall forget the session, and with it the locks."""
        with contextlib.suppress(DatabaseUnavailable):  # whoever asks next is told
            while True:
                await asyncio.sleep(HEARTBEAT)
                await self._fetch("SELECT 1")

    async def _fetch(self, query: str, *args: Any) -> list[asyncpg.Record]:
        async with self._turn:
            try:
                return list(await self._connection.fetch(query, *args, timeout=30.0))
            except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError) as error:
                why = "its tenantry schema is missing or old; run `tenantry init`"
                raise DatabaseUnavailable("control", why) from error
            except (*TRANSIENT, asyncpg.InterfaceError) as error:
                raise DatabaseUnavailable("control", f"the migration's session is lost: {error}") from error

    # -- who may -----------------------------------------------------------------------------------

    async def take(self, wait: float) -> Sequence[str]:
        """Be the one who migrates; the databases in which a process that has died since had a command at work.

        Args:
            wait: seconds to wait for another one.

        Raises:
            OperationRefused: another one is at it.
        """
        if await self._within(wait, "SELECT pg_try_advisory_lock($1) AS taken", MIGRATING):
            return [row["database"] for row in await self._fetch(sql.query("migrate/bury"))]
        run = await self.last()
        what = "another" if run is None else f"run {run.id} of {run.actor} (`{run.command}`)"
        raise OperationRefused(
            f"a migration is running already: {what}; see `tenantry migrate status`. `--wait 10m` waits for it"
        )

    async def take_database(self, name: str, wait: float) -> bool:
        """Keep moves from a database; False: one is at work there. Given back by `give_back`."""
        query = "SELECT pg_try_advisory_lock($1, hashtext($2)) AS taken"
        return await self._within(wait, query, MIGRATED, name)

    async def give_back(self, name: str) -> None:
        """Let moves have a database again."""
        await self._fetch("SELECT pg_advisory_unlock($1, hashtext($2))", MIGRATED, name)

    async def moves(self, names: Collection[str]) -> Sequence[Mapping[str, Any]]:
        """The moves from or to these databases that are not finished."""
        return [dict(row) for row in await self._fetch(sql.query("migrate/moves"), list(names))]

    async def _within(self, wait: float, query: str, *args: Any) -> bool:
        deadline = asyncio.get_running_loop().time() + wait
        while not (await self._fetch(query, *args))[0]["taken"]:
            if asyncio.get_running_loop().time() >= deadline:
                return False
            await asyncio.sleep(_AGAIN)
        return True

    # -- runs --------------------------------------------------------------------------------------

    async def last(self) -> MigrateRun | None:
        """The newest unfinished run, else the newest one; None: there was none.

        What a process that has died left running is told as interrupted.
        """
        rows = await self._fetch(sql.query("migrate/last"), MIGRATING)
        return await self._run(rows[0]) if rows else None

    async def show(self, run: str) -> MigrateRun:
        """One run, just as it was written."""
        (row,) = await self._fetch("SELECT *, true AS alive FROM tenantry.migrate_run WHERE id = $1", run)
        return await self._run(row)

    async def _run(self, row: asyncpg.Record) -> MigrateRun:
        rows = await self._fetch(
            f"SELECT {_DATABASE} FROM tenantry.migrate_database WHERE run = $1 ORDER BY position",  # noqa: S608  constant
            row["id"],
        )
        found = [DatabaseRun(**dict(one) | {"state": TurnState(one["state"])}) for one in rows]
        state = RunState(row["state"])
        if state is RunState.RUNNING and not row["alive"]:
            state = RunState.STOPPED
            found = [_died(one) if one.state is TurnState.RUNNING else one for one in found]
        return MigrateRun(
            row["id"], row["command"], row["actor"], state, row["started_at"], row["changed_at"], tuple(found)
        )

    async def unfinished(self, command: str) -> MigrateRun | None:
        """The run of this command that did not reach all databases."""
        rows = await self._fetch(
            "SELECT *, true AS alive FROM tenantry.migrate_run "
            "WHERE command = $1 AND state IN ('running', 'stopped') ORDER BY started_at DESC LIMIT 1",
            command,
        )
        return await self._run(rows[0]) if rows else None

    async def begin(self, command: str, actor: str, names: Sequence[str], *, whole: bool) -> str:
        """Write a new run; returns its id. `whole`: of all databases; unfinished ones are given up."""
        run = f"r{secrets.token_hex(5)}"
        await self._fetch(sql.query("migrate/begin"), run, command, actor, list(names), whole)
        return run

    async def resume(self, run: str, names: Sequence[str], *, whole: bool) -> None:
        """Go on with a run: these databases have their turns now. `whole`: of others it knows nothing any more."""
        await self._fetch(sql.query("migrate/resume"), run, list(names), whole)

    async def start(self, run: str, name: str) -> None:
        """The command is about to be begun."""
        await self._fetch(
            "UPDATE tenantry.migrate_database SET state = 'running', attempts = attempts + 1, exit = NULL, "
            "error = NULL, output = NULL, changed_at = now() WHERE (run, database) = ($1, $2)",
            run,
            name,
        )

    async def end(self, run: str, done: DatabaseRun) -> None:
        """A database's turn is over."""
        await self._fetch(
            "UPDATE tenantry.migrate_database SET state = $3, exit = $4, seconds = $5, error = $6, output = $7, "
            "fingerprint = $8, rls_steps = $9, changed_at = now() WHERE (run, database) = ($1, $2)",
            run,
            done.database,
            done.state.value,
            done.exit,
            done.seconds,
            done.error,
            done.output,
            done.fingerprint,
            done.rls_steps,
        )

    async def abandon(self) -> Sequence[str]:
        """Give the unfinished runs up; their ids."""
        rows = await self._fetch(
            "UPDATE tenantry.migrate_run SET state = 'abandoned', changed_at = now() "
            "WHERE state IN ('running', 'stopped') RETURNING id"
        )
        return [row["id"] for row in rows]

    async def close(self, run: str, state: RunState) -> None:
        """The run is over, or has stopped."""
        await self._fetch(
            "UPDATE tenantry.migrate_run SET state = $2, changed_at = now() WHERE id = $1", run, state.value
        )


def _died(one: DatabaseRun) -> DatabaseRun:
    return one._replace(state=TurnState.INTERRUPTED, error="the process that ran it has died")
