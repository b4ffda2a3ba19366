"""Transactions that a test has left behind: told, and not waited for."""

from __future__ import annotations

from typing import Any, Final

import asyncpg

#: Seconds that a transaction which is just ending gets.
_PATIENCE: Final = 2
_CUT: Final = """
SELECT pg_terminate_backend(pid), round(extract(epoch FROM clock_timestamp() - xact_start))::int AS seconds,
       left(query, 200) AS query
FROM pg_stat_activity WHERE datname = current_database() AND usename = $1 AND xact_start IS NOT NULL
"""


class ScopeLeftOpen(AssertionError):
    """Scopes were entered and not left.

    Attributes:
        scopes: a line for each: whose, on which database, entered by whom; or what it ran last.
    """

    def __init__(self, scopes: tuple[str, ...]) -> None:
        self.scopes = scopes
        shown = "".join(f"\n  {scope}" for scope in scopes)
        what = "a scope was" if len(scopes) == 1 else f"{len(scopes)} scopes were"
        super().__init__(
            f"{what} left open:{shown}\n"
            "A scope that is not left keeps its connection and its transaction: enter it by `async with`"
        )


async def run_alone(owner: Any, role: str, script: str) -> tuple[str, ...]:
    """Run a script, as one transaction, that wants tables for itself.

    Transactions of the application role that keep it waiting are cut off: they would keep the next tests waiting.

    Returns:
        What was cut off, in words.
    """
    timed = f"SET LOCAL lock_timeout = '{_PATIENCE}s'; SET LOCAL client_min_messages = warning; {script}"
    try:
        async with owner.transaction():
            await owner.execute(timed)
        return ()
    except asyncpg.LockNotAvailableError:
        rows = await owner.fetch(_CUT, role)
        async with owner.transaction():
            await owner.execute(timed)
    return tuple(
        f"a transaction since {row['seconds']} s, whose last statement was: {row['query']}" for row in rows
    )
