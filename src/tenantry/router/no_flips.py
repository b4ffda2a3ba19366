"""A hold on the flips: as long as it is kept, no tenant changes its home.

It is a shared advisory lock in the control database, which a flip looks for (see `move/lease.py`). Row-level
security, and with it the fence of a move, does not apply to an operator: what one has written, and not committed
when its tenant is flipped, would stay behind in the old home.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from tenantry.errors import DatabaseUnavailable
from tenantry.router import driver
from tenantry.router.driver import Connection
from tenantry.runtime.connection_errors import NOT_CONNECTED, UNREACHABLE, unavailable
from tenantry.runtime.locks import FLIPPING, VISITING
from tenantry.runtime.shielded import run_shielded

#: Seconds for connecting to the control database, and for its answers; a flip keeps it waiting for less than one.
CONTROL_SECONDS: Final = 10.0


@asynccontextmanager
async def no_flips(dsn: str) -> AsyncIterator[Connection]:
    """A transaction in the control database that keeps every tenant where it is.

    Raises:
        DatabaseUnavailable: it does not answer, or a flip does not end.
    """
    try:
        control = await driver.connect(
            dsn,
            timeout=CONTROL_SECONDS,
            application_name="tenantry operators",
            settings={},
            cached_statements=False,
        )
    except NOT_CONNECTED as error:
        raise unavailable("control", error) from error
    try:
        # It is idle as long as the caller works; without a snapshot, so it holds up nobody's vacuum.
        await control.execute(
            "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0; "
            f"SET LOCAL lock_timeout = '{CONTROL_SECONDS:g}s'; SELECT pg_advisory_xact_lock_shared({VISITING}); "
            f"SELECT pg_advisory_lock({FLIPPING}); SELECT pg_advisory_unlock({FLIPPING})",  # flips have gone
            timeout=CONTROL_SECONDS + 1,
        )
        yield control
    except asyncpg.LockNotAvailableError as error:
        raise DatabaseUnavailable(
            "control", "a flip has kept the directory for too long; see `moves list`"
        ) from error
    finally:
        await run_shielded(driver.close(control), seconds=CONTROL_SECONDS, name="tenantry operators close")


async def ask(control: Connection, query: str, *args: object) -> list[asyncpg.Record]:
    """Ask the control database, by the session that keeps the flips away.

    Raises:
        DatabaseUnavailable: the session has broken, so a tenant may have been flipped.
    """
    try:
        return await control.fetch(query, *args, timeout=CONTROL_SECONDS)
    except UNREACHABLE as error:
        raise DatabaseUnavailable(
            "control",
            "the connection that kept every tenant where it is has broken: one may have been met twice or not at "
            "all; repeat the work",
        ) from error


async def still_holds(control: Connection) -> None:
    """Make sure that no tenant was flipped until now. Raises as `ask`."""
    await ask(control, "SELECT 1")
