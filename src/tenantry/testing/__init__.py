"""Isolation tests that a product runs in its own CI, on its own schema, through its own router.

    async def test_tenants_are_isolated(router):
        async with two_tenants(router, seed) as (a, b):
            await assert_isolated(router, a, b)

Every check reads which tables there are from the catalogs, so a table that somebody adds tomorrow is checked
tomorrow. The attacks are those of `tenantry rls probe`. Every check refuses to pass vacuously: tables without rows
of both tenants, tables that can't be placed, no tables at all, keys that could overlap and don't are named and
fail it. All that a check does is rolled back.

The fixtures of the pytest plugin are in `tenantry.pytest_plugin`. See docs/how-to/testing.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

from tenantry.ids import IdType, TenantId
from tenantry.isolation.attacks import PARTS, Attempt, Outcome, Report, battery
from tenantry.router import TenantRouter
from tenantry.testing.jobs import Job, jobs, run_unbound
from tenantry.testing.leftovers import ScopeLeftOpen
from tenantry.testing.moves import MoveNoticed, WorkReport, assert_work_survives_move
from tenantry.testing.product import Product
from tenantry.testing.scope import scene_of
from tenantry.testing.server import Server, new_id
from tenantry.testing.strict import QueryOutsideScope, no_scope_left_open, only_in_scopes
from tenantry.testing.verdict import IsolationBroken, settled

__all__ = [
    "Attempt",
    "IdType",
    "IsolationBroken",
    "MoveNoticed",
    "Outcome",
    "Product",
    "QueryOutsideScope",
    "Report",
    "ScopeLeftOpen",
    "Server",
    "WorkReport",
    "assert_isolated",
    "assert_work_survives_move",
    "check_background_job",
    "check_functions",
    "check_joins",
    "check_reads",
    "check_unbound_work",
    "check_views",
    "check_writes",
    "no_scope_left_open",
    "only_in_scopes",
    "two_tenants",
]

Seed = Callable[[Any], Awaitable[object]]


@asynccontextmanager
async def two_tenants(router: TenantRouter, seed: Seed) -> AsyncIterator[tuple[TenantId, TenantId]]:
    """Two new tenants with the same rows under the same keys: `seed(connection)` is run in a scope of each.

    The seed fills every tenant table, with explicit keys. What it writes stays in the test database.
    """
    a, b = new_id(router.ids), new_id(router.ids)
    for tenant in (a, b):
        await router.add_tenant(tenant)
        async with router.tenant(tenant) as connection:
            await seed(connection)
    yield a, b


async def assert_isolated(
    router: TenantRouter,
    a: TenantId,
    b: TenantId,
    *,
    column: str = "tenant_id",
    tables: Mapping[str, str] | None = None,
    empty: Collection[str] = (),
) -> Report:
    """Every read, write, join, view and function: neither tenant reaches the other's rows.

    Args:
        column: the tenant column; other spellings of the same words are found too.
        tables: `schema.table` -> its tenant column, "reference", "once" or "ignore", as `tenancy.tables`.
        empty: `schema.table` of tables that may be without rows of both tenants.

    Raises:
        IsolationBroken: an AssertionError that lists every leak, and all that makes the check vacuous.
    """
    report = Report()
    for one, other in ((a, b), (b, a)):
        scene = await scene_of(router, one, other, column=column, tables=tables, empty=empty)
        report = report.plus(await battery(scene, PARTS))
    return settled(report)


def _check(part: str, promise: str) -> Callable[..., Awaitable[Report]]:
    async def check(
        router: TenantRouter,
        a: TenantId,
        b: TenantId,
        *,
        column: str = "tenant_id",
        tables: Mapping[str, str] | None = None,
        empty: Collection[str] = (),
    ) -> Report:
        scene = await scene_of(router, a, b, column=column, tables=tables, empty=empty)
        return settled(await battery(scene, (part,)))

    check.__doc__ = f"{promise} Arguments and errors as of `assert_isolated`; `a` is who attacks."
    check.__name__ = check.__qualname__ = f"check_{part}"
    return check


check_reads = _check("reads", "Every read.")
check_writes = _check("writes", "Every write: insert, update, delete, upsert, MERGE, TRUNCATE.")
check_joins = _check("joins", "Every join.")
check_views = _check("views", "Every view, in a scope and without one.")
check_functions = _check("functions", "Every SECURITY DEFINER function, in a scope and without one.")


async def check_background_job(
    router: TenantRouter,
    job: Job,
    a: TenantId | None = None,
    b: TenantId | None = None,
    *,
    column: str = "tenant_id",
    tables: Mapping[str, str] | None = None,
    empty: Collection[str] = (),
) -> Report:
    """`job(tenant_id)` raises without a tenant, and for tenant `a` it changes nothing of tenant `b`.

    A job that quietly finds nothing to do, because no tenant is bound, is the failure that goes unnoticed for a
    day. What the job does for `a` is committed. Without `a` and `b` only the first promise is checked.

    Raises:
        IsolationBroken: an AssertionError that says what the job did instead.
    """
    scene = None
    if a is not None and b is not None:
        scene = await scene_of(router, a, b, column=column, tables=tables, empty=empty)
    return settled(await jobs(router, job, none=(None, ""), scene=scene, a=a, b=b))


async def check_unbound_work(router: TenantRouter, tenant: TenantId, work: Job) -> Report:
    """`work(connection)` raises on the application role's connection without a tenant: it doesn't find nothing.

    Args:
        tenant: any tenant of the database that is meant. Nothing of the work stays.
    """
    return settled(Report((await run_unbound(router, tenant, work),)))
