"""Foreign keys of an archive's rows: looked at by us, because rows are loaded without the triggers that would."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tenantry.errors import OperationRefused
from tenantry.move.plan import TablePlan
from tenantry.move.session import Connection
from tenantry.operations.data.archive import ArchiveReader
from tenantry.operations.data.holdings import ForeignKey, read_foreign_keys
from tenantry.operations.data.manifest import ArchivedReference
from tenantry.runtime.sqltext import identifier

#: Keys that a message names.
_NAMED: Final = 5


async def missing_keys(connection: Connection, archive: ArchiveReader) -> list[str]:
    """What the archive's rows need of tables that are no tenant's and is not there, a sentence for each foreign
    key.

    Inside a transaction, which keeps temporary tables.
    """
    found = []
    for number, one in enumerate(archive.manifest.references):
        if one.part.rows and (gap := await _missing(connection, archive, one, number)):
            found.append(gap)
    return found


async def _missing(
    connection: Connection, archive: ArchiveReader, one: ArchivedReference, number: int
) -> str | None:
    known = await connection.fetch(
        "SELECT attname::text AS name FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 "
        "AND NOT attisdropped",
        one.references,
    )
    if not known:
        return f"there is no table {one.references}"
    if odd := {*one.columns} - {row["name"] for row in known}:
        return f"{one.references} has no column {min(odd)!r}"
    columns = ", ".join(identifier(name) for name in one.columns)
    keys = f"tenantry_keys_{number}"
    await connection.execute(
        f"CREATE TEMP TABLE {keys} ON COMMIT DROP AS SELECT {columns} FROM {one.references} WITH NO DATA"  # noqa: S608  quoted, and of a table that is there
    )
    await connection.copy_to_table(keys, schema_name="pg_temp", source=archive.stream(one.part), format="text")
    rows = await connection.fetch(
        f"SELECT {columns} FROM {keys} EXCEPT SELECT {columns} FROM {one.references} LIMIT {_NAMED + 1}"  # noqa: S608  the same
    )
    if not rows:
        return None
    named = [", ".join(str(value) for value in row.values()) for row in rows[:_NAMED]]
    more = " and more" if len(rows) > _NAMED else ""
    return f"{one.references} ({columns}) needs {'; '.join(named)}{more}, by {one.constraint} of {one.table}"


async def refuse_broken_keys(connection: Connection, tables: Sequence[TablePlan], tenant: str) -> None:
    """See that every foreign key holds for the tenant's rows, which are in this transaction.

    Raises:
        OperationRefused: one doesn't; names a row.
    """
    roots = {table.quoted: table for table in tables}
    broken = []
    for key in await read_foreign_keys(connection, tables):
        row = await connection.fetchrow(_unmatched(key, roots[key.root], tenant))
        if row is not None:
            values = ", ".join(f"{name} = {value}" for name, value in row.items())
            broken.append(f"{key.child} has a row with {values} that {key.parent} has not ({key.name})")
    if broken:
        raise OperationRefused(
            f"foreign keys would not hold, so nothing was written: {'; '.join(broken[:_NAMED])}"
        )


def _unmatched(key: ForeignKey, table: TablePlan, tenant: str) -> str:
    """A row that references nothing. One with a NULL in the key references nothing and may (MATCH SIMPLE)."""
    columns = ", ".join(f"c.{identifier(name)}" for name in key.columns)
    some = " AND ".join(f"c.{identifier(name)} IS NOT NULL" for name in key.columns)
    mine = f"c.{table.where(tenant)[1:]}"
    return (
        f"SELECT {columns} FROM {key.child} AS c WHERE ({mine} AND {some} "  # noqa: S608  quoted
        f"AND NOT EXISTS (SELECT FROM {key.parent} AS p WHERE {key.joined}) LIMIT 1"
    )


async def refuse_unmappable(connection: Connection, tables: Sequence[TablePlan]) -> None:
    """See that another id in the tenant columns is all that a new id takes.

    Raises:
        OperationRefused: another column holds the tenant's id too, as a foreign key to a tenant column says.
    """
    roots = {table.quoted: table for table in tables}
    odd = [
        f"{key.child} ({near}), by {key.name}"
        for key in await read_foreign_keys(connection, tables)
        if key.parent in roots
        for near, far in zip(key.columns, key.far, strict=True)
        if far == roots[key.parent].column and near != roots[key.root].column
    ]
    if odd:
        raise OperationRefused(
            f"the archive can be imported under its own id only: other columns hold the id too: {'; '.join(odd)}"
        )
