"""The end of a scope, and the beginning of the next one on the same connection, in one flight.

Three parties wait for the answers: the caller whose scope ends, for the first unit; the caller whose turn is next,
for the second; and the pool, for whatever becomes of the connection. The first may be cancelled meanwhile: the
units are on their way, and what is done with their answers does not hang on it.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from tenantry.errors import CommitUnknown
from tenantry.router import disconnect, driver, scope
from tenantry.router.scope import ScopeOutcome
from tenantry.router.waiter import PooledConnection, Waiter
from tenantry.router.wire import Answer
from tenantry.runtime.sqlstates import LEFTOVERS, REFUSALS

#: Seconds that a COMMIT whose caller was cancelled may take; then it is cancelled, and the connection closed.
PATIENCE = 1.0


class HandoffPool(Protocol):
    """The pool, as the hand-off sees it. None of these awaits."""

    def next_waiter(self, pooled: PooledConnection, waiter: Waiter) -> Waiter | None:
        """Give the waiter's place up, and choose who gets its connection; None: nobody, or not at once."""

    def grant(self, pooled: PooledConnection, waiter: Waiter, *, bound: bool) -> None:
        """The connection is the waiter's, its scope open or not."""

    def withdraw(self, pooled: PooledConnection, waiter: Waiter) -> None:
        """The chosen waiter does not get the connection; its place is given up."""

    def put_back(self, waiter: Waiter) -> None:
        """The chosen waiter goes back to the head of its queue."""

    def take_back(self, pooled: PooledConnection) -> None:
        """The connection goes to the next caller, to cleanup, or to the idle ones."""

    def drop(self, pooled: PooledConnection, reason: str) -> None:
        """Part with the connection."""

    def watch(self, pooled: PooledConnection, answer: asyncio.Future[Answer], seconds: float) -> None:
        """Part with the connection unless the answer comes in time."""


async def finish(owner: HandoffPool, pooled: PooledConnection, waiter: Waiter, command: str) -> ScopeOutcome:
    """End the waiter's scope by `command`, and open the next caller's in the same flight.

    The connection is no longer the caller's afterwards, whatever happens.

    Returns:
        COMMITTED or ROLLED_BACK.

    Raises:
        asyncpg.PostgresError: why the COMMIT failed; nothing is committed.
        CommitUnknown: the connection went away before COMMIT was answered.
        asyncpg.InterfaceError: a statement was still running; the connection is cut.
    """
    connection = pooled.connection
    try:
        if driver.is_cancelling(connection):
            await disconnect.wait_cancelled(connection)
        driver.ensure_quiet(connection)
    except BaseException:
        owner.withdraw(pooled, waiter)
        owner.drop(pooled, "broken")
        raise
    following = owner.next_waiter(pooled, waiter)
    pooled.dirty = True
    ending = scope.end(command, pooled.proof_context)
    if following is not None:
        opening = following.opening.message(
            pooled.proof_context, driver.statements(connection, pooled.proof_context.pooled), scope.Before.ENDED
        )
        ended, opened = driver.send(connection, ending + opening, 2)
        opened.add_done_callback(lambda answer: _opened(owner, pooled, following, answer.result()))
        last = ended
    else:
        if pooled.proof_context.pooled:
            ended = last = driver.send(connection, ending)[0]
        else:
            ended, last = driver.send(connection, ending + scope.reset(), 2)
        last.add_done_callback(lambda answer: _reset(owner, pooled, answer))
    try:
        # With nobody next, until the connection is idle again: else the caller's next scope would open another.
        await asyncio.shield(last)
        answer = ended.result()
    except asyncio.CancelledError:
        owner.watch(pooled, last, PATIENCE)
        raise
    outcome = scope.outcome(answer)
    if outcome is ScopeOutcome.REFUSED and command == "COMMIT":
        assert answer.error is not None
        raise answer.error
    if outcome is ScopeOutcome.UNKNOWN and command == "COMMIT":
        raise CommitUnknown(waiter.tenant) from answer.error
    return outcome


def _reset(owner: HandoffPool, pooled: PooledConnection, done: asyncio.Future[Answer]) -> None:
    """The connection was reset, and nobody waits for it in particular."""
    answer = done.result()
    if pooled.dropped:
        return
    if answer.error is not None or answer.lost:
        owner.drop(pooled, "broken")
        return
    pooled.dirty = answer.in_transaction
    owner.take_back(pooled)


def _opened(owner: HandoffPool, pooled: PooledConnection, following: Waiter, answer: Answer) -> None:
    """The next caller's opening was answered: give it the connection, or the refusal, or let it try elsewhere."""
    error = answer.error
    if pooled.dropped:
        owner.put_back(following)
    elif error is None:
        if following.waits():
            owner.grant(pooled, following, bound=True)
        else:  # it was cancelled meanwhile
            owner.withdraw(pooled, following)
            owner.take_back(pooled)
    elif answer.lost or error.sqlstate == LEFTOVERS:
        owner.put_back(following)
        owner.drop(pooled, "broken" if answer.lost else "leftovers")
    elif error.sqlstate in REFUSALS:
        owner.withdraw(pooled, following)
        if following.waits():
            assert following.future is not None
            following.future.set_exception(error)
        owner.take_back(pooled)
    elif following.waits():  # nobody's answer: its own message tries again
        owner.grant(pooled, following, bound=False)
    else:
        owner.withdraw(pooled, following)
        owner.take_back(pooled)
