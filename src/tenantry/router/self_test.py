"""Whether a new connection takes openings in front of asyncpg's statements: asyncpg's insides may change.

What the answer depends on is tried, not looked up: that a statement whose opening is refused does not run, that
one whose opening is not refused gets its own answer, and that an ending sent behind it is answered too. It costs
each new connection three flights. Where anything is not as expected, scopes are opened by units of their own.
"""

from __future__ import annotations

import asyncio
from typing import Final

import asyncpg

from tenantry.router import driver
from tenantry.router.driver import Connection
from tenantry.router.messages import OpeningMessages, answer, simple, statement
from tenantry.router.openings import NotOpened

_MARK: Final = "tenantry:self-test"
_REFUSED: Final = OpeningMessages(statement("BEGIN") + statement("SELECT 1/0"), 2, b"")
_TAKEN: Final = OpeningMessages(
    statement("BEGIN") + statement(f"SET LOCAL application_name TO '{_MARK}'"), 2, answer("BEGIN", "SET")
)
_ROLLBACK: Final = simple("ROLLBACK")
_ASK: Final = "SELECT pg_catalog.current_setting('application_name')"


async def run(connection: Connection, seconds: float) -> str | None:
    """Try it on a connection that is idle. Leaves it as it was.

    Returns:
        None: openings may travel. Else why not; the connection is to be closed.
    """
    try:
        async with asyncio.timeout(seconds):
            return await _try(connection)
    except TimeoutError:
        return "no answer"
    except NotOpened as error:
        return f"an opening was answered by {error.answer.error!r}"
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        return f"{type(error).__name__}: {error}"
    except (
        AttributeError,
        TypeError,
    ) as error:  # a name of asyncpg's is not there any more, or means something else
        return f"asyncpg {asyncpg.__version__} is not as expected: {error}"


async def _try(connection: Connection) -> str | None:
    never = float("inf")
    driver.begin_scope(connection, None)
    driver.open_with(connection, _REFUSED, never)
    try:
        await connection.fetchval(_ASK)
    except NotOpened as refused:
        if not isinstance(refused.answer.error, asyncpg.DivisionByZeroError):
            return f"a refused opening was answered by {refused.answer.error!r}"
    else:
        return "a statement ran although its opening was refused"
    (rolled_back,) = driver.send(connection, _ROLLBACK)
    if (await rolled_back.answered()).in_transaction:
        return "a transaction that was rolled back is open"
    driver.begin_scope(connection, None)
    driver.open_with(connection, _TAKEN, never)
    driver.end_behind(connection, _ASK, _ROLLBACK)
    found = await connection.fetchval(_ASK)
    ended = driver.ended(connection)
    if found != _MARK:
        return f"a statement saw {found!r} where its opening had set {_MARK!r}"
    if ended is None:
        return "an ending was not sent behind its statement"
    last = await ended.unit.answered()
    if last.error is not None or last.completed != ("ROLLBACK",) or last.in_transaction:
        return f"an ending was answered by {last}"
    driver.begin_scope(connection, None)
    driver.end_scope(connection)
    return None
