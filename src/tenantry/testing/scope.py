"""Runs the battery through a product's own router: each tenant in a scope of its own, which is rolled back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import asyncpg

from tenantry.catalog.read import read
from tenantry.catalog.tenancy import Tenancy
from tenantry.ids import TenantId
from tenantry.isolation.attacks.scene import (
    AttackTarget,
    Rights,
    Row,
    Scene,
    rights_of,
    rows_of,
    shared_keys,
    undecided,
    undone,
)
from tenantry.isolation.facts import Facts
from tenantry.router import TenantRouter, driver


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
async def unbound(router: TenantRouter, tenant: TenantId) -> AsyncIterator[Any]:
    """The application role's connection to the tenant's database, without any tenant; nothing of it stays."""
    placement = await router.placement(tenant)
    spec = await router.pools.spec(placement.database)
    connection, _ = await router.pools.dial(spec)
    try:
        async with undone(connection):
            yield connection
    finally:
        await driver.close(connection)


@dataclass(frozen=True)
class _InScopes:
    """Becomes a tenant by a scope of the router."""

    router: TenantRouter
    tenants: Mapping[str, TenantId]
    calls_volatile: bool = True

    def bound(self, tenant: str) -> Any:
        return rolled_back(self.router, self.tenants[tenant])

    def unbound(self) -> Any:
        return unbound(self.router, next(iter(self.tenants.values())))

    seeing = bound


async def scene_of(
    router: TenantRouter,
    a: TenantId,
    b: TenantId,
    *,
    column: str,
    tables: Mapping[str, str] | None,
    empty: Collection[str],
) -> Scene:
    """Tenant `a` attacks tenant `b`: catalogs are read through a scope of `a`, rows as each sees its own."""
    spec = await router.pools.spec((await router.placement(a)).database)
    tenancy = Tenancy(column=column, id_type=router.ids, hardened=spec.key is not None, tables=dict(tables or {}))
    async with rolled_back(router, a) as connection:
        catalog = await read(connection)
        facts = Facts(catalog, tenancy, await connection.fetchval("SELECT current_user::text"))
        rights = await rights_of(connection, facts)
    mine, theirs = [await _rows(router, tenant, facts, rights) for tenant in (a, b)]
    targets, missing, problems = {}, {}, list(undecided(facts))
    for relation, of_tenant in facts.tenant_tables:
        (own, count), (other, _) = mine[relation.oid], theirs[relation.oid]
        without = [str(tenant) for tenant, row in ((a, own), (b, other)) if row is None]
        if other is not None:
            allowed = rights[relation.oid]
            targets[relation.oid] = AttackTarget(
                relation, of_tenant, allowed, str(a), str(b), other, own, count, facts
            )
        else:
            held = "it has no rows of tenant " + " and ".join(without)
            missing[relation.oid] = held if rights[relation.oid].any else "the role has no right on it"
        if without and rights[relation.oid].any and not relation.partition and relation.key not in empty:
            problems.append(f"{relation.key} has no rows of tenant {' and '.join(without)}")
    if not rights:
        problems = ["there are no tenant tables: is this the right database, and the right tenant column?"]
    binder = _InScopes(router, {str(tenant): tenant for tenant in (a, b)})
    scene = Scene(facts, binder, rights, targets, missing, tuple(problems))
    apart, forbidden = await shared_keys(scene)
    return replace(scene, problems=(*scene.problems, *apart), forbidden=forbidden)


async def _rows(
    router: TenantRouter, tenant: TenantId, facts: Facts, rights: Mapping[int, Rights]
) -> dict[int, tuple[Row | None, int]]:
    """What a tenant has of its own in each table that the role may read."""
    found: dict[int, tuple[Row | None, int]] = {}
    async with rolled_back(router, tenant) as connection:
        for relation, _ in facts.tenant_tables:
            found[relation.oid] = (None, 0)
            if "SELECT" in rights[relation.oid].whole:
                try:
                    async with undone(connection):
                        found[relation.oid] = await rows_of(connection, facts, relation, str(tenant))
                except asyncpg.InsufficientPrivilegeError:
                    continue
    return found
