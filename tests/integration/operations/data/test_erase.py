"""An erasure: gone everywhere, proven, and nobody else's rows touched."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace

import pytest

from tenantry import Config, OperationRefused, Operations, Router, TenantRemoved, UnknownTenant, kits
from tenantry.move import MoveBusy, MoveRefused
from tenantry.runtime import locks
from tests.integration.operations.data.conftest import World, sections


async def test_an_erasure_says_what_was_where_and_leaves_nothing(world: World) -> None:
    before, others = await world.rows("shared"), await world.others()
    # Leftovers where the tenant does not live, and what is kept of it elsewhere.
    await world.estate.fetch("acme", f"INSERT INTO account (tenant_id, id) VALUES ('{world.tenant}', 77)")
    for table in ("usage", "usage_day"):
        when = "hour" if table == "usage" else "day"
        await world.estate.fetch(
            "control",
            f"INSERT INTO tenantry.{table} ({when}, database, tenant, busy_seconds) "
            f"VALUES ('2026-01-01', 'shared', '{world.tenant}', 12.5)",
        )
    await world.ops.tenants.set(world.tenant, plan="gold", name="Jane Doe Ltd")
    await world.ops.tokens.issue(world.tenant, label="Jane's telephone")
    rows = sum(map(len, before.values()))

    looked = await world.ops.data.erase(world.tenant, dry_run=True)
    assert (looked.found, looked.deleted, looked.complete) == (rows + 1, 0, False)
    assert await world.rows("shared") == before
    assert (await world.ops.tenants.get(world.tenant)).state == "active"

    done = await world.ops.data.erase(world.tenant, reason="asked for")
    assert done.complete
    assert done.found == done.deleted == rows + 1
    found = {(one.database, one.home): {t.table: t.found for t in one.tables if t.found} for one in done.databases}
    assert found["acme", False] == {'"public"."account"': 1}
    assert found["shared", True]['"public"."entry"'] == 200
    assert all(table.left == 0 for one in done.databases for table in one.tables)
    assert done.ledger == {"usage": 1, "usage_day": 1, "sample": 0, "storage": 0}
    assert not any((await world.rows("shared")).values())
    assert not any((await world.rows("acme")).values())
    assert await world.others() == others
    assert done.tokens == 1
    for table in ("sync_token", "event", "tenant"):
        assert not await world.estate.fetch(
            "control", f"SELECT FROM tenantry.{table} AS t WHERE t::text LIKE '%Jane%'"
        )
    [kept] = await world.estate.fetch("control", "SELECT tenant, busy_seconds FROM tenantry.usage")
    assert kept["busy_seconds"] == 12.5
    assert kept["tenant"].startswith("erased-")
    assert not await world.estate.fetch(
        "control", "SELECT FROM tenantry.event WHERE detail::text LIKE '%erased-%'"
    )
    [row] = await world.estate.fetch(
        "control", "SELECT state, plan FROM tenantry.tenant WHERE id = $1", str(world.tenant)
    )
    assert (row["state"], row["plan"]) == ("removed", None)
    async with Router.open(world.estate.config()) as router:
        with pytest.raises(TenantRemoved):
            await router.fetchval(world.tenant, "SELECT 1")
    text = str(done.as_json())
    assert "EUR" not in text
    assert "gold" not in text

    again = await world.ops.data.erase(world.tenant)
    assert again.complete
    assert (again.found, again.deleted) == (0, 0)
    with pytest.raises(UnknownTenant):
        await world.ops.data.erase(uuid.uuid4())


async def test_what_is_under_way_keeps_an_erasure_out_and_an_erasure_keeps_moves_out(world: World) -> None:
    mover = world.estate.mover()
    async with world.estate.admin("control") as control:
        held = "SELECT pg_advisory_lock($1, hashtext($2))"
        await control.execute("SELECT 1")
        await control.fetchval(held, locks.TENANT_DATA, str(world.tenant))
        plan = await mover.plan(world.tenant, "acme")
        with pytest.raises(OperationRefused, match="by somebody else"):
            await world.ops.data.erase(world.tenant)
        with pytest.raises(MoveRefused, match="being imported or erased"):
            await mover.run(replace(plan, findings=()))
        await control.execute("SELECT pg_advisory_unlock_all()")
        # A move that stands in the journal.
        await control.execute(
            "INSERT INTO tenantry.move (id, tenant, source, target, plan) "
            "VALUES ('m0123456789', $1, 'shared', 'acme', '{}')",
            str(world.tenant),
        )
        with pytest.raises(MoveBusy, match="m0123456789"):
            await world.ops.data.erase(world.tenant)
    assert (await world.ops.tenants.get(world.tenant)).state == "active"


async def test_a_scope_that_is_open_is_waited_for_and_its_rows_are_erased_too(world: World) -> None:
    async with Router.open(world.estate.config()) as router:
        async with router.tenant(world.tenant) as conn:
            await conn.execute("INSERT INTO account (tenant_id, id) VALUES ($1, 555)", world.tenant)
            erasing = asyncio.create_task(world.ops.data.erase(world.tenant))
            async with world.estate.admin("shared") as admin:
                while not await admin.fetchval(
                    "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)"
                ):
                    assert not erasing.done()
                    await asyncio.sleep(0.01)
        done = await erasing
    assert done.complete
    assert not any((await world.rows("shared")).values())


async def test_a_database_that_does_not_answer_leaves_the_receipt_incomplete(world: World) -> None:
    given = sections(world.estate)
    given["databases"]["acme"]["operator_dsn"] = world.estate.far.dsn("no_such_database")
    async with Operations.open(Config.parse(given)) as ops:
        part = await ops.data.erase(world.tenant)
    unread = {one.database: one.unread for one in part.databases}
    assert not part.complete
    assert unread["acme"]
    assert unread["shared"] is None
    assert not any((await world.rows("shared")).values())
    whole = await world.ops.data.erase(world.tenant)
    assert whole.complete
    assert whole.resumed
    assert whole.found == part.found, "the receipt says what the first run has found"
    assert whole.deleted == 0


async def test_what_kits_keep_of_a_tenant_goes_where_the_products_tables_are_gone_too(world: World) -> None:
    tenant = str(world.tenant)
    async with world.estate.admin("acme") as acme:
        await kits.install(acme, kits.KITS, application_role="app")
        await acme.execute("INSERT INTO tenantry.quota_plan VALUES ($1, 'gold')", tenant)
        await acme.execute("SELECT tenantry.audit_on('public.account')")
        await acme.execute("INSERT INTO account (tenant_id, id) VALUES ($1, 77)", world.tenant)
        tables = await acme.fetch(
            "SELECT format('%I', tablename) AS name FROM pg_tables WHERE schemaname = 'public'"
        )
        await acme.execute(f"DROP TABLE {', '.join(row['name'] for row in tables)} CASCADE")
        log = "SELECT count(*) FROM tenantry.audit_log WHERE tenant = $1"
        assert await acme.fetchval(log, tenant) == 1
        receipt = await world.ops.data.erase(world.tenant)
        [there] = [one for one in receipt.databases if one.database == "acme"]
        found = {table.table: (table.found, table.deleted, table.left) for table in there.tables}
        assert found['"tenantry"."audit_log"'] == (1, 1, 0)
        assert receipt.complete
        assert await acme.fetchval(log, tenant) == 0
        assert not await acme.fetch("SELECT FROM tenantry.quota_plan WHERE tenant = $1", tenant)


async def test_rows_of_others_that_reference_the_tenants_refuse_an_erasure(world: World) -> None:
    other = world.estate.tenants[1]
    await world.estate.fetch(
        "shared", "CREATE TABLE link (tenant_id uuid NOT NULL, entry bigint REFERENCES entry (id))"
    )
    [row] = await world.estate.fetch(
        "shared", f"SELECT min(id) AS id FROM entry WHERE tenant_id = '{world.tenant}'"
    )
    await world.estate.fetch("shared", f"INSERT INTO link VALUES ('{other}', {row['id']})")
    before = await world.rows("shared")
    with pytest.raises(OperationRefused, match=r"1 rows of .*link reference this tenant's rows of .*entry"):
        await world.ops.data.erase(world.tenant)
    assert await world.rows("shared") == before
    assert (await world.ops.tenants.get(world.tenant)).state == "active"


async def test_a_tenant_that_came_back_is_erased_anew_and_not_as_it_was_before(world: World) -> None:
    await world.ops.data.export(world.tenant, world.file)
    given = sections(world.estate)
    given["databases"]["acme"]["operator_dsn"] = world.estate.far.dsn("no_such_database")
    async with Operations.open(Config.parse(given)) as ops:
        assert not (await ops.data.erase(world.tenant)).complete
    await world.ops.data.import_(world.file)
    await world.estate.fetch("shared", f"DELETE FROM event WHERE tenant_id = '{world.tenant}'")
    rows = sum(map(len, (await world.rows("shared")).values()))
    done = await world.ops.data.erase(world.tenant)
    assert done.complete
    assert not done.resumed
    assert done.found == rows
