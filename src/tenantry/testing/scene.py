"""The stage of a check: the tenant tables of a live database, and what each of two tenants has in them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

import asyncpg

from tenantry.ids import TenantId
from tenantry.isolation.catalog import Catalog, Column, Index, Relation, read
from tenantry.isolation.facts import Facts
from tenantry.isolation.policy import Tenancy
from tenantry.router import TenantRouter, driver
from tenantry.runtime.sqltext import identifier

#: Keys of each tenant that are compared, to see that some are the same.
_KEYS: Final = 500
_RIGHTS: Final = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE")


class _Undone(Exception):
    """Ends a scope without a trace."""


@asynccontextmanager
async def rolled_back(router: TenantRouter, tenant: TenantId) -> AsyncIterator[Any]:
    """A scope of the tenant of which nothing stays."""
    try:
        async with router.tenant(tenant) as connection:
            yield connection
            raise _Undone
    except _Undone:
        pass


@asynccontextmanager
async def undone(connection: Any) -> AsyncIterator[None]:
    """A savepoint that is always rolled back; what PostgreSQL raises inside passes through."""
    savepoint = connection.transaction()
    await savepoint.start()
    try:
        yield
    finally:
        await savepoint.rollback()


@asynccontextmanager
async def unbound(router: TenantRouter, tenant: TenantId) -> AsyncIterator[Any]:
    """The application role's connection to the tenant's database, without any tenant; nothing of it stays."""
    placement = await router.placement(tenant)
    spec = await router.pools.spec(placement.database)
    connection, _ = await router.pools.dial(spec)
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield connection
    finally:
        if not connection.is_closed():
            await transaction.rollback()
        await driver.close(connection)


@dataclass(frozen=True)
class Table:
    """A tenant table, and what the two tenants have in it."""

    relation: Relation
    column: Column
    rights: frozenset[str]
    """What the application role may do with it."""
    rows: tuple[int, int]
    """Rows that each of the two tenants sees of its own."""
    samples: tuple[str | None, str | None]
    """One row of each, as JSON."""
    overlap: bool | None
    """True when both have rows under the same key; None: its key has no column besides the tenant's."""

    @property
    def sql(self) -> str:
        """The quoted name."""
        return self.relation.sql

    @property
    def tenant(self) -> str:
        """The quoted tenant column, as text: `t.` stands in front."""
        return f"t.{identifier(self.column.name)}::text"

    @property
    def name(self) -> str:
        """`schema.name`."""
        return self.relation.key


@dataclass(frozen=True)
class Scene:
    """A router, two tenants, and the tables that keep them apart. Made by `Scene.read`."""

    router: TenantRouter
    a: TenantId
    b: TenantId
    catalog: Catalog
    tenancy: Tenancy
    role: str
    tables: tuple[Table, ...]
    allowed_empty: frozenset[str]

    @cached_property
    def facts(self) -> Facts:
        """The catalog, looked at as the application role."""
        return Facts(self.catalog, self.tenancy, self.role)

    @classmethod
    async def read(
        cls,
        router: TenantRouter,
        a: TenantId,
        b: TenantId,
        *,
        column: str,
        tables: Mapping[str, str] | None,
        empty: Collection[str],
    ) -> Scene:
        """Read the catalogs through a scope of tenant `a`, and count in one of each."""
        known = await _tenancy_of(router, a, column, tables or {})
        async with rolled_back(router, a) as connection:
            catalog = await read(connection)
            role = await connection.fetchval("SELECT current_user::text")
            rights = await _rights(connection, catalog)
        facts = Facts(catalog, known, role)
        seen_by = [await _seen(router, tenant, facts, rights) for tenant in (a, b)]
        made = []
        for relation, of_tenant in facts.tenant_tables:
            mine, theirs = (seen[relation.oid] for seen in seen_by)
            overlap = bool(mine.keys & theirs.keys) if _rest_of_key(facts, relation, of_tenant) else None
            made.append(
                Table(
                    relation,
                    of_tenant,
                    rights[relation.oid],
                    (mine.rows, theirs.rows),
                    (mine.sample, theirs.sample),
                    overlap,
                )
            )
        return cls(router, a, b, catalog, known, role, tuple(made), frozenset(empty))

    def problems(self) -> tuple[str, ...]:
        """Why checks on these tables would prove nothing."""
        if not self.tables:
            return ("there are no tenant tables: is this the right database, and the right tenant column?",)
        found = [f"{item.object} {item.problem}; {' | '.join(item.choices)}" for item in self._undecided()]
        for table in self.tables:
            if table.relation.partition or table.name in self.allowed_empty or not table.rights:
                continue
            missing = [str(t) for t, n in zip((self.a, self.b), table.rows, strict=True) if n == 0]
            if missing:
                found.append(f"{table.name} has no rows of tenant {' and '.join(missing)}")
        if not any(table.overlap for table in self.tables) and any(
            table.overlap is False for table in self.tables
        ):
            found.append("no table has rows of both tenants under the same key: give them overlapping keys")
        return tuple(found)

    def _undecided(self) -> list[Any]:
        return [item for item in self.facts.survey.undecided if item.topic in ("table", "column")]


