"""A tenant takes along what kits keep of it, there and back; a target that can't keep it is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from tenantry import Router, kits
from tenantry.move import State
from tenantry.move.context import Direction, MoveContext
from tenantry.move.steps import fence, finalize
from tenantry.move.steps import kits as steps_kits
from tests.support.estate import Estate

ENTRY = (
    "INSERT INTO entry (tenant_id, op, account, amount, currency) "
    "VALUES (tenantry.current_tenant(), gen_random_uuid(), 1, 0, 'EUR')"
)
LIMIT = 203


@pytest.fixture
async def kitted(estate18: Estate) -> Estate:
    """Quotas on entries, an audit log of accounts that hides nothing and of blobs that hides one column."""
    connection = await asyncpg.connect(estate18.endpoints["shared"].dsn)
    await kits.install(connection, kits.KITS, application_role="app")
    await connection.execute(
        "SELECT tenantry.quota_on('public.entry', 'entries'), tenantry.audit_on('public.account'), "
        """tenantry.audit_on('public."Blob"', 'tenant_id', '{body}')"""
    )
    await connection.execute(
        "INSERT INTO tenantry.quota_limit VALUES ('pro', 'entries', 1000), ('default', 'entries', 5)"
    )
    mine = str(estate18.tenant)
    await connection.execute("INSERT INTO tenantry.quota_plan VALUES ($1, 'pro')", mine)
    await connection.execute("INSERT INTO tenantry.quota_exception VALUES ($1, 'entries', $2)", mine, LIMIT)
    await connection.close()
    return estate18


@pytest.fixture
async def router(kitted: Estate) -> AsyncIterator[Router]:
    async with Router.open(kitted.config(), metrics=False) as opened:
        yield opened


async def balance(router: Router, estate: Estate) -> None:
    """One write that the audit log keeps."""
    await router.execute(estate.tenant, "UPDATE account SET balance = balance + 1 WHERE id = 1")


async def log(router: Router, estate: Estate) -> list[tuple[str, str, str]]:
    """The tenant's own view of its log."""
    query = "SELECT database, relation, operation FROM tenantry.audit_log ORDER BY at"
    return [tuple(row) for row in await router.fetch(estate.tenant, query)]


async def test_limits_and_audit_entries_go_with_the_tenant_and_come_back(kitted: Estate, router: Router) -> None:
    mover = kitted.mover()
    await balance(router, kitted)
    plan = await mover.plan(kitted.tenant, "acme")
    assert plan.refusals == ()
    record = await mover.run(plan)
    assert record.state is State.FLIPPED
    assert await log(router, kitted) == [("shared", "public.account", "UPDATE")]
    await balance(router, kitted)  # recorded at its new home
    await router.execute(kitted.tenant, """UPDATE "Blob" SET body = '{"new": true}' WHERE "Key" = 'k1'""")
    hidden = await router.fetchval(
        kitted.tenant, "SELECT new FROM tenantry.audit_log WHERE database = 'acme' AND relation LIKE '%Blob%'"
    )
    assert "***" in hidden
    assert "new" not in hidden
    for _ in range(LIMIT - 200):
        await router.execute(kitted.tenant, ENTRY)
    with pytest.raises(kits.QuotaExceeded):
        await router.execute(kitted.tenant, ENTRY)
    mine = str(kitted.tenant)
    await kitted.fetch(
        "acme", "UPDATE tenantry.quota_exception SET max_rows = $2 WHERE tenant = $1", mine, LIMIT + 1
    )
    before = await log(router, kitted)
    assert [home for home, _, _ in before] == ["shared", "acme", "acme"]
    await mover.rollback(record.id)
    assert await log(router, kitted) == before
    await router.execute(kitted.tenant, ENTRY)  # by the exception that was made at the other home
    with pytest.raises(kits.QuotaExceeded):
        await router.execute(kitted.tenant, ENTRY)
    assert not await kitted.fetch("acme", "SELECT FROM tenantry.quota_plan")


