"""Per-database settings that live in the database: autovacuum of its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tenantry.ids import Kind
from tenantry.move.context import MoveContext
from tenantry.move.session import Connection, session
from tenantry.runtime.sqltext import identifier, literal

EVERY = "*"
_PARTS = """
SELECT format('%I.%I', n.nspname, c.relname) AS part
FROM (SELECT to_regclass($1)::oid AS oid UNION SELECT relid FROM pg_partition_tree(to_regclass($1))) AS t
JOIN pg_class AS c ON c.oid = t.oid JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.relkind = 'r'
"""


def parameters(
    autovacuum: Mapping[str, Mapping[str, str]], tables: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], dict[str, str]]:
    """What is to be set on each of `tables` (schema, name): what is said of every table, then of this one."""
    wanted = {}
    for schema, name in tables:
        found = {**autovacuum.get(EVERY, {}), **autovacuum.get(f"{schema}.{name}", {})}
        if found:
            wanted[schema, name] = found
    return wanted


async def apply_autovacuum(context: MoveContext) -> None:
    """Give the tenant's tables the autovacuum parameters that its own database is configured with."""
    if context.target.kind is not Kind.DEDICATED or not context.target.autovacuum:
        return
    tables = [(table.schema, table.name) for table in (*context.plan.tables, *context.plan.references)]
    async with session(context.target, f"tune {context.plan.id}") as target:
        await tune(target, context.target.autovacuum, tables)


async def tune(
    connection: Connection, autovacuum: Mapping[str, Mapping[str, str]], tables: Sequence[tuple[str, str]]
) -> int:
    """Set the autovacuum parameters of these tables; returns how many tables have some. Blocks nobody's work.

    A partitioned table has none of its own: its partitions get them.
    """
    done = 0
    for (schema, name), wanted in parameters(autovacuum, tables).items():
        listed = ", ".join(f"autovacuum_{key} = {literal(value)}" for key, value in wanted.items())
        for row in await connection.fetch(_PARTS, f"{identifier(schema)}.{identifier(name)}"):
            await connection.execute(f"ALTER TABLE {row['part']} SET ({listed})")
            done += 1
    return done
