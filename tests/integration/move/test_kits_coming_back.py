"""Back and forth with kits: a tenant has its limits at home, and whoever else lives there keeps what is his."""

from __future__ import annotations

from typing import Any, Final

import asyncpg
import pytest

from tenantry import Router, kits
from tenantry.move import Mover, MoveRecord, State
from tenantry.move.preflight.read_kits import read as look
from tenantry.move.session import session
from tests.support.databases import drop_database
from tests.support.estate import Estate

ENTRY: Final = (
    "INSERT INTO entry (tenant_id, op, account, amount, currency) "
    "VALUES (tenantry.current_tenant(), gen_random_uuid(), 1, 0, 'EUR')"
)
BALANCE: Final = "UPDATE account SET balance = balance + 1 WHERE id = 1"
BACK: Final = ["rollback", pytest.param("demote", marks=pytest.mark.faults)]


@pytest.fixture
async def kitted(estate18: Estate) -> Estate:
    """Quotas and the audit log. The tenant that moves and its first neighbour have the plan "pro"."""
    connection = await asyncpg.connect(estate18.endpoints["shared"].dsn)
    await kits.install(connection, "quotas,audit", application_role="app")
    await connection.execute("SELECT tenantry.quota_on('public.entry', 'entries')")
    await connection.execute("SELECT tenantry.audit_on('public.account')")
    for tenant in estate18.tenants[:2]:
        await connection.execute("INSERT INTO tenantry.quota_plan VALUES ($1, 'pro')", str(tenant))
    await connection.close()
    return estate18


async def promote(estate: Estate, mover: Mover) -> MoveRecord:
    plan = await mover.plan(estate.tenant, "acme")
    assert plan.refusals == ()
    record = await mover.run(plan)
    assert record.state is State.FLIPPED
    return record


async def come_back(estate: Estate, mover: Mover, promoted: MoveRecord, way: str) -> None:
    if way == "rollback":
        await mover.rollback(promoted.id)
        return
    await mover.release(promoted.id)
    plan = await mover.plan(estate.tenant, "shared")
    assert plan.refusals == ()
    await mover.release((await mover.run(plan)).id)


async def limits(estate: Estate, database: str, tenant: object, resources: list[str]) -> dict[str, int | None]:
    """What a tenant may have, resource by resource, as the kit decides it."""
    rows = await estate.fetch(
        database, "SELECT r, tenantry.quota_of($1, r) AS n FROM unnest($2::text[]) AS r", str(tenant), resources
    )
    return {row["r"]: row["n"] for row in rows}


async def others(estate: Estate, resources: list[str]) -> list[Any]:
    """All that the kits hold of and for the neighbours."""
    theirs = [str(tenant) for tenant in estate.tenants[1:]]
    found: list[Any] = [await limits(estate, "shared", tenant, resources) for tenant in theirs]
    for table in ("quota_plan", "quota_exception", "audit_log"):
        query = f"SELECT t::text FROM tenantry.{table} AS t WHERE tenant = ANY ($1) ORDER BY 1"
        found.append([row[0] for row in await estate.fetch("shared", query, theirs)])
    return [*found, await watched(estate, "shared")]


async def watched(estate: Estate, database: str) -> frozenset[tuple[str, str]]:
    async with session(estate.endpoints[database], "test") as connection:
        return (await look(connection, str(estate.tenant))).watched


# -- limits of plans ---------------------------------------------------------------------------------

#: What is done to a limit while the tenant is away -> what it is before and after; None: there is none.
CHANGES: Final[dict[str, tuple[int | None, int | None]]] = {
    "changed": (10, 20),
    "deleted": (10, None),
    "added": (None, 30),
}
#: Each change of each plan at each place has a resource of its own, so that one cycle tells of all.
CASES: Final = [
    (f"{plan}-{place}-{change}", plan, place, change)
    for plan in ("pro", "default")
    for place in ("shared", "acme")
    for change in CHANGES
]


async def put(estate: Estate, database: str, plan: str, resource: str, rows: int | None) -> None:
    """As an operator does; None: delete it."""
    await estate.fetch(
        database, "DELETE FROM tenantry.quota_limit WHERE plan = $1 AND resource = $2", plan, resource
    )
    if rows is not None:
        await estate.fetch(database, "INSERT INTO tenantry.quota_limit VALUES ($1, $2, $3)", plan, resource, rows)


