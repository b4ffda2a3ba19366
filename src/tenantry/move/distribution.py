"""Tables that Citus distributes: which they are, and how a move writes them on the workers."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Final

from tenantry import sql
from tenantry.move.session import Connection

_CITUS: Final = "SELECT to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL"


async def has_citus(connection: Connection) -> bool:
    """Whether a database has Citus."""
    return bool(await connection.fetchval(_CITUS))


async def read(connection: Connection, tables: Sequence[str]) -> dict[str, str]:
    """Those of `tables` (quoted names) that Citus manages, each with what distributes it; "": it is whole."""
    if not await has_citus(connection):
        return {}
    rows = await connection.fetch(sql.query("move/distributed"), list(tables))
    return {row["name"]: row["column"] for row in rows}


@contextlib.asynccontextmanager
async def writing(connection: Connection) -> AsyncIterator[None]:
    """Inside: what the session writes fires no triggers and checks no foreign keys on the workers either.

    The session is a replica already; Citus carries that to its workers by SET LOCAL alone, in a transaction, and
    sends the whole message that holds it. Where Citus is not, this is nothing.
    """
    if not await has_citus(connection):
        yield
        return
    async with connection.transaction():
        await quiet_workers(connection)
        yield


async def quiet_workers(connection: Connection) -> None:
    """The same for the rest of the transaction that is open. Only where Citus is."""
    await connection.execute("SET LOCAL citus.propagate_set_commands = 'local'")
    await connection.execute("SET LOCAL session_replication_role = 'replica'")
