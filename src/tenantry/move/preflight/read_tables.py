"""The tables of one end of a move: what the catalog's reader says of them, with what only a move must know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tenantry import sql
from tenantry.catalog import values
from tenantry.catalog.read import read_details
from tenantry.catalog.values import Constraint, Index, Relation, TableDetails
from tenantry.move.catalog import Key, Reference, Table, TravelColumn
from tenantry.move.session import Connection


async def read_tables(connection: Connection) -> tuple[TableDetails, tuple[Table, ...]]:
    """Read every ordinary, partitioned and foreign table; partitions are their parents'."""
    details = await read_details(connection)
    roots = [one for one in details.relations.values() if one.kind in ("r", "p", "f") and not one.partition]
    oids = [one.oid for one in roots]
    declared = {column.declared for oid in oids for column in details.columns.get(oid, ())}
    rows = await connection.fetch(sql.query("move/tables"), oids)
    types = await connection.fetch(sql.query("move/types"), sorted(declared))
    more, kinds = {row["oid"]: row for row in rows}, {row["oid"]: row for row in types}
    # One that was dropped since the snapshot is left out.
    return details, tuple(_table(details, one, more[one.oid], kinds) for one in roots if one.oid in more)


def _table(details: TableDetails, relation: Relation, more: Any, types: Mapping[int, Any]) -> Table:
    oid, parts = relation.oid, details.partitions(relation.oid)
    unique = sorted(
        (index for index in details.indexes.get(oid, ()) if index.unique),
        key=lambda index: (not index.primary, index.name),
    )
    return Table(
        oid=oid,
        schema=relation.schema,
        name=relation.name,
        kind=relation.kind,
        persistence=relation.persistence,
        identity=relation.identity,
        rows=max(relation.rows, sum(part.rows for part in parts)),
        bytes=more["bytes"],
        inherits=bool(relation.parents),
        owner=relation.owner,
        ours=more["ours"],
        grantees=tuple(more["grantees"]),
        columns=tuple(_column(one, types[one.declared]) for one in details.columns.get(oid, ())),
        keys=tuple(_key(details, index) for index in unique if _is_fit(details, index)),
        references=tuple(
            Reference(key.name, key.target, details.names(oid, key.columns), _far(details, key))
            for key in details.constraints.get(oid, ())
            if key.kind == "f" and not key.inherited
        ),
        uniques=tuple(_key(details, index) for index in unique if not _is_fit(details, index)),
        odd=tuple(
            (part.sql, "f" if part.kind == "f" else "u")
            for part in sorted(parts, key=lambda part: part.name)
            if part.kind == "f" or part.persistence == "u"
        ),
        always=tuple(
            sorted(
                {
                    trigger.name
                    for one in (relation, *parts)
                    for trigger in details.triggers.get(one.oid, ())
                    if trigger.replicated
                }
            )
        ),
    )


def _column(column: values.Column, type_: Any) -> TravelColumn:
    return TravelColumn(
        column.name,
        column.type,
        column.not_null,
        bool(column.generated),
        type_["portable"],
        type_["oid_type"],
        type_["comparable"],
    )


def _key(details: TableDetails, index: Index) -> Key:
    return Key(index.name, index.primary, index.identity, details.names(index.relation, index.keys))


def _is_fit(details: TableDetails, index: Index) -> bool:
    """Whether it would do as a replica identity: whole, immediate, over columns that are never NULL."""
    columns = {column.number: column for column in details.columns[index.relation]}
    return (
        index.immediate
        and index.valid
        and index.predicate is None
        and all(number in columns and columns[number].not_null for number in index.keys)
    )


def _far(details: TableDetails, key: Constraint) -> tuple[str, ...]:
    return details.names(key.target, key.target_columns)
