"""The shape of the tables that travel: what they are like, and that nobody has changed it since the plan."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from tenantry import sql
from tenantry.catalog.tables import spelling
from tenantry.move.definitions import Definition
from tenantry.move.errors import SchemaChanged
from tenantry.move.plan import MovePlan
from tenantry.move.session import Connection

#: The columns of some tables ($1: names as in shape.sql) that are stored. A plan that was made while they changed
#: may have the tables' new shape and their old columns: what it does not name would not be carried.
_COLUMNS: Final = """
SELECT name, array_agg(a.attname::text) AS columns
FROM unnest($1::text[]) AS name JOIN pg_attribute AS a ON a.attrelid = to_regclass(name)
WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' GROUP BY name
"""


async def read_shape(connection: Connection, tables: Sequence[str]) -> list[str]:
    """The lines of sql/move/shape.sql for these tables."""
    rows = await connection.fetch(sql.query("move/shape"), list(tables))
    return [row["line"] for row in rows]


async def read_definitions(connection: Connection, tables: Sequence[str]) -> tuple[Definition, ...]:
    """What these tables are made of, as sql/move/definitions.sql tells it. Empty: none of them is there."""
    rows = await connection.fetch(sql.query("move/definitions"), list(tables))
    return tuple(Definition(**row) for row in rows)


async def read_kin(connection: Connection, columns: Iterable[str], tables: Sequence[str]) -> list[str]:
    """The lines of sql/move/kin.sql: who else has one of these tenant columns, or hangs on these tables."""
    plain = sorted({spelling(column) for column in columns if column})
    rows = await connection.fetch(sql.query("move/kin"), plain, list(tables))
    return [row["line"] for row in rows]


async def read_storage(connection: Connection, tables: Sequence[str]) -> str:
    """The files of these tables, as sql/move/storage.sql names them."""
    return str(await connection.fetchval(sql.query("move/storage"), list(tables)))


async def check_unchanged(plan: MovePlan, source: Connection) -> None:
    """Check that the source's tables are shaped, and stored, as when the move was planned.

    Raises:
        SchemaChanged: they are not. Replication carries neither DDL nor, filtered, TRUNCATE.
    """
    if not (plan.shape and plan.storage):
        raise SchemaChanged(plan.id, "its plan does not say how the tables looked; abort it and plan it anew")
    shape = await read_shape(source, plan.names())
    kin = await read_kin(source, [t.column for t in plan.tables], [t.quoted for t in plan.tables])
    if digest([*shape, *kin]) != plan.shape:
        raise SchemaChanged(plan.id, "a table is new or changed its shape since the move was planned (DDL)")
    stored = {row["name"]: set(row["columns"]) for row in await source.fetch(_COLUMNS, plan.names())}
    for table in (*plan.tables, *plan.references):
        if stored.get(table.quoted) != set(table.columns):
            raise SchemaChanged(
                plan.id,
                f"the plan of {table.quoted} does not name the columns that it has; abort it and plan it anew",
            )
    if await read_storage(source, [table.quoted for table in plan.tables]) != plan.storage:
        raise SchemaChanged(
            plan.id, "a table was truncated, rewritten or got a partition since the move was planned"
        )


def digest(lines: list[str]) -> str:
    """One value for the shape of many tables."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
