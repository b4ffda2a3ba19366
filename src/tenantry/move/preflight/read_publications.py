"""The publications of the product's own that have the tenant's tables."""

from __future__ import annotations

from collections.abc import Sequence

from tenantry import sql
from tenantry.move.plan import TablePlan
from tenantry.move.preflight.facts import PublishedTable
from tenantry.move.session import Connection
from tenantry.runtime.sqltext import identifier


async def read(connection: Connection, database: str, tables: Sequence[TablePlan]) -> tuple[PublishedTable, ...]:
    """Those that a replica identity may break. A copy under the fence sets none."""
    names = [table.quoted for table in tables if table.identity is not None]
    rows = await connection.fetch(sql.query("move/publications"), names)
    return tuple(
        PublishedTable(
            database,
            row["table"],
            row["part"],
            identifier(row["publication"]),
            tuple(row["listed"]),
            tuple(row["filtered"]),
            row["filter"],
        )
        for row in rows
    )
