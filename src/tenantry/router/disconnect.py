"""Parting with a connection, and with whatever still runs on it.

A server that executes does not look whether its client is there: with the connection closed it would go on to
the statement's end, and its transaction would keep the tenant's locks (a move waits for them) and a server
process. So the statement is cancelled first, by PostgreSQL's cancel request: a second connection that names the
first one's process and secret. Three things about it decide the order of things here.

It comes before the closing. PgBouncer forwards a request to the server process that the client has *now*, and
forgets the client with its connection. While we wait, the client has no statement but the one to be cancelled,
and its transaction is open, so PgBouncer can't have given the process to anybody else. (If the application has
ended the transaction by hand, it may be free any moment: from 1.18 on PgBouncer keeps such a process back until
the request has ended.) When the connection is closed with its transaction open, PgBouncer closes the process's.

It may come too early, while the server reads the statement or between two messages of one statement, or get lost:
it has no answer of its own. So it is sent again until the statement has ended.

It may come too late: a request whose end we have not seen may be on its way still. So requests are repeated only
for a connection that nobody will use again.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import asyncpg

from tenantry.router import driver
from tenantry.router.driver import Connection
from tenantry.runtime.connection_errors import DATABASE_ERRORS
from tenantry.runtime.shielded import stop

#: Seconds that a cancelled statement may take to end on a connection that is to be used again.
CANCEL_TIMEOUT: Final = 2.0

#: Seconds that disconnect with a connection may take; then it is cut, whatever the server does.
CLOSE_TIMEOUT: Final = 3.0

#: Seconds between two cancel requests, and for one.
_AGAIN: Final = 0.25
_ATTEMPT: Final = 1.0


async def wait_cancelled(connection: Connection) -> None:
    """Wait until a cancelled statement has ended.

    Raises:
        asyncpg.InterfaceError: it goes on, so the connection can't be used.
    """
    if driver.is_cancelling(connection):
        try:
            async with asyncio.timeout(CANCEL_TIMEOUT):
                await driver.cancellation(connection)
        except TimeoutError:
            raise asyncpg.InterfaceError("another operation is in progress, and can't be cancelled") from None


async def cancel_and_close(connection: Connection) -> None:
    """End what runs on the connection, say goodbye, and wait until the server has gone. Bounded.

    Waiting keeps the count of connections exact.
    """
    if driver.awaits_answer(connection):  # to a unit of ours, a COMMIT that does not end
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await _cancel_unit(connection)
    resending = asyncio.create_task(_resend_cancel(connection))
    try:
        await driver.close(connection, CLOSE_TIMEOUT)
    finally:
        await stop(resending)


async def _cancel_unit(connection: Connection) -> None:
    while driver.awaits_answer(connection):
        with contextlib.suppress(*DATABASE_ERRORS):
            async with asyncio.timeout(_ATTEMPT):
                await driver.cancel(connection)
        await driver.answered(connection, _AGAIN)


async def _resend_cancel(connection: Connection) -> None:
    """asyncpg has sent one cancel request, if a statement runs: send more until that is answered."""
    await asyncio.sleep(_AGAIN)
    while driver.is_cancelling(connection):
        with contextlib.suppress(*DATABASE_ERRORS):
            async with asyncio.timeout(_ATTEMPT):
                await driver.cancel(connection)
        await asyncio.sleep(_AGAIN)
