"""What the attacks work on: rows of two tenants in each table, and connections that act as one of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import asyncpg

from tenantry.catalog.tenancy import compared_in
from tenantry.catalog.values import Column, Index, Relation
from tenantry.isolation.facts import Facts
from tenantry.runtime.sqltext import identifier, literal

Connection: TypeAlias = "asyncpg.Connection[Any]"

MOST_ROWS: Final = 10_000
"""Rows of a tenant up to which a statement without WHERE is tried: it locks every row that it reaches."""
_KEYS: Final = 500
"""Keys of each tenant that are compared."""
_RIGHTS = (
    "SELECT oid, ARRAY(SELECT r FROM unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE}'::text[]) AS r "
    "WHERE has_table_privilege($1, oid::oid, r)) AS whole, "
    "ARRAY(SELECT r || ' ' || attname FROM pg_attribute, unnest('{SELECT,INSERT,UPDATE}'::text[]) AS r "
    "WHERE attrelid = oid::oid AND attnum > 0 AND NOT attisdropped "
    "AND has_column_privilege($1, oid::oid, attnum, r)) AS columns FROM unnest($2::bigint[]) AS oid"
)


class NotBound(Exception):
    """A tenant can't be bound here; says why."""


class Binder(Protocol):
    """How the battery becomes a tenant. Whatever is done on a connection that it gives is rolled back."""

    @property
    def calls_volatile(self) -> bool:
        """True where functions with effects may be called: in a test database."""
        ...

    def bound(self, tenant: str) -> AbstractAsyncContextManager[Connection]:
        """The application role, bound to a tenant.

        Raises:
            NotBound: the tenant can't be bound here.
        """
        ...

    def unbound(self) -> AbstractAsyncContextManager[Connection]:
        """The application role without a tenant."""
        ...

    def seeing(self, tenant: str) -> AbstractAsyncContextManager[Connection]:
        """Whoever sees the rows of a tenant: the tenant itself, or an administrator."""
        ...


class Rights(NamedTuple):
    """What the application role may do with a table, in whole or by column."""

    whole: frozenset[str] = frozenset()
    columns: frozenset[str] = frozenset()
    """`RIGHT column`."""

    def may(self, right: str, column: str = "") -> bool:
        """True when the role has a right on the table, or on one column of it."""
        return right in self.whole or f"{right} {column}" in self.columns

    @property
    def any(self) -> bool:
        """True when the role may do anything at all."""
        return bool(self.whole or self.columns)


class Row(NamedTuple):
    """One row of a tenant."""

    table: int
    """The table that holds it: of a partitioned table, the partition."""
    place: str
    """Its ctid."""
    values: str
    """The row as JSON."""

    @property
    def at(self) -> str:
        """The condition on `t` that finds it again."""
        return f"t.tableoid = {self.table}::oid AND t.ctid = {literal(self.place)}::tid"

    def parsed(self) -> dict[str, Any]:
        """The values by column."""
        return dict(json.loads(self.values))


@dataclass(frozen=True)
class AttackTarget:
    """A table, a row of the victim, and one of the attacker where it has any."""

    relation: Relation
    column: Column
    rights: Rights
    attacker: str
    victim: str
    theirs: Row
    own: Row | None
    own_rows: int
    """Rows of the attacker; more than MOST_ROWS are not counted."""
    facts: Facts

    def id(self, tenant: str) -> str:
        """A tenant's id as a literal."""
        return typed(self.facts, self.column, tenant)

    @property
    def quoted(self) -> str:
        """The quoted tenant column."""
        return identifier(self.column.name)


@dataclass(frozen=True)
class Scene:
    """The tables of a database, the rows to attack in them, and how to become a tenant."""

    facts: Facts
    binder: Binder
    rights: Mapping[int, Rights]
    targets: Mapping[int, AttackTarget]
    missing: Mapping[int, str]
    """Why a table is no target."""
    problems: tuple[str, ...]
    """What keeps the attacks from proving anything."""
    forbidden: tuple[tuple[str, str], ...] = ()
    """(table, why) where no two tenants can have rows under the same key."""