@pytest.mark.parametrize("way", BACK)
async def test_a_tenant_that_came_back_has_the_plan_limits_of_the_shared_database_again(
    kitted: Estate, way: str
) -> None:
    resources = [resource for resource, *_ in CASES]
    for resource, plan, _, change in CASES:
        await put(kitted, "shared", plan, resource, CHANGES[change][0])
    before = await limits(kitted, "shared", kitted.tenant, resources)
    mover = kitted.mover()
    record = await promote(kitted, mover)
    assert await limits(kitted, "acme", kitted.tenant, resources) == before
    for resource, plan, place, change in CASES:
        await put(kitted, place, plan, resource, CHANGES[change][1])
    neighbours = await others(kitted, resources)
    await come_back(kitted, mover, record, way)
    expected = {resource: CHANGES[change][1 if place == "shared" else 0] for resource, _, place, change in CASES}
    assert await limits(kitted, "shared", kitted.tenant, resources) == expected
    assert await others(kitted, resources) == neighbours
    await promote(kitted, mover)
    assert await limits(kitted, "acme", kitted.tenant, resources) == expected
    assert await others(kitted, resources) == neighbours


@pytest.mark.parametrize("way", ["rollback", pytest.param("demote", marks=pytest.mark.faults)])
async def test_a_deleted_limit_stops_nobody_again(kitted: Estate, way: str) -> None:
    """As the application sees it: the limit of all that have no plan is taken away while one tenant is gone."""
    await put(kitted, "shared", "default", "entries", 200)
    mover = kitted.mover()
    record = await promote(kitted, mover)
    await put(kitted, "shared", "default", "entries", None)
    async with Router.open(kitted.config(), metrics=False) as router:
        with pytest.raises(kits.QuotaExceeded):
            await router.execute(kitted.tenant, ENTRY)
        await come_back(kitted, mover, record, way)
        for tenant in kitted.tenants:
            await router.execute(tenant, ENTRY)


# -- the tenant's own plan ---------------------------------------------------------------------------

MINE = "UPDATE tenantry.quota_plan SET plan = '{}' WHERE tenant = $1"
OWN_PLAN = "INSERT INTO tenantry.quota_limit VALUES ('own', 'entries', 7777)"
#: While the tenant is away: the statements at both places, $1 being the tenant or, at "other", its neighbour;
#: then its limit of entries at home. Before, "pro" has 1000, "big" 3000, and "default" 500.
PLANS: Final[dict[str, tuple[list[tuple[str, str]], int | None]]] = {
    "to one that the shared database has": ([("acme", MINE.format("big"))], 3000),
    "to one that both have with other limits": (
        [
            ("acme", MINE.format("big")),
            ("acme", "UPDATE tenantry.quota_limit SET max_rows = 1 WHERE plan = 'big'"),
        ],
        3000,
    ),
    "to one made at its new home": ([("acme", MINE.format("own")), ("acme", OWN_PLAN)], 7777),
    "to one that a neighbour has without limits": (
        [("acme", MINE.format("own")), ("acme", OWN_PLAN), ("other", MINE.format("own"))],
        500,
    ),
    "to none": ([("acme", "DELETE FROM tenantry.quota_plan WHERE tenant = $1")], 500),
    "at its old home only": ([("shared", MINE.format("big"))], 1000),
    "by an exception": ([("acme", "INSERT INTO tenantry.quota_exception VALUES ($1, 'entries', 1234)")], 1234),
    "by a limit of none": ([("acme", "INSERT INTO tenantry.quota_exception VALUES ($1, 'entries', NULL)")], None),
}


LONG: Final = {
    "to one that the shared database has",
    "to one that both have with other limits",
    "to none",
    "at its old home only",
    "by a limit of none",
}


