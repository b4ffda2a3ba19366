"""The attacks, as SQL. Pure: a target in, statements and what must become of them out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, NamedTuple

from tenantry.isolation.catalog import Column, Relation
from tenantry.isolation.facts import Facts
from tenantry.runtime.sqltext import identifier, literal

_MERGE_SINCE = 150000


class Expect(StrEnum):
    """What must become of an attack."""

    NOTHING = "returns nothing"
    ZERO = "returns the count 0"
    NO_ROWS = "changes no row"
    REFUSED = "is refused by a policy or a privilege"
    UNTOUCHED = "leaves the other tenant's row as it is"
    UNREFERRED = "is refused by the foreign key, a policy or a privilege"
    COPIES_NOTHING = "copies nothing"


class Attack(NamedTuple):
    """One way to get at a row; all but the last statement must succeed."""

    name: str
    statements: tuple[str, ...]
    expect: Expect


class Row(NamedTuple):
    """A row that the administrator found."""

    table: int
    """The table that holds it: of a partitioned table, the partition."""
    place: str
    """Its ctid."""
    tenant: str
    values: dict[str, Any]


class Target(NamedTuple):
    """A table, a row of the victim, and one of the attacker where there is one."""

    relation: Relation
    column: Column
    victim: Row
    attacker: str
    own: Row | None


def attacks(facts: Facts, target: Target) -> Iterator[Attack]:
    """Every attack on one table but those through foreign keys."""
    table, column = target.relation.sql, identifier(target.column.name)
    theirs = f"{column}::text = {literal(target.victim.tenant)}"
    yield Attack("read", (_select("count(*)", table, theirs),), Expect.ZERO)
    yield Attack(
        "read everything",
        (
            _select(
                "count(*)",
                table,
                f"{column}::text IS DISTINCT FROM {literal(target.attacker)} AND {column} IS NOT NULL",
            ),
        ),
        Expect.ZERO,
    )
    cursor = f"DECLARE tenantry_probe NO SCROLL CURSOR FOR {_select('1', table, theirs)}"
    yield Attack("cursor", (cursor, "FETCH 1 FROM tenantry_probe"), Expect.NOTHING)
    yield Attack("copy to", (_select("1", table, theirs),), Expect.COPIES_NOTHING)
    update = f"UPDATE {table} SET {column} = {column} WHERE {theirs}"  # noqa: S608  every part is quoted
    delete = f"DELETE FROM {table} WHERE {theirs}"  # noqa: S608  every part is quoted
    yield Attack("update", (update,), Expect.NO_ROWS)
    yield Attack("delete", (delete,), Expect.NO_ROWS)
    yield Attack("update returning", (f"{update} RETURNING {column}",), Expect.NOTHING)
    yield Attack("delete returning", (f"{delete} RETURNING {column}",), Expect.NOTHING)
    yield Attack("lock", (f"{_select('1', table, theirs)} FOR UPDATE",), Expect.NOTHING)
    if facts.catalog.version >= _MERGE_SINCE and not facts.catalog.triggers.get(target.relation.oid):
        merge = f"MERGE INTO {table} AS t USING (SELECT 1) AS s ON t.{theirs} WHEN MATCHED THEN"
        yield Attack("merge update", (f"{merge} UPDATE SET {column} = t.{column}",), Expect.NO_ROWS)
        yield Attack("merge delete", (f"{merge} DELETE",), Expect.NO_ROWS)
    yield Attack("insert", (_insert(facts, target, target.victim.values),), Expect.REFUSED)
    yield from _upsert(facts, target)
    if target.own is not None:
        give = f"UPDATE {table} SET {column} = {literal(target.victim.tenant)} WHERE {_at(target.own)}"  # noqa: S608  every part is quoted
        yield Attack("give away", (give,), Expect.REFUSED)


def unbound(facts: Facts, target: Target) -> Iterator[Attack]:
    """Without a tenant a table is empty, and no error says otherwise."""
    clear = f"SELECT set_config({literal(facts.tenancy.setting)}, '', true)"
    table = target.relation.sql
    read = f"SELECT count(*) FROM (SELECT FROM {table} LIMIT 1) AS t"  # noqa: S608  every part is quoted
    yield Attack("read unbound", (clear, read), Expect.ZERO)


def refer(facts: Facts, target: Target, columns: tuple[str, ...], parent: Relation, key: dict[str, Any]) -> Attack:
    """Make an own row refer to a row of another tenant."""
    assert target.own is not None
    names = tuple(key)
    values = ", ".join(identifier(name) for name in names)
    assigned = ", ".join(identifier(name) for name in columns)
    left, right = (assigned, values) if len(columns) == 1 else (f"({assigned})", values)
    source = f"jsonb_populate_record(NULL::{parent.sql}, {literal(json.dumps(key))})"
    update = (
        f"UPDATE {target.relation.sql} SET {left} = (SELECT {right} FROM {source}) "  # noqa: S608  every part is quoted
        f"WHERE {_at(target.own)}"
    )
    return Attack(f"refer to {parent.key}", (update, "SET CONSTRAINTS ALL IMMEDIATE"), Expect.UNREFERRED)


def through_view(view: Relation, column: str, victim: str) -> Attack:
    """Read the victim's rows through a view."""
    where = f"{identifier(column)}::text = {literal(victim)}"
    return Attack("read view", (_select("count(*)", view.sql, where),), Expect.ZERO)


def through_function(name: str, column: str, victim: str) -> Attack:
    """Read the victim's rows through a function without arguments."""
    where = f"{identifier(column)}::text = {literal(victim)}"
    return Attack("call", (_select("count(*)", f"{name} AS called", where),), Expect.ZERO)


def _select(what: str, source: str, where: str) -> str:
    return f"SELECT {what} FROM {source} WHERE {where}"  # noqa: S608  every part is quoted


def _at(row: Row) -> str:
    return f"tableoid = {row.table}::oid AND ctid = {literal(row.place)}::tid"


def _insert(facts: Facts, target: Target, values: dict[str, Any]) -> str:
    """The row again, value for value, so that nothing but a policy can refuse it before its keys."""
    writable = [
        column.name
        for column in facts.catalog.columns[target.relation.oid]
        if not column.generated and column.name in values
    ]
    names = ", ".join(identifier(name) for name in writable)
    source = f"jsonb_populate_record(NULL::{target.relation.sql}, {literal(json.dumps(values))})"
    return (
        f"INSERT INTO {target.relation.sql} ({names}) OVERRIDING SYSTEM VALUE "  # noqa: S608  every part is quoted
        f"SELECT {names} FROM {source}"
    )


def _upsert(facts: Facts, target: Target) -> Iterator[Attack]:
    primary = facts.primary(target.relation.oid)
    if primary is None or not primary.immediate:
        return
    mine = {**target.victim.values, target.column.name: target.attacker}
    keys = ", ".join(identifier(name) for name in facts.catalog.names(target.relation.oid, primary.keys))
    column = identifier(target.column.name)
    insert = _insert(facts, target, mine)
    update = f"{insert} ON CONFLICT ({keys}) DO UPDATE SET {column} = excluded.{column}"
    yield Attack("upsert", (update,), Expect.UNTOUCHED)