async def test_entries_written_while_it_moves_are_not_left_behind(
    kitted: Estate, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the first reading of the log and the flip."""
    flip = fence.flip

    async def late(work: object, way: object) -> object:
        await balance(router, kitted)
        return await flip(work, way)  # type: ignore[arg-type]

    monkeypatch.setattr(fence, "flip", late)
    await balance(router, kitted)
    mover = kitted.mover()
    record = await mover.run(await mover.plan(kitted.tenant, "acme"))
    assert record.result.kits_read_to is not None
    assert len(await log(router, kitted)) == 2


async def test_other_tenants_keep_their_limits_and_audit_entries_when_one_moves(
    kitted: Estate, router: Router
) -> None:
    other = str(kitted.tenants[1])
    await kitted.fetch("shared", "INSERT INTO tenantry.quota_plan VALUES ($1, 'pro')", other)
    await router.execute(kitted.tenants[1], "UPDATE account SET balance = 1 WHERE id = 1")
    await balance(router, kitted)
    mover = kitted.mover()
    record = await mover.run(await mover.plan(kitted.tenant, "acme"))
    await mover.release(record.id)
    (there,) = await kitted.fetch("acme", "SELECT count(*) AS n FROM tenantry.audit_log WHERE tenant = $1", other)
    assert there["n"] == 0
    assert not await kitted.fetch("acme", "SELECT FROM tenantry.quota_plan WHERE tenant = $1", other)
    kept = await kitted.fetch("shared", "SELECT tenant FROM tenantry.quota_plan")
    assert [row["tenant"] for row in kept] == [other]


async def test_a_target_with_tables_but_without_the_kits_is_refused_with_the_fix(kitted: Estate) -> None:
    mover = kitted.mover()
    record = await mover.run(await mover.plan(kitted.tenant, "acme"))
    await mover.rollback(record.id)  # the target keeps its tables
    connection = await asyncpg.connect(kitted.endpoints["acme"].dsn)
    await connection.execute("SELECT tenantry.quota_off('public.entry'), tenantry.audit_off('public.account')")
    plan = await mover.plan(kitted.tenant, "acme")
    assert [finding.code for finding in plan.refusals] == ["kit-not-watching"] * 2
    for finding in plan.refusals:
        await connection.execute(finding.fix.partition(": ")[2])
    assert (await mover.plan(kitted.tenant, "acme")).refusals == ()
    await kits.remove(connection, kits.USAGE)
    assert [f.code for f in (await mover.plan(kitted.tenant, "acme")).refusals] == ["kit-missing"]
    await connection.close()


async def change_plan(estate: Estate, at: str, plan: str) -> None:
    """As an operator does."""
    await estate.fetch(at, "UPDATE tenantry.quota_plan SET plan = $2 WHERE tenant = $1", str(estate.tenant), plan)


async def plan_at(estate: Estate, database: str) -> str | None:
    rows = await estate.fetch(
        database, "SELECT plan FROM tenantry.quota_plan WHERE tenant = $1", str(estate.tenant)
    )
    return rows[0]["plan"] if rows else None


async def moving(estate: Estate, way: str) -> tuple[str, str, Callable[[], Awaitable[object]]]:
    """The old home, the new home, and the move between them, which is to be begun: there, or back again."""
    mover = estate.mover()
    plan = await mover.plan(estate.tenant, "acme")
    if way == "there":
        return "shared", "acme", lambda: mover.run(plan)
    record = await mover.run(plan)
    return "acme", "shared", lambda: mover.rollback(record.id)


@pytest.mark.parametrize("way", [pytest.param("there", marks=pytest.mark.faults), "back"])
async def test_a_plan_changed_right_before_a_flip_is_not_left_behind(
    kitted: Estate, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """After the plan was brought, and before the fence: nothing holds an operator off then."""
    old, new, move = await moving(kitted, way)
    bring = steps_kits.copy_limits

    async def early(work: MoveContext, way: Direction) -> None:
        await bring(work, way)
        await change_plan(kitted, old, "bigger")

    monkeypatch.setattr(steps_kits, "copy_limits", early)
    await move()
    assert await plan_at(kitted, new) == "bigger"


@pytest.mark.parametrize("way", ["there", pytest.param("back", marks=pytest.mark.faults)])
async def test_a_plan_changed_at_the_new_home_stays(
    kitted: Estate, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Between the flip and its settling, whatever the old home says, and when the step is repeated."""
    old, new, move = await moving(kitted, way)
    settled = finalize.finalize
    broken: list[bool] = []

    async def late(work: MoveContext, way: Direction) -> None:
        if not broken:
            broken.append(True)
            await change_plan(kitted, new, "newest")
            await change_plan(kitted, old, "stale")
            raise ConnectionResetError
        await settled(work, way)

    monkeypatch.setattr(finalize, "finalize", late)
    await move()
    assert await plan_at(kitted, new) == "newest"
