"""Rows of tenant tables whose tenant is spelt otherwise than ids are: read for the audit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import asyncpg

from tenantry.catalog.spelling import can_be_misspelt, misspelt_sql
from tenantry.catalog.tables import tenant_tables
from tenantry.catalog.tenancy import Tenancy
from tenantry.catalog.values import Catalog
from tenantry.runtime.sqltext import identifier

#: Values that are shown of one table.
SHOWN = 5


class Misspelt(NamedTuple):
    """What was found in one table."""

    values: tuple[str, ...]
    """Some of the values; empty: the table could not be read, or not in time."""
    query: str
    """Lists the rows."""


async def read_misspelt(
    connection: asyncpg.Connection[Any], catalog: Catalog, tenancy: Tenancy, *, seconds: float = 10.0
) -> Mapping[int, Misspelt]:
    """Look through the tenant columns of text, each for so long. Tables without such rows are left out."""
    found = {}
    for oid, column in tenant_tables(catalog, tenancy).tenants.items():
        relation = catalog.relations[oid]
        if relation.kind != "r" or not can_be_misspelt(column):
            continue
        where = f"FROM ONLY {relation.sql} WHERE {misspelt_sql(column.name, tenancy.id_type)}"
        values = await _values(
            connection, f"SELECT DISTINCT {identifier(column.name)}::text AS id {where}", seconds
        )
        if values is None or values:
            found[oid] = Misspelt(values or (), f"SELECT * {where}")
    return found


async def _values(connection: asyncpg.Connection[Any], query: str, seconds: float) -> tuple[str, ...] | None:
    try:
        async with connection.transaction():
            await connection.execute(
                f"SET LOCAL row_security = off; SET LOCAL statement_timeout = {max(1, int(seconds * 1000))}"
            )
            return tuple(row["id"] for row in await connection.fetch(f"{query} ORDER BY 1 LIMIT {SHOWN}"))
    except (
        asyncpg.InsufficientPrivilegeError,
        asyncpg.QueryCanceledError,
        asyncpg.UndefinedTableError,
        asyncpg.FeatureNotSupportedError,  # normalize() knows UTF8 only
    ):
        return None
