"""Trying again: a step while connections break, a fence while it is missed. Each caller says what counts."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import asyncpg

from tenantry import sql
from tenantry.move.context import MoveContext
from tenantry.move.errors import DataDiffers, MoveError, MoveStopped
from tenantry.move.interrupt import Interrupted
from tenantry.move.limits import Limits
from tenantry.move.progress import Retrying
from tenantry.move.session import session
from tenantry.runtime.connection_errors import TRANSIENT

T = TypeVar("T")

#: Longest wait between two attempts at a fence, and between two of a step. Seconds.
_LONGEST_BACKOFF: Final = 8.0
_LONGEST_WAIT: Final = 5.0


@dataclass(frozen=True, slots=True)
class Step(Generic[T]):
    """A named piece of work that is done again when connections break."""

    name: str
    run: Callable[[MoveContext], Coroutine[Any, Any, T]]
    breakable: bool = True
    """False: an operator's wish to stop waits until its end."""


class OutOfAttempts(Exception):
    """Every attempt missed. `last`: why the last one did."""

    def __init__(self, last: BaseException) -> None:
        self.last = last
        super().__init__(str(last))


def backoff(limits: Limits, attempt: int) -> float:
    """Seconds to wait after a missed attempt; the first is 1."""
    return min(limits.backoff * 2.0 ** (attempt - 1), _LONGEST_BACKOFF)


async def attempts(
    context: MoveContext,
    attempt: Callable[[int], Awaitable[T]],
    *,
    missed: tuple[type[BaseException], ...],
    on_miss: Callable[[int, BaseException, float], Awaitable[None]] | None = None,
) -> T:
    """Make up to `limits.attempts` attempts, numbered from 1, with growing waits between them.

    Args:
        missed: errors after which the world is as before the attempt, so that another may follow.
        on_miss: told the attempt's number, the error, and the seconds until the next one; 0: there is none.

    Raises:
        OutOfAttempts: all of them missed.
    """
    limits = context.limits
    for number in range(1, limits.attempts + 1):
        try:
            return await attempt(number)
        except missed as error:
            last = error
        wait = backoff(limits, number) if number < limits.attempts else 0.0
        if on_miss is not None:
            await on_miss(number, last, wait)
        await asyncio.sleep(wait)
    raise OutOfAttempts(last)


async def persist(context: MoveContext, step: Step[T]) -> T:
    """Run a step, again and again while connections break, within the limits' patience.

    Raises:
        MoveStopped: they go on breaking.
        LeaseLost: another mover runs the move, or has gone on with it.
    """
    deadline = time.monotonic() + context.limits.patience
    wait = 0.1
    while True:
        try:
            # What broke our sessions may have taken the lease with it, and another mover may have gone on: to
            # begin, or begin again, would undo what it has done.
            await context.lease.check()
            return await (context.interrupt.run(step.run(context)) if step.breakable else step.run(context))
        except (MoveError, Interrupted, asyncio.CancelledError):
            raise
        except (*TRANSIENT, asyncpg.PostgresError, ExceptionGroup) as error:
            cause = first_cause(error)
            if isinstance(cause, MoveError) and not isinstance(cause, DataDiffers):
                raise cause from error
            # A full disk is no broken connection: it is not tried again until somebody has made room.
            lasting = not isinstance(cause, TRANSIENT) or isinstance(cause, asyncpg.DiskFullError)
            if lasting or time.monotonic() + wait > deadline:
                why = f"step {step.name}: {describe(cause)}"
                if isinstance(cause, asyncpg.LockNotAvailableError):
                    why += await _holders(context)
                raise MoveStopped(context.plan.id, why) from error
            context.tell(Retrying(context.plan.id, step.name, describe(cause), wait))
            await context.interrupt.run(asyncio.sleep(wait))
            wait = min(wait * 2, _LONGEST_WAIT)


async def _holders(context: MoveContext) -> str:
    """What a lock was waited for: who has had the tables that travel, or tenantry's own, longer than a second."""
    tables = (*context.plan.names(), "tenantry.placement", "tenantry.move_gate", "tenantry.move_marker")
    found: dict[str, None] = {}
    for place in (context.source, context.target):
        with contextlib.suppress(asyncpg.PostgresError, *TRANSIENT):
            async with session(place, f"holders {context.plan.id}") as connection:
                for table in tables:
                    for row in await connection.fetch(sql.query("move/users"), table):
                        if row["long"]:
                            found[f"{row['who']} in {place.name}"] = None
    return f"; in use by {', '.join(list(found)[:5])}: end what is idle there" if found else ""


def first_cause(error: BaseException) -> BaseException:
    """The first error of a group, down to the one that says something."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def describe(error: BaseException) -> str:
    """An error in one line, with the database where it happened if that is known."""
    where = "".join(f" {note}" for note in getattr(error, "__notes__", ()))
    text = " ".join(str(error).split())
    return f"{type(error).__name__}{where}" + (f": {text}" if text else "")
