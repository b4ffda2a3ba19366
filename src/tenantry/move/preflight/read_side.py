"""One end of a move, read from its catalogs."""

from __future__ import annotations

import json
from typing import Any, Final

from tenantry import sql
from tenantry.move.catalog import Generator, Local, Side
from tenantry.move.preflight.read_tables import read_tables
from tenantry.move.session import Connection, newer_settings

#: Seconds (PostgreSQL 18 and newer).
_SLOT_TIMEOUT: Final = (
    "SELECT setting::int * CASE unit WHEN 'min' THEN 60 ELSE 1 END FROM pg_settings "
    "WHERE name = 'idle_replication_slot_timeout'"
)
_ORIGINS: Final = "SELECT count(*) FROM pg_show_replication_origin_status()"


#: A subscription's worker of ours has the settings of its role, of the database, of the role in the database (the
#: later goes before), and nothing of a session's own. Of the server's timeouts two
#: count for it, transaction_timeout and lock_timeout; the others are a client's (postgres.c, xact.c, proc.c).
_LOCK_TIMEOUT: Final = """
SELECT split_part(setting, '=', 2) FROM pg_db_role_setting AS s, unnest(s.setconfig) AS setting
WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
  AND s.setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = current_user))
  AND split_part(setting, '=', 1) = 'lock_timeout'
ORDER BY s.setrole <> 0 DESC, s.setdatabase <> 0 DESC LIMIT 1
"""


async def _worker_lock_timeout(connection: Connection) -> int:
    """Milliseconds that such a worker waits for a lock before it fails; 0: until it has it."""
    timeout = await connection.fetchval(_LOCK_TIMEOUT)
    if timeout is None:
        return 0
    async with connection.transaction():
        await connection.execute("SELECT set_config('lock_timeout', $1, true)", timeout)
        return int(await connection.fetchval("SELECT setting::int FROM pg_settings WHERE name = 'lock_timeout'"))


async def _worker_timeout(connection: Connection) -> int:
    """Milliseconds after which the server ends a transaction of such a worker; 0: never."""
    ours = newer_settings(connection.get_server_version().major)
    if not ours:
        return 0
    await connection.execute("RESET transaction_timeout")
    try:
        timeout = await connection.fetchval(
            "SELECT setting::int FROM pg_settings WHERE name = 'transaction_timeout'"
        )
    finally:
        await connection.execute(ours)
    return int(timeout)


async def read_side(connection: Connection) -> Side:
    """Read one end."""
    server = dict((await connection.fetch(sql.query("move/server")))[0])
    if server["sees_origins"]:
        server["origins_used"] = await connection.fetchval(_ORIGINS)
    server["worker_timeouts"] = {
        "transaction_timeout": await _worker_timeout(connection),
        "lock_timeout": await _worker_lock_timeout(connection),
    }
    server["slot_timeout"] = await connection.fetchval(_SLOT_TIMEOUT) or 0
    local = None
    if server["named"]:
        row = await connection.fetchrow(
            "SELECT name, kind, setting, id_type, tenant FROM tenantry.database_identity"
        )
        local = None if row is None else Local(*row)
    details, tables = await read_tables(connection)
    return Side(
        server=server,
        pooled=server["backend"] != connection.get_server_pid(),
        tables=tables,
        sequences=await read_sequences(connection),
        local=local,
        details=details,
    )


async def read_sequences(connection: Connection) -> tuple[Generator, ...]:
    """Every sequence of the application."""
    return tuple(_generator(row) for row in await connection.fetch(sql.query("move/sequences")))


def _generator(row: Any) -> Generator:
    return Generator(**{**row, "feeds": tuple((oid, column) for oid, column in json.loads(row["feeds"]))})