async def rights_of(connection: Connection, facts: Facts) -> dict[int, Rights]:
    """What the role may do with every tenant table."""
    found = await connection.fetch(_RIGHTS, facts.role, list(facts.tables.tenants))
    return {row["oid"]: Rights(frozenset(row["whole"]), frozenset(row["columns"])) for row in found}


def typed(facts: Facts, column: Column, tenant: str) -> str:
    """A tenant's id as a literal of the type in which the column is compared."""
    return f"{literal(tenant)}::{compared_in(column.type, facts.tenancy.id_type) or column.type}"


async def rows_of(connection: Connection, facts: Facts, relation: Relation, tenant: str) -> tuple[Row | None, int]:
    """One row of a tenant, as the connection sees it, and how many there are; counts up to MOST_ROWS + 1."""
    column = facts.tables.tenants[relation.oid]
    own = f"FROM {relation.sql} AS t WHERE {identifier(column.name)} = {typed(facts, column, tenant)}"
    found = await connection.fetchrow(
        f"SELECT tableoid::bigint AS oid, ctid::text AS place, to_jsonb(t)::text AS values {own} LIMIT 1"
    )
    if found is None:
        return None, 0
    count = await connection.fetchval(f"SELECT count(*) FROM (SELECT {own} LIMIT {MOST_ROWS + 1}) AS c")
    return Row(found["oid"], found["place"], found["values"]), int(count)


def undecided(facts: Facts) -> tuple[str, ...]:
    """Tables of which nobody has said whose they are, and what may be said."""
    return tuple(
        f"{item.object} {item.problem}; {' | '.join(item.choices)}"
        for item in facts.tables.undecided
        if item.topic in ("table", "column")
    )


async def shared_keys(scene: Scene) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Whether both tenants have rows under the same key somewhere, which the joins and upserts want.

    Returns:
        Problems, and (table, why) of tables where a unique key forbids it.
    """
    forbidden, apart = [], False
    for target in scene.targets.values():
        index = _tenant_key(scene.facts, target)
        if index is None:
            continue
        rest = {number for number in index.keys if number != target.column.number}
        narrower = _forbidding(scene.facts, target, rest)
        if narrower is not None:
            why = (
                f"its unique key {narrower.name} has no tenant in it, so no two tenants can have the same; "
                "a key that starts with the tenant column lets each tenant have its own numbers"
            )
            forbidden.append((target.relation.key, why))
        elif await _overlap(scene, target, scene.facts.catalog.names(target.relation.oid, sorted(rest))):
            return (), tuple(forbidden)
        else:
            apart = True
    problems = ("no table has rows of both tenants under the same key: give them overlapping keys",)
    return (problems if apart else ()), tuple(forbidden)


def _tenant_key(facts: Facts, target: AttackTarget) -> Index | None:
    """A unique key that the tenant is part of, with columns beside it that both may use."""
    number = target.column.number
    found = [
        index
        for index in facts.catalog.indexes.get(target.relation.oid, ())
        if index.unique and index.valid and number in index.keys and 0 not in index.keys and len(index.keys) > 1
    ]
    return min(found, key=lambda index: not index.primary, default=None)


def _forbidding(facts: Facts, target: AttackTarget, rest: set[int]) -> Index | None:
    """A unique key without the tenant that keeps two tenants from using the same `rest`."""
    indexes = facts.catalog.indexes.get(target.relation.oid, ())
    return next((i for i in indexes if i.unique and i.valid and not i.predicate and {*i.keys} <= rest), None)


async def _overlap(scene: Scene, target: AttackTarget, names: tuple[str, ...]) -> bool:
    keys = []
    row = ", ".join(f"t.{identifier(name)}" for name in names)
    for tenant in (target.attacker, target.victim):
        async with scene.binder.seeing(tenant) as connection:
            found = await connection.fetch(
                f"SELECT ROW({row})::text AS key FROM {target.relation.sql} AS t "
                f"WHERE t.{target.quoted} = {target.id(tenant)} ORDER BY 1 LIMIT {_KEYS}"
            )
        keys.append({one["key"] for one in found})
    return bool(keys[0] & keys[1])


@asynccontextmanager
async def undone(connection: Connection) -> AsyncIterator[None]:
    """A transaction or savepoint that is always rolled back; what PostgreSQL raises inside passes through."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    finally:
        if not connection.is_closed():
            await transaction.rollback()