@pytest.mark.parametrize("way", ["rollback", pytest.param("demote", marks=pytest.mark.faults)])
@pytest.mark.parametrize(
    "change", [pytest.param(name, marks=[pytest.mark.faults] if name in LONG else []) for name in PLANS]
)
async def test_a_change_of_plan_at_the_dedicated_database_comes_back_with_the_tenant(
    kitted: Estate, change: str, way: str
) -> None:
    for plan, rows in {"pro": 1000, "big": 3000, "default": 500}.items():
        await put(kitted, "shared", plan, "entries", rows)
    mover = kitted.mover()
    record = await promote(kitted, mover)
    statements, expected = PLANS[change]
    for place, statement in statements:
        whom = kitted.tenants[1] if place == "other" else kitted.tenant
        await kitted.fetch(
            "shared" if place == "other" else place, statement, *([str(whom)] if "$1" in statement else [])
        )
    neighbours = await others(kitted, ["entries"])
    await come_back(kitted, mover, record, way)
    for database in ("shared", "acme"):  # and there again
        assert await limits(kitted, database, kitted.tenant, ["entries"]) == {"entries": expected}
        assert await others(kitted, ["entries"]) == neighbours
        if database == "shared":
            await promote(kitted, mover)


async def test_limits_that_differ_at_the_shared_database_are_told_before_a_tenant_comes_back(
    kitted: Estate,
) -> None:
    await put(kitted, "shared", "pro", "entries", 1000)
    mover = kitted.mover()
    await mover.release((await promote(kitted, mover)).id)

    async def told() -> list[str]:
        plan = await mover.plan(kitted.tenant, "shared")
        assert plan.refusals == ()
        return [finding.problem for finding in plan.findings if finding.code == "kit-limits-differ"]

    assert await told() == []
    await put(kitted, "acme", "pro", "entries", 7)
    await put(kitted, "acme", "default", "blobs", None)
    (problem,) = await told()
    assert "plan pro allows 7 entries in acme, and 1000 in shared" in problem
    mine = str(kitted.tenant)
    await kitted.fetch("acme", "INSERT INTO tenantry.quota_exception VALUES ($1, 'entries', 7)", mine)
    assert await told() == []
    await kitted.fetch("acme", MINE.format("own"), mine)
    await kitted.fetch("acme", OWN_PLAN)
    assert await told() == []  # it brings that one


# -- what the kits watch -----------------------------------------------------------------------------


async def test_what_is_watched_at_either_place_stays_so(kitted: Estate) -> None:
    mover = kitted.mover()
    record = await promote(kitted, mover)
    await kitted.fetch("acme", "SELECT tenantry.audit_on('public.entry'), tenantry.audit_off('public.account')")
    await kitted.fetch("shared", """SELECT tenantry.audit_on('public."Blob"')""")
    there, neighbours = await watched(kitted, "acme"), await others(kitted, ["entries"])
    await come_back(kitted, mover, record, "rollback")
    assert await others(kitted, ["entries"]) == neighbours
    assert await watched(kitted, "acme") == there
    plan = await mover.plan(kitted.tenant, "acme")
    assert [finding.code for finding in plan.refusals] == ["kit-not-watching"] * 2
    for finding in plan.refusals:
        await kitted.fetch("acme", finding.fix.partition(": ")[2])
    await mover.release((await promote(kitted, mover)).id)
    # Watched at the dedicated home only: to watch it for everybody, or not at all, is the operator's to say.
    (refusal,) = (await mover.plan(kitted.tenant, "shared")).refusals
    assert refusal.code == "kit-not-watching"
    assert "public.entry" in refusal.fix
    await kitted.fetch("acme", "SELECT tenantry.audit_off('public.entry')")
    await mover.run(await mover.plan(kitted.tenant, "shared"))
    assert await others(kitted, ["entries"]) == neighbours


# -- a database made anew under its old name ---------------------------------------------------------


async def test_a_database_made_anew_goes_on_numbering_its_entries(kitted: Estate) -> None:
    mover = kitted.mover()
    record = await promote(kitted, mover)
    async with Router.open(kitted.config(), metrics=False) as router:
        for _ in range(3):
            await router.execute(kitted.tenant, BALANCE)
    await mover.rollback(record.id)
    drop_database(kitted.far, kitted.dedicated)
    kitted.far.psql(f'CREATE DATABASE "{kitted.dedicated}" TEMPLATE template0')
    record = await promote(kitted, mover)
    async with Router.open(kitted.config(), metrics=False) as router:
        for _ in range(2):
            await router.execute(kitted.tenant, BALANCE)
        await mover.rollback(record.id)
        log = await router.fetch(kitted.tenant, "SELECT database, id FROM tenantry.audit_log ORDER BY at")
    assert [tuple(row) for row in log] == [("acme", number) for number in (1, 2, 3, 4, 5)]
