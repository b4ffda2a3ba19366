"""The tables that Citus distributes, as its own catalog has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tenantry import sql
from tenantry.move.session import Connection

_CITUS: Final = "SELECT to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL"


async def read(connection: Connection, tables: Sequence[str]) -> tuple[str, ...]:
    """Those of `tables` (quoted names) that are distributed, or kept on every node; none where Citus is not."""
    if not await connection.fetchval(_CITUS):
        return ()
    return tuple(row["name"] for row in await connection.fetch(sql.query("move/distributed"), list(tables)))
