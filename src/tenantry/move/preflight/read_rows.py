"""What a preflight asks of the rows: how many are the tenant's, and where there are some that must not be."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import replace

from tenantry.ids import Kind
from tenantry.move.plan import Selection, TablePlan, table_plan
from tenantry.move.session import Connection
from tenantry.runtime.sqltext import identifier, literal

#: Bytes on the disk for each byte of a row, with headers and a usual set of indexes.
_WITH_INDEXES = 2


async def table_plans(
    at_source: Connection,
    tenant: str,
    selection: Selection,
    *,
    looks: bool,
    distributed: Collection[str] = (),
) -> tuple[TablePlan, ...]:
    """The plans of the tenant's tables, their rows as PostgreSQL estimates them; `looks`: it lets us ask.

    `distributed`: tables that Citus manages (quoted). Its coordinator has neither their sizes nor statistics,
    so the tenant's rows are read, on the shards that have them.
    """
    plans = []
    for table, column in selection.tenant:
        if table.foreign or not looks or not table.ours:
            plans.append(table_plan(table, column, int(table.rows)))
            continue
        where = f"{identifier(column)} = {literal(tenant)}"
        if table.quoted in distributed:
            row = await at_source.fetchrow(
                "SELECT count(*) AS rows, coalesce(sum(pg_column_size(t.*)), 0)::bigint AS bytes "  # noqa: S608  quoted
                f"FROM {table.quoted} AS t WHERE {where}"
            )
            assert row is not None
            plans.append(replace(table_plan(table, column, row["rows"]), bytes=row["bytes"] * _WITH_INDEXES))
            continue
        explained = await at_source.fetchval(
            f"EXPLAIN (FORMAT JSON) SELECT 1 FROM {table.quoted} WHERE {where}"  # noqa: S608  quoted
        )
        plans.append(table_plan(table, column, json.loads(explained)[0]["Plan"]["Plan Rows"]))
    return tuple(plans)


async def occupied(at_target: Connection, tenant: str, kind: Kind, tables: Iterable[TablePlan]) -> tuple[str, ...]:
    """Tables of the target, of those that it has, that hold rows of the tenant; in a dedicated one, of anybody."""
    found = []
    for table in tables:
        where = "true" if kind is Kind.DEDICATED else table.where(tenant)
        if await at_target.fetchval(f"SELECT EXISTS (SELECT FROM {table.quoted} WHERE {where})"):  # noqa: S608  quoted
            found.append(table.quoted)
    return tuple(found)


async def null_tenants(at_source: Connection, tables: tuple[TablePlan, ...]) -> tuple[str, ...]:
    """Tables with rows that are nobody's."""
    found = []
    for table in tables:
        nullable = await at_source.fetchval(
            "SELECT NOT attnotnull FROM pg_attribute WHERE attrelid = to_regclass($1) AND attname = $2",
            table.quoted,
            table.column,
        )
        if nullable and await at_source.fetchval(
            f"SELECT EXISTS (SELECT FROM {table.quoted} WHERE {identifier(table.column)} IS NULL)"  # noqa: S608  quoted
        ):
            found.append(table.quoted)
    return tuple(found)
