"""Hides from an operator what a move has left of tenants who live elsewhere.

An operator's role bypasses row-level security, so no policy can do it. For the length of the transaction every
table that a name without a schema means is shadowed by a temporary view, which filters the tenants' tables and
belongs to the operator. The statements run as the scopes' role, which may use the views, and which row-level
security holds: with `row_security` off PostgreSQL refuses what would be filtered, so a table named past its view
is an error and never a wrong sum. What runs as its owner (views without security_invoker, SECURITY DEFINER
functions) sees all rows: the audit finds those (TN302, TN401).
"""

from __future__ import annotations

from collections.abc import Collection

import asyncpg

from tenantry import sql
from tenantry.catalog.read import read_tables
from tenantry.catalog.tables import tenant_tables
from tenantry.catalog.tenancy import Tenancy, compared_in
from tenantry.errors import ConfigError
from tenantry.router.driver import Connection
from tenantry.runtime.sqltext import identifier, literal


async def hide(
    connection: Connection, database: str, tenants: Collection[str], tenancy: Tenancy, role: str
) -> list[str]:
    """Hide the rows of these tenants until the transaction ends; returns the views, for `show`.

    Args:
        tenants: their ids in normal form.
        role: the scopes'.

    Raises:
        ConfigError: the operator's role may not become that role.
    """
    await _check_role(connection, database, role)
    placed = tenant_tables(await read_tables(connection), tenancy)
    views, statements = [], []
    for table in await connection.fetch(sql.query("router/visible_tables")):
        if table["oid"] in placed.unclear:
            continue  # nobody knows which column says whose its rows are: refused rather than guessed at
        select = f"CREATE TEMPORARY VIEW {table['name']} AS SELECT * FROM {table['qualified']}"  # noqa: S608  quoted
        column = placed.tenants.get(table["oid"])
        if column is not None:
            known = compared_in(column.type, tenancy.id_type)
            if known is None:
                continue
            ids = ", ".join(map(literal, sorted(tenants)))
            # A row of nobody is hidden from nobody.
            select += f" WHERE ({identifier(column.name)} = ANY (ARRAY[{ids}]::{known}[])) IS NOT TRUE"
            select += " WITH LOCAL CHECK OPTION"
        view = f"pg_temp.{table['name']}"
        views.append(view)
        statements += [select, f"GRANT ALL ON {view} TO {identifier(role)}"]
    await connection.execute("; ".join([*statements, f"SET LOCAL ROLE {identifier(role)}"]))
    return views


async def show(connection: Connection, views: Collection[str]) -> None:
    """Take the views away, before a COMMIT: behind a pooler the session is somebody else's afterwards."""
    dropped = f"; DROP VIEW {', '.join(views)}" if views else ""
    await connection.execute(f"SET LOCAL ROLE NONE{dropped}")


async def _check_role(connection: Connection, database: str, role: str) -> None:
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL ROLE {identifier(role)}; SET LOCAL ROLE NONE")
    except asyncpg.InsufficientPrivilegeError:
        me = await connection.fetchval("SELECT quote_ident(session_user)")
        raise ConfigError(
            f"database {database} holds rows of tenants that a move has taken elsewhere, and to leave them out "
            f"the operator's role must be able to become the scopes': `GRANT {identifier(role)} TO {me}`, or "
            "release the moves (`tenantry moves list`)",
            key=f"databases.{database}.operator_dsn",
        ) from None
