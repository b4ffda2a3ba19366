"""Which tenant tables have no guard, asked of a database: what keeps a move away, and a hardened router."""

from __future__ import annotations

from typing import Any

import asyncpg

from tenantry.catalog.read import bare_tables, read_tables
from tenantry.catalog.tables import tenant_tables
from tenantry.catalog.tenancy import Tenancy
from tenantry.sql import query


async def unproven(
    connection: asyncpg.Connection[Any], tenancy: Tenancy, *, timeout: float | None = None
) -> list[tuple[str, str]]:
    """Where the policies of a hardened database believe the setting: each problem of this role's, with its fix.

    Tables that hold, or may hold, tenants' rows and that the role may use. One more flight at each connect.
    """
    rows = await connection.fetch(query("catalog/unproven"), timeout=timeout)
    suspects = tenant_tables(bare_tables(rows), tenancy).suspects
    why = "whose policies believe the setting, not the router's proof (it has no hardened guard)"
    return [
        (f"it may use {row['table']}, {why}", "run `tenantry rls apply`")
        for row in rows
        if row["table"] is not None and row["oid"] in suspects
    ]


async def unguarded(connection: asyncpg.Connection[Any], tenancy: Tenancy) -> tuple[str, ...]:
    """The tenant tables that the fence of a move would not hold for everybody, quoted. Inside a transaction."""
    tables = await read_tables(connection)
    names = [tables.relations[oid].sql for oid in tenant_tables(tables, tenancy).tenants]
    await connection.execute("SET LOCAL search_path = pg_catalog")  # as expressions are to be printed
    return tuple(row["table"] for row in await connection.fetch(query("catalog/unguarded"), names))
