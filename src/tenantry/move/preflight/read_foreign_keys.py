"""Rows of one tenant that reference another tenant's: apart, the foreign key between them could not hold.

Only foreign keys that do not pair the two tenant columns let such rows in. Both directions are looked at. A row of
the moving tenant that references another's would fail at the target; a row of another tenant that references the
moving one's would reference nothing from the release on.
"""

from __future__ import annotations

import time

import asyncpg

from tenantry import sql
from tenantry.move.plan import Selection
from tenantry.move.preflight.facts import ALTOGETHER, PATIENCE, CrossTenantKey
from tenantry.move.session import Connection
from tenantry.runtime.sqltext import identifier, literal


async def read(connection: Connection, tenant: str, selection: Selection) -> tuple[CrossTenantKey, ...]:
    """Count the rows, by each foreign key and direction for `PATIENCE`, and for `ALTOGETHER` in all."""
    tables = [(table.quoted, column) for table, column in selection.tenant if not table.foreign]
    query = sql.query("move/crossing_keys")
    found = []
    deadline = time.monotonic() + ALTOGETHER
    for key in await connection.fetch(query, [name for name, _ in tables], [column for _, column in tables]):
        for outward in (True, False):
            rows = _rows(key, tenant, outward=outward)
            seconds = min(PATIENCE, deadline - time.monotonic())
            count = await _count(connection, rows, seconds) if seconds > 0 else None
            if count != 0:
                found.append(
                    CrossTenantKey(key["name"], key["child"], key["parent"], outward, count, f"SELECT c.* {rows}")
                )
    return tuple(found)


def _rows(key: asyncpg.Record, tenant: str, *, outward: bool) -> str:
    """FROM and WHERE of the rows that reference another tenant's, as `c`."""
    child, parent = f"c.{identifier(key['child_tenant'])}", f"p.{identifier(key['parent_tenant'])}"
    mine, other = (child, parent) if outward else (parent, child)
    return (
        f"FROM {key['child']} AS c JOIN {key['parent']} AS p ON {key['joined']} "
        f"WHERE {mine} = {literal(tenant)} AND {other} IS DISTINCT FROM {literal(tenant)}"
    )


async def _count(connection: Connection, rows: str, seconds: float) -> int | None:
    # All are counted: there is none in general, and for the first one alone the planner would choose a plan that
    # is quick only if there are many. By one process: the others of the server are for those who work there.
    try:
        async with connection.transaction(readonly=True):
            await connection.execute(
                f"SET LOCAL statement_timeout = {max(1, round(seconds * 1000))}; "
                "SET LOCAL max_parallel_workers_per_gather = 0"
            )
            return int(await connection.fetchval(f"SELECT count(*) {rows}"))
    except (asyncpg.QueryCanceledError, asyncpg.InsufficientPrivilegeError):  # a partition may be another's
        return None
