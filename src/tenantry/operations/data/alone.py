"""One at a time works on a tenant's data, and no move of it begins meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from tenantry import sql
from tenantry.errors import DatabaseUnavailable, OperationRefused
from tenantry.move import MoveBusy
from tenantry.move.errors import in_words
from tenantry.operations.context import Context
from tenantry.router.driver import Connection
from tenantry.runtime import locks
from tenantry.runtime.connection_errors import DATABASE_ERRORS

_ANSWER_SECONDS = 5.0


class Alone:
    """The lock, held by a session with the control database."""

    def __init__(self, control: Connection, tenant: str) -> None:
        self._control = control
        self._tenant = tenant

    async def check(self) -> None:
        """Make sure that the lock is still held: right before what can't be taken back.

        Raises:
            DatabaseUnavailable: its session has ended; somebody else may have the lock.
        """
        try:
            await self._control.execute("SELECT 1", timeout=_ANSWER_SECONDS)
        except DATABASE_ERRORS as error:
            raise DatabaseUnavailable(
                "control", f"the session that held tenant {self._tenant}'s lock has ended; run the same again"
            ) from error


@contextlib.asynccontextmanager
async def alone(context: Context, tenant: str) -> AsyncIterator[Alone]:
    """Be the only one who brings this tenant's data in or deletes them.

    A move takes the same lock, shared, in the statement that opens its journal (`move.journal.Journal.open`). We
    take it first and look for a move then; so one of the two sees the other.

    Raises:
        OperationRefused: somebody else is at it.
        MoveBusy: the tenant has a move that is not finished, one that could still be rolled back included.
    """
    async with context.control() as control:
        await control.execute("SET idle_session_timeout = 0")  # it says nothing while rows travel
        taken = await control.fetchval("SELECT pg_try_advisory_lock($1, hashtext($2))", locks.TENANT_DATA, tenant)
        if not taken:
            raise OperationRefused(
                f"tenant {tenant} is being imported or erased by somebody else, or begins a move"
            )
        move = await control.fetchrow(sql.query("move/unfinished"), tenant)
        if move is not None:
            raise MoveBusy(
                move["id"], f"it is {in_words(move['state'])}; end it by release, rollback or abort first"
            )
        yield Alone(control, tenant)
