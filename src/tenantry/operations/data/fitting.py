"""Whether an archive fits a database: its tables, columns and types. Pure.

What the database itself watches over when rows are written (keys, checks, NOT NULL, the values of an enum) is
left to it: an archive may be older than the last migration. Types are compared, for a value that is cut or
rounded on the way in raises no error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tenantry.move.catalog import Table
from tenantry.move.definitions import Definition, differences
from tenantry.operations.data.manifest import ArchivedTable, Manifest

#: Kinds of definitions of which the rows' values are made.
_OF_VALUES = frozenset({"column", "type", "collation"})


def obstacles(
    manifest: Manifest, tables: Mapping[str, tuple[Table, str]], there: Sequence[Definition]
) -> Iterator[str]:
    """What keeps the rows from being written here, one sentence each.

    Args:
        tables: the tenant tables of the database with their tenant columns, by quoted name.
        there: their definitions.
    """
    archived = {table.quoted: table for table in manifest.tables}
    for quoted, table in archived.items():
        if quoted not in tables:
            if table.part.rows:
                yield f"there is no table {quoted} with a tenant column"
            continue
        yield from _columns(table, *tables[quoted])
    ours = [line for line in manifest.defined if line.kind in _OF_VALUES]
    theirs = [line for line in there if line.kind in _OF_VALUES]
    for one in differences(ours, theirs):
        ours_is, theirs_is = one.ours, one.theirs
        if ours_is is not None and theirs_is is not None and _matters(one.kind, ours_is, theirs_is):
            told = f"is {theirs_is.definition} here, and {ours_is.definition} in the archive"
            yield f"{one.kind} {one.name} {told}"


def _matters(kind: str, ours: Definition, theirs: Definition) -> bool:
    """An enum may have got more values; the database says when it lacks one of the rows'. How a column gets a
    value when none is given is nothing to rows that have one."""
    if kind == "type":
        return not (ours.definition.startswith("enum ") and theirs.definition.startswith("enum "))
    return kind != "column" or _type(ours.normal) != _type(theirs.normal)


def _type(definition: str) -> str:
    return definition.partition(" identity ")[0].partition(" generated ")[0]


def _columns(table: ArchivedTable, here: Table, tenant_column: str) -> Iterator[str]:
    quoted = table.quoted
    if not table.part.rows:
        return
    if tenant_column != table.column:
        yield f"the tenant column of {quoted} is {tenant_column!r} here, and {table.column!r} in the archive"
        return
    columns = {column.name: column for column in here.columns}
    for name in table.columns:
        if name not in columns:
            yield f"{quoted} has no column {name!r}"
        elif columns[name].generated:
            yield f"column {name!r} of {quoted} is generated here, and stored in the archive"
    if here.always:
        always = ", ".join(here.always)
        yield f"triggers of {quoted} fire for replicated rows too (ENABLE ALWAYS or REPLICA): {always}"
