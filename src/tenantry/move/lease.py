"""The lease: a session advisory lock in the control database says who runs a move."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from typing import Final

import asyncpg

from tenantry import sql
from tenantry.move.errors import FenceMissed, LeaseLost, MoveBusy
from tenantry.move.session import CLOSE_SECONDS, Connection, close, connect
from tenantry.runtime.connection_errors import TRANSIENT
from tenantry.runtime.locks import FLIPPING, MIGRATED, VISITING
from tenantry.runtime.shielded import run_shielded

_TAKE: Final = "SELECT pg_try_advisory_lock(tenantry.move_lock_space(), hashtext($1))"
_STATE: Final = "SELECT state, step FROM tenantry.move WHERE id = $1"
_ANSWER_SECONDS: Final = 5.0
#: Whether an operator's scope over all databases is open. Looked for, not tried: flips do not hinder each other.
_VISITED: Final = """
    SELECT EXISTS (
        SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = 0 AND objid = $1::bigint::oid
        AND objsubid = 1 AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
"""


@contextlib.asynccontextmanager
async def lease(dsn: str, move: str, databases: Collection[str] = ()) -> AsyncIterator[Lease]:
    """Be the one who runs this move.

    Args:
        databases: the names of both ends: their schemas are not migrated meanwhile.

    Raises:
        MoveBusy: another mover holds the lease, or one of the databases is being migrated.
    """
    held = Lease(dsn, move, databases)
    try:
        if not await held.acquire():
            raise MoveBusy(move, "another mover is running it")
        await held.check()
        yield held
    finally:
        # Said goodbye, so that the next mover finds the lease free as soon as we are gone.
        await run_shielded(held.release(), seconds=CLOSE_SECONDS + 1, name=f"giving back the lease of {move}")


class Lease:
    """Says whether we still are the one who runs the move.

    Losing it is not dangerous: flip and abort are decided by one row in the data database. It keeps two
    movers from undoing each other's preparations.
    """

    # Mutable state: the session that holds the lock, and how the move stood when it was last asked.

    def __init__(self, dsn: str, move: str, databases: Collection[str] = ()) -> None:
        self._dsn = dsn
        self._move = move
        self._databases = list(databases)
        self._connection: Connection | None = None
        self._last_seen: asyncpg.Record | None = None

    async def acquire(self) -> bool:
        """Take it in a new session; False: another session has it.

        Raises:
            MoveBusy: a database of the move is being migrated.
        """
        await self.release()
        connection = await connect(self._dsn, f"lease {self._move}")
        try:
            taken = await connection.fetchval(_TAKE, self._move, timeout=_ANSWER_SECONDS)
            if taken and (database := await _migrated(connection, self._databases)):
                raise MoveBusy(self._move, f"`tenantry migrate` is at work in {database}; let it end first")
        except BaseException:  # it may have been taken: only the session's end says that it is not
            connection.terminate()
            raise
        if taken:
            self._connection = connection
        else:
            await close(connection)
        return bool(taken)

    async def release(self) -> None:
        """End the session, and with it the lease."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await close(connection)

    async def check(self) -> None:
        """Make sure that nobody else runs the move. A lease whose session broke is taken again.

        That is safe while the move stands where it stood: whoever had the lease in between has brought it no
        further, and what he began is begun anew, as after his death.

        Raises:
            LeaseLost: another mover has the lease, or has had it and gone on with the move.
            OSError, asyncpg.PostgresError, ...: one of `TRANSIENT`; the control database is away. Ask again.
        """
        try:
            self._last_seen = await self._look()
        except TRANSIENT as error:
            if not (await self.acquire() and await self._is_unchanged()):
                raise LeaseLost(self._move) from error

    @contextlib.asynccontextmanager
    async def without_visitors(self) -> AsyncIterator[None]:
        """For a flip: no operator's scope writes or goes over all databases meanwhile.

        It would count the tenant twice, or leave behind what it has not committed yet.

        Such a scope takes its lock first, and then waits until flips have gone; a flip takes its own first, and
        then looks for such scopes. So one of the two sees the other.

        Raises:
            FenceMissed: one does now. Tried, never waited for: it may last as long as a report.
        """
        connection = self._connection
        if connection is None:
            raise ConnectionError(f"the session of the lease of move {self._move} is gone")
        taken = None
        try:
            taken = await connection.fetchval(
                "SELECT pg_try_advisory_lock_shared($1)", FLIPPING, timeout=_ANSWER_SECONDS
            )
            if not taken or await connection.fetchval(_VISITED, VISITING, timeout=_ANSWER_SECONDS):
                raise FenceMissed(
                    "an operator's scope is open (router.operators, or a router.operator that writes)"
                )
            yield
        finally:
            if taken is not False and not connection.is_closed():  # None: it may have been taken
                await run_shielded(
                    _unlock(connection), seconds=_ANSWER_SECONDS + 1, name=f"letting visitors past {self._move}"
                )

    async def _is_unchanged(self) -> bool:
        """Whether the move stands where it stood; if that can't be seen, the lease is not ours either."""
        try:
            return await self._look() == self._last_seen
        except BaseException:
            await self.release()
            raise

    async def _look(self) -> asyncpg.Record | None:
        if self._connection is None:
            raise ConnectionError(f"the session of the lease of move {self._move} is gone")
        return await self._connection.fetchrow(_STATE, self._move, timeout=_ANSWER_SECONDS)


async def _migrated(connection: Connection, databases: Collection[str]) -> str | None:
    """Keep migrations from these databases as long as the session lives; or the name of one that is migrated now.

    A migration that is about to be refused, for it has seen our move in the journal, holds it for a moment.
    """
    loop, query = asyncio.get_running_loop(), sql.query("move/unmigrated")
    deadline = loop.time() + _ANSWER_SECONDS
    while True:
        name: str | None = await connection.fetchval(query, MIGRATED, list(databases), timeout=_ANSWER_SECONDS)
        if name is None or loop.time() > deadline:
            return name
        await asyncio.sleep(0.2)


async def _unlock(connection: Connection) -> None:
    with contextlib.suppress(*TRANSIENT, asyncpg.PostgresError):  # a session that is gone holds nothing
        await connection.execute(f"SELECT pg_advisory_unlock_shared({FLIPPING})", timeout=_ANSWER_SECONDS)
