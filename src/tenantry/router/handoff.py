"""The end of a scope, and the beginning of the next one on the same connection, in one flight.

The caller whose scope ends waits for the answer to its COMMIT. The caller whose turn is next does not: its opening
is sent behind the COMMIT and its statement behind that, and what the server says to them comes after the COMMIT's
answer. Either may be cancelled meanwhile: what was sent is on its way, and what is done with the answers does not
hang on who waits for them.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import asyncpg

from tenantry.errors import CommitUnknown
from tenantry.router import disconnect, driver, scope
from tenantry.router.answers import IDLE, Answer, Unit
from tenantry.router.binding import BindingPool
from tenantry.router.messages import SYNC
from tenantry.router.scope import ScopeOutcome
from tenantry.router.waiter import PooledConnection, Waiter
from tenantry.router.wire import Ending
from tenantry.runtime.sqlstates import LEFTOVERS, REFUSALS

#: Seconds that a COMMIT whose caller was cancelled may take; then it is cancelled, and the connection closed.
PATIENCE = 1.0


class HandoffPool(BindingPool, Protocol):
    """The pool, as the hand-off sees it. None of these awaits."""

    def next_waiter(self, pooled: PooledConnection, waiter: Waiter) -> Waiter | None:
        """Give the waiter's place up, and choose who gets its connection; None: nobody, or not at once."""

    def grant(self, pooled: PooledConnection, waiter: Waiter, *, bound: bool) -> None:
        """The connection is the waiter's, its scope open or not."""

    def put_back(self, waiter: Waiter) -> None:
        """The chosen waiter goes back to the head of its queue."""

    def answered(self, pooled: PooledConnection, waiter: Waiter) -> None:
        """The scope before the waiter's has ended: only now is the connection the waiter's alone."""

    def abandon(self, pooled: PooledConnection, waiter: Waiter) -> None:
        """The waiter leaves, while the scope before has not ended: clean the connection when it has."""


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
    if (sent := driver.ended(connection)) is not None:
        return await _sent_before(owner, pooled, waiter, command, sent)
    if driver.untouched(connection):
        owner.withdraw(pooled, waiter)
        owner.take_back(pooled)
        return ScopeOutcome.COMMITTED if command == "COMMIT" else ScopeOutcome.ROLLED_BACK
    if driver.predecessors(connection):
        empty = driver.unopened(connection)
        owner.abandon(pooled, waiter)
        if command == "COMMIT" and not empty:
            raise asyncpg.InterfaceError("cannot perform operation: another operation is in progress")
        return ScopeOutcome.COMMITTED if command == "COMMIT" else ScopeOutcome.ROLLED_BACK
    try:
        if driver.is_cancelling(connection):
            await disconnect.wait_cancelled(connection)
        driver.ensure_quiet(connection)
    except BaseException:
        owner.withdraw(pooled, waiter)
        owner.connections.drop(pooled, "broken")
        raise
    following = owner.next_waiter(pooled, waiter)
    pooled.dirty = True
    if following is not None:
        ended = _end_and_open(owner, pooled, following, command)
    else:
        (ended,) = driver.send(connection, scope.end(command, pooled.proof_context))
        ended.on_answer(lambda answer: _reset(owner, pooled, answer))
    # With nobody next, until the connection is idle again: else the caller's next scope would open another.
    return await _told(owner, pooled, waiter, command, ended)


def _end_and_open(owner: HandoffPool, pooled: PooledConnection, following: Waiter, command: str) -> Unit:
    """Send an end, and the next caller's opening behind it. Returns the answer to the end."""
    connection, context = pooled.connection, pooled.proof_context
    ending = scope.end(command, context, reset=False)
    opening = following.opening.opening(context, driver.statements(connection, context.pooled), scope.Before.ENDED)
    if following.alone or not context.pipelined:
        ended, opened = driver.send(connection, ending + opening.data + SYNC, 2)
        opened.on_answer(lambda answer: _opened(owner, pooled, following, answer))
        return ended
    following.riding = True
    owner.grant(pooled, following, bound=True)
    ended = driver.hand_over(connection, ending, opening, following.deadline, prompt=following.prompt)
    ended.on_answer(lambda _: owner.answered(pooled, following))
    return ended


async def _sent_before(
    owner: HandoffPool, pooled: PooledConnection, waiter: Waiter, command: str, sent: Ending
) -> ScopeOutcome:
    """The scope's end was sent behind its only statement: COMMIT, which rolls back where that has failed."""
    pooled.dirty = True
    owner.withdraw(pooled, waiter)
    sent.unit.on_answer(lambda answer: _reset(owner, pooled, answer))
    outcome = await _told(owner, pooled, waiter, command, sent.unit)
    if sent.statement.status == IDLE and command == "COMMIT":
        return ScopeOutcome.ENDED
    return outcome


async def _told(
    owner: HandoffPool,
    pooled: PooledConnection,
    waiter: Waiter,
    command: str,
    ended: Unit,
) -> ScopeOutcome:
    """What the caller is told when the end is answered. Raises as `finish`."""
    try:
        answer = await ended.answered()
    except asyncio.CancelledError:
        owner.connections.drop_unless(pooled, ended, PATIENCE)
        raise
    outcome = scope.outcome(answer)
    if outcome is ScopeOutcome.REFUSED and command == "COMMIT":
        assert answer.error is not None
        raise answer.error
    if outcome is ScopeOutcome.UNKNOWN and command == "COMMIT":
        raise CommitUnknown(waiter.tenant) from answer.error
    return outcome


def _reset(owner: HandoffPool, pooled: PooledConnection, answer: Answer) -> None:
    """The scope has ended, and nobody waits for its connection in particular."""
    if pooled.dropped:
        return
    if answer.lost or (answer.error is not None and answer.completed):  # the reset has failed
        owner.connections.drop(pooled, "broken")
        return
    pooled.dirty = answer.in_transaction or answer.error is not None  # where COMMIT fails, the reset is not run
    if driver.is_cancelling(pooled.connection):
        owner.connections.clean_later(pooled)
    else:
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
        owner.connections.drop(pooled, "broken" if answer.lost else "leftovers")
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
