"""The dead man's switch: the server itself ends a fence's transaction in time, whoever is frozen, dead or cut off.

PostgreSQL has no timeout of a transaction before 17, only one for each statement and each idle time between two.
So the fence notes on the server when it began, and every one of its statements is followed by `rest`: what comes
next, silence or a statement, gets what is left of the cap. Only the server's clock counts: the mover's would leave
too much when the mover itself stood still between looking at it and sending.
"""

from __future__ import annotations

from typing import Final

from tenantry.move.limits import Limits

#: Part of the pause that is the clients': until the last of them has noticed that the fence is gone. Seconds.
NOTICE: Final = 0.1


def cap(limits: Limits) -> float:
    """Seconds that a fence may take, from asking for its lock on."""
    return max(limits.pause - NOTICE, limits.pause / 2)


def start(limits: Limits) -> str:
    """Statements with which the fence's time begins. 17 and newer bound the transaction as a whole as well."""
    whole = _milliseconds(limits)
    return (
        "SELECT set_config('tenantry.fence_began', extract(epoch FROM clock_timestamp())::text, true); "  # noqa: S608  numbers
        f"SET LOCAL statement_timeout = {whole}; "
        f"SET LOCAL idle_in_transaction_session_timeout = {whole}; "
        f"SELECT set_config('transaction_timeout', wanted, true) FROM (VALUES ('0'), ('{whole}')) AS v (wanted) "
        "WHERE current_setting('server_version_num')::int >= 170000"
    )


def rest(limits: Limits) -> str:
    """A statement that leaves the next one, and the silence before it, what is left of the cap."""
    return (
        "SELECT set_config('idle_in_transaction_session_timeout', rest, true), "  # noqa: S608  numbers
        "set_config('statement_timeout', rest, true) FROM (SELECT greatest(1, floor("
        f"{_milliseconds(limits)} - 1000 * (extract(epoch FROM clock_timestamp()) "
        "- current_setting('tenantry.fence_began')::numeric)))::int::text) AS left_over (rest)"
    )


def _milliseconds(limits: Limits) -> int:
    return max(1, int(cap(limits) * 1000))
