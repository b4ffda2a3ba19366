"""A subscription's worker that fails: how often it has, and what it says."""

from __future__ import annotations

import contextlib
import re
from typing import Final

import asyncpg

from tenantry.move.session import Connection

#: Errors, without anything applied in between, after which a worker is taken to fail for good. The server starts
#: it again after each (wal_retrieve_retry_interval, 5 s).
PERSISTENT: Final = 3
_ERRORS: Final = "SELECT coalesce(sum(apply_error_count), 0) FROM pg_stat_subscription_stats WHERE subname = $1"
_OID: Final = "SELECT oid::text FROM pg_subscription WHERE subname = $1"
#: The end of the server's log, where our role may read it and the server keeps it itself (logging_collector).
_LOG: Final = (
    "SELECT pg_read_file(f, greatest((pg_stat_file(f)).size - 65536, 0), 65536, true) "
    "FROM pg_current_logfile() AS f WHERE f IS NOT NULL"
)


async def errors(subscriber: Connection, name: str) -> int:
    """How often the worker of a subscription could not apply a change."""
    return int(await subscriber.fetchval(_ERRORS, name))


async def last_error(subscriber: Connection, name: str) -> str | None:
    """What the worker said last, from its server's log; None: the log can't be read from here."""
    with contextlib.suppress(asyncpg.PostgresError):
        oid, log = await subscriber.fetchval(_OID, name), await subscriber.fetchval(_LOG)
        return None if oid is None or log is None else find_error(log, oid)
    return None


def find_error(log: str, oid: str) -> str | None:
    """The last error in a log that the worker of the subscription with this object id has met."""
    lines = log.splitlines()
    origin = re.compile(rf'replication origin "pg_{re.escape(oid)}"')
    for number in range(len(lines) - 1, -1, -1):
        if origin.search(lines[number]):
            for line in reversed(lines[: number + 1]):
                if "ERROR:" in line:
                    return line.partition("ERROR:")[2].strip()
    return None


async def explain(subscriber: Connection, database: str, name: str) -> str:
    """Why a worker does not go on, for a message."""
    said = await last_error(subscriber, name)
    failed = f"the subscription {name} in {database} meets an error again and again"
    return f"{failed}: {said}" if said else f"{failed}; the log of {database}'s server says which"