async def _tenancy_of(router: TenantRouter, tenant: TenantId, column: str, tables: Mapping[str, str]) -> Tenancy:
    spec = await router.pools.spec((await router.placement(tenant)).database)
    return Tenancy(
        column=column,
        id_type=router.ids,
        hardened=spec.key is not None,
        tables=dict(tables),
    )


def _rest_of_key(facts: Facts, relation: Relation, column: Column) -> tuple[str, ...]:
    """The columns beside the tenant's of a unique key that has it: those that may be the same for both."""
    indexes: list[Index] = [i for i in facts.catalog.indexes.get(relation.oid, ()) if i.unique and i.valid]
    for index in sorted(indexes, key=lambda i: not i.primary):
        if column.number in index.keys and 0 not in index.keys and len(index.keys) > 1:
            return facts.catalog.names(relation.oid, [n for n in index.keys if n != column.number])
    return ()


class _Seen(NamedTuple):
    rows: int = 0
    sample: str | None = None
    keys: frozenset[str] = frozenset()


async def _rights(connection: Any, catalog: Catalog) -> dict[int, frozenset[str]]:
    rows = await connection.fetch(
        "SELECT oid::bigint AS oid, ARRAY(SELECT r FROM unnest($2::text[]) AS r "
        "WHERE has_table_privilege(oid::oid, r)) AS rights FROM unnest($1::bigint[]) AS oid",
        list(catalog.relations),
        list(_RIGHTS),
    )
    return {row["oid"]: frozenset(row["rights"]) for row in rows}


async def _seen(
    router: TenantRouter, tenant: TenantId, facts: Facts, rights: Mapping[int, frozenset[str]]
) -> dict[int, _Seen]:
    """What a tenant has of its own in each table that the role may read."""
    found = {}
    async with rolled_back(router, tenant) as connection:
        for relation, column in facts.tenant_tables:
            keys = _rest_of_key(facts, relation, column)
            may = "SELECT" in rights[relation.oid]
            found[relation.oid] = await _own(connection, relation, column, str(tenant), keys) if may else _Seen()
    return found


async def _own(connection: Any, relation: Relation, column: Column, tenant: str, keys: tuple[str, ...]) -> _Seen:
    own = f"FROM {relation.sql} AS t WHERE t.{identifier(column.name)}::text = $1"
    try:
        async with connection.transaction():
            count = await connection.fetchval(f"SELECT count(*) {own}", tenant)
            sample = await connection.fetchval(f"SELECT to_jsonb(t)::text {own} LIMIT 1", tenant)
            shown: frozenset[str] = frozenset()
            if keys:
                row = ", ".join(f"t.{identifier(key)}" for key in keys)
                found = await connection.fetch(
                    f"SELECT ROW({row})::text AS key {own} ORDER BY 1 LIMIT {_KEYS}", tenant
                )
                shown = frozenset(one["key"] for one in found)
    except asyncpg.InsufficientPrivilegeError:
        return _Seen()
    return _Seen(int(count), sample, shown)
