"""Rows of the moving tenant whose tenant column spells it otherwise: nobody sees them, and they would stay."""

from __future__ import annotations

import asyncpg

from tenantry.catalog.spelling import near_sql
from tenantry.ids import IdType
from tenantry.move.plan import Selection
from tenantry.move.preflight.facts import PATIENCE, MisspeltRows
from tenantry.move.session import Connection

_TEXTS = ("text", "character varying")


async def read(
    connection: Connection, tenant: str, id_type: IdType, selection: Selection
) -> tuple[MisspeltRows, ...]:
    """Count them, in the tables whose tenant column is text, each for `PATIENCE`."""
    found = []
    for table, column in selection.tenant:
        kind = next((one.type for one in table.columns if one.name == column), "")
        if table.foreign or not kind.startswith(_TEXTS):
            continue
        where = near_sql(column, tenant, id_type)
        count = await _count(connection, f"SELECT count(*) FROM {table.quoted} WHERE {where}")  # noqa: S608  quoted
        if count != 0:
            found.append(MisspeltRows(table.quoted, column, count, where))
    return tuple(found)


async def _count(connection: Connection, query: str) -> int | None:
    try:
        async with connection.transaction(readonly=True):
            await connection.execute(f"SET LOCAL statement_timeout = {round(PATIENCE * 1000)}")
            return int(await connection.fetchval(query))
    except (asyncpg.QueryCanceledError, asyncpg.InsufficientPrivilegeError, asyncpg.FeatureNotSupportedError):
        return None
