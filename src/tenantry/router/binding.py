"""How a waiter's scope is opened on a connection of the pool, and what becomes of the connection where it is not.

The usual scope is opened by its first statement (see `openings`). What is here answers for the others, and for a
connection of which nothing was heard for a while.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from tenantry.errors import DatabaseUnavailable
from tenantry.router import driver, scope
from tenantry.router.answers import Answer
from tenantry.router.connections import ANSWER, CLEANUP, QUIET, Connections
from tenantry.router.messages import SYNC, OpeningMessages
from tenantry.router.waiter import PooledConnection, Waiter
from tenantry.runtime.shielded import run_shielded
from tenantry.runtime.sqlstates import CANCELLED, LEFTOVERS, REFUSALS

#: How often an opening is sent again that somebody else's cancel request has interrupted.
RETRIES: Final = 5


class BindingPool(Protocol):
    """The pool, as this module sees it. None of these awaits."""

    database: str

    @property
    def connections(self) -> Connections:
        """Where its connections are."""

    def withdraw(self, pooled: PooledConnection, waiter: Waiter) -> None:
        """The waiter does not get the connection; its place is given up."""

    def take_back(self, pooled: PooledConnection) -> None:
        """The connection goes to the next caller, to cleanup, or to the idle ones."""


async def bind(owner: BindingPool, pooled: PooledConnection, waiter: Waiter) -> bool:
    """Open the waiter's scope on the connection, or let its first statement open it.

    False: the connection is of no use; try another.

    Raises:
        DatabaseUnavailable: no answer within the deadline.
        asyncpg.PostgresError: the opening was refused.
    """
    loop = asyncio.get_running_loop()
    now = loop.time()
    quiet = now - pooled.heard
    opening = _opening(pooled, waiter, scope.Before.OPEN if pooled.dirty else scope.Before.CLEAN)
    if pooled.proof_context.pipelined and not waiter.alone and quiet < QUIET:
        driver.open_with(pooled.connection, opening, waiter.deadline, prompt=waiter.prompt)
        return True
    pooled.dirty = True
    (opened,) = driver.send(pooled.connection, opening.data + SYNC)
    try:
        deadline = max(waiter.deadline, now + 0.001)
        async with asyncio.timeout_at(deadline if quiet < QUIET else min(deadline, now + ANSWER)):
            answer = await opened.answered()
    except asyncio.CancelledError:
        owner.withdraw(pooled, waiter)
        await run_shielded(owner.connections.clean(pooled), seconds=CLEANUP, name="tenantry cleanup")
        raise
    except TimeoutError:
        owner.withdraw(pooled, waiter)
        if quiet >= QUIET and loop.time() < waiter.deadline:
            owner.connections.drop_quiet(pooled, quiet)
            return False
        owner.connections.clean_later(pooled)
        raise DatabaseUnavailable(owner.database, "no answer within the deadline") from None
    if answer.error is None:
        return True
    owner.withdraw(pooled, waiter)
    take_back_unopened(owner, pooled, answer)
    if answer.lost or answer.error.sqlstate == LEFTOVERS:
        return False
    if answer.error.sqlstate == CANCELLED and waiter.retried < RETRIES:
        waiter.retried += 1  # by an operator, or a cancel request that came late: nothing has run
        return False
    raise answer.error


async def bind_again(pooled: PooledConnection, waiter: Waiter) -> bool:
    """Open a scope of which nothing has run once more, on its connection, which has forgotten everything.

    False: it did not work.
    """
    connection = pooled.connection
    if connection.is_closed() or driver.is_cancelling(connection):
        return False
    driver.forget(connection)
    (opened,) = driver.send(connection, _opening(pooled, waiter, scope.Before.OUTDATED).data + SYNC)
    return (await opened.answered()).error is None


def take_back_unopened(owner: BindingPool, pooled: PooledConnection, answer: Answer) -> None:
    """A scope could not be opened on the connection: part with it, or bring it back to a clean state."""
    state = None if answer.error is None else answer.error.sqlstate
    if answer.lost or state == LEFTOVERS:
        owner.connections.drop(pooled, "broken" if answer.lost else "leftovers")
    elif state in REFUSALS:
        owner.take_back(pooled)
    else:
        owner.connections.clean_later(pooled)


def _opening(pooled: PooledConnection, waiter: Waiter, before: scope.Before) -> OpeningMessages:
    context = pooled.proof_context
    return waiter.opening.opening(context, driver.statements(pooled.connection, context.pooled), before)
