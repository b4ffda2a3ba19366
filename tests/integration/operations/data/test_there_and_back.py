"""A tenant's data out of a database and into one: all rows, and nobody else's."""

from __future__ import annotations

import asyncio
import stat
import uuid

import pytest

from tenantry import (
    Config,
    DatabaseUnavailable,
    OperationRefused,
    Operations,
    Router,
    TenantRemoved,
    WrongHome,
    kits,
)
from tenantry.operations import DataProgress
from tests.integration.operations.data.conftest import World, sections


async def test_a_tenant_that_was_exported_and_erased_comes_back_with_every_row(world: World) -> None:
    before, others = await world.rows("shared"), await world.others()
    told: list[DataProgress] = []
    await world.ops.tenants.set(world.tenant, name="Jane Doe Ltd", plan="gold", limits={"connections": 3})
    terms = (await world.ops.tenants.get(world.tenant))._replace(changed=0)
    done = await world.ops.data.export(world.tenant, world.file, progress=told.append)
    assert all(before.values()), "each table has rows to lose"
    assert done.rows == sum(map(len, before.values()))
    assert {one.work for one in told} == {"copying"}
    assert stat.S_IMODE(world.file.stat().st_mode) == 0o600
    assert [one.name for one in world.folder.iterdir()] == ["tenant.zip"]

    receipt = await world.ops.data.erase(world.tenant)
    assert receipt.complete
    assert receipt.found == receipt.deleted == done.rows
    assert not any((await world.rows("shared")).values())
    assert await world.others() == others

    back = await world.ops.data.import_(world.file)
    assert (back.database, back.rows, back.already, back.schema_differs) == ("shared", done.rows, False, False)
    assert await world.rows("shared") == before
    assert await world.others() == others
    assert (await world.ops.tenants.get(world.tenant))._replace(changed=0) == terms
    async with Router.open(world.estate.config()) as router, router.tenant(world.tenant) as conn:
        assert await conn.fetchval("SELECT count(*) FROM entry") == len(before["entry"])
        new = await conn.fetchval(
            "INSERT INTO entry (tenant_id, op, account, amount, currency) "
            "VALUES ($1, gen_random_uuid(), 1, 0, 'EUR') RETURNING id",
            world.tenant,
        )
    assert new > max(int(row.split(",")[1]) for row in before["entry"])


async def test_an_archive_of_16_fills_a_dedicated_database_of_18(world: World) -> None:
    before = await world.rows("shared")
    await world.ops.data.export(world.tenant, world.file)
    with pytest.raises(OperationRefused, match="lives in shared"):
        await world.ops.data.import_(world.file, database="acme")
    await world.ops.data.erase(world.tenant)
    done = await world.ops.data.import_(world.file, database="acme")
    assert (done.database, done.schema_differs) == ("acme", False)
    assert await world.rows("acme") == before
    homes = await world.estate.homes()
    assert homes["control"] == homes["acme"] == homes["shared"] == ("acme", 2)
    async with Router.open(world.estate.config()) as router, router.tenant(world.tenant) as conn:
        assert await conn.fetchval("SELECT count(*) FROM entry") == len(before["entry"])
        new = await conn.fetchval("INSERT INTO account (tenant_id) VALUES ($1) RETURNING id", world.tenant)
        assert new > 10
    [stamp] = await world.estate.fetch("acme", "SELECT tenant FROM tenantry.database_identity")
    assert stamp["tenant"] == str(world.tenant)
    # Nobody else comes in there.
    await world.ops.data.export(world.estate.tenants[1], world.folder / "other.zip")
    await world.ops.data.erase(world.estate.tenants[1])
    with pytest.raises(OperationRefused, match="rows are in acme already"):
        await world.ops.data.import_(world.folder / "other.zip", database="acme")


async def test_an_archive_under_another_id_has_the_same_rows_and_leaves_the_first_tenant_alone(
    world: World,
) -> None:
    await world.estate.fetch("shared", "ALTER TABLE entry DROP CONSTRAINT entry_pkey")  # over ids of all tenants
    before, others, new = await world.rows("shared"), await world.others(), uuid.uuid4()
    await world.ops.data.export(world.tenant, world.file)
    done = await world.ops.data.import_(world.file, as_tenant=new)
    assert done.tenant == str(new)
    assert await world.rows("shared", new, named=world.tenant) == before == await world.rows("shared")
    assert await world.others() == others
    async with Router.open(world.estate.config()) as router, router.tenant(new) as conn:
        assert await conn.fetchval("SELECT count(*) FROM entry") == len(before["entry"])


async def test_ids_that_others_have_refuse_the_whole_import(world: World) -> None:
    await world.ops.data.export(world.tenant, world.file)
    new = uuid.uuid4()
    with pytest.raises(OperationRefused, match="entry_pkey"):
        await world.ops.data.import_(world.file, as_tenant=new)
    assert not any((await world.rows("shared", new)).values())
    with pytest.raises(TenantRemoved):
        await world.ops.tenants.add(new)


async def test_rows_that_are_there_are_never_mixed_with_an_archives(world: World) -> None:
    await world.ops.data.export(world.tenant, world.file)
    again = await world.ops.data.import_(world.file)
    assert again.already, "the very rows are there"
    await world.estate.fetch("shared", f"DELETE FROM flag WHERE tenant_id = '{world.tenant}'")
    before = await world.rows("shared")
    with pytest.raises(OperationRefused, match=r"already.*tenantry erase"):
        await world.ops.data.import_(world.file)
    assert await world.rows("shared") == before


async def test_what_is_written_during_an_export_is_in_it_as_of_one_moment(world: World) -> None:
    tenant, other = world.estate.tenants[:2]
    stop = asyncio.Event()

    async def write(whose: uuid.UUID) -> int:
        done = 0
        async with world.estate.admin("shared") as connection:
            while not stop.is_set():
                # An account's balance is the sum of its entries, in every transaction.
                async with connection.transaction():
                    await connection.execute(
                        "UPDATE account SET balance = balance + 7 WHERE tenant_id = $1 AND id = 1", whose
                    )
                    await connection.execute(
                        "INSERT INTO entry (tenant_id, op, account, amount, currency) "
                        "VALUES ($1, gen_random_uuid(), 1, 7, 'EUR')",
                        whose,
                    )
                done += 1
        return done

    writers = [asyncio.create_task(write(one)) for one in (tenant, other)]
    for number in range(3):
        await world.ops.data.export(tenant, world.folder / f"{number}.zip")
    stop.set()
    assert all(await asyncio.gather(*writers))
    await world.ops.data.erase(tenant)
    others = await world.others()
    await world.ops.data.import_(world.folder / "1.zip")
    [row] = await world.estate.fetch(
        "shared",
        "SELECT balance, (SELECT sum(amount) FROM entry AS e WHERE e.tenant_id = a.tenant_id AND account = 1) "
        "AS sum FROM account AS a WHERE tenant_id = $1 AND id = 1",
        tenant,
    )
    assert row["balance"] == row["sum"] > 0
    assert await world.others() == others


async def test_reference_rows_that_lack_are_named_before_anything_is_written(world: World) -> None:
    await world.ops.data.export(world.tenant, world.file)
    await world.ops.data.erase(world.tenant)
    await world.estate.fetch("acme", "DELETE FROM currency WHERE code = 'EUR'")
    with pytest.raises(OperationRefused, match=r'"currency" \("code"\) needs EUR, by entry_currency_fkey'):
        await world.ops.data.import_(world.file, database="acme")
    assert (await world.ops.data._row(world.tenant)).database == "shared"
    assert not any((await world.rows("acme")).values())


async def test_a_foreign_key_that_would_not_hold_is_named_and_nothing_is_written(world: World) -> None:
    await world.estate.fetch("shared", "ALTER TABLE entry DROP CONSTRAINT entry_tenant_id_account_fkey")
    await world.estate.fetch("shared", f"DELETE FROM account WHERE tenant_id = '{world.tenant}' AND id = 3")
    await world.ops.data.export(world.tenant, world.file)
    await world.ops.data.erase(world.tenant)
    with pytest.raises(OperationRefused, match=r"account = 3 that .*account.* has not"):
        await world.ops.data.import_(world.file, database="acme")
    assert not any((await world.rows("acme")).values())


async def test_tables_that_the_rows_do_not_fit_are_named_and_nothing_is_written(world: World) -> None:
    await world.ops.data.export(world.tenant, world.file)
    await world.ops.data.erase(world.tenant)
    changes = {
        "ALTER TABLE account ALTER balance TYPE int": "account.balance is integer here, and bigint in the archive",
        'ALTER TABLE "Blob" ALTER price TYPE numeric(12,2)': "price is numeric(12,2) here",
        "ALTER TABLE entry DROP COLUMN note": "has no column 'note'",
        "DROP TABLE flag": 'no table "public"."flag"',
        "ALTER TABLE node ENABLE ALWAYS TRIGGER counts": "ENABLE ALWAYS",
    }
    for change in changes:
        await world.estate.fetch("acme", change)
    with pytest.raises(OperationRefused) as refused:
        await world.ops.data.import_(world.file, database="acme")
    for named in changes.values():
        assert named in str(refused.value)
    # What only the database sees undoes all that was written before it.
    for change in (
        "ALTER TABLE account ALTER balance TYPE bigint",
        'ALTER TABLE "Blob" ALTER price TYPE numeric(12,3)',
        "ALTER TABLE entry ADD note text",
        "CREATE TABLE flag (tenant_id uuid PRIMARY KEY, must int NOT NULL)",
        "ALTER TABLE node DISABLE TRIGGER counts",
    ):
        await world.estate.fetch("acme", change)
    with pytest.raises(OperationRefused, match=r'"must" of relation "flag"'):
        await world.ops.data.import_(world.file, database="acme")
    assert not any((await world.rows("acme")).values())
    await world.estate.fetch("acme", "ALTER TABLE flag DROP COLUMN must")
    assert (await world.ops.data.import_(world.file, database="acme")).rows


async def test_a_migration_since_the_export_does_no_harm_where_the_rows_still_fit(world: World) -> None:
    await world.ops.data.export(world.tenant, world.file)
    await world.ops.data.erase(world.tenant)
    for change in (
        "ALTER TABLE entry ADD later text DEFAULT 'new'",
        "CREATE INDEX ON entry (at)",
        "CREATE TABLE tag (tenant_id uuid NOT NULL)",
    ):
        await world.estate.fetch("acme", change)
    done = await world.ops.data.import_(world.file, database="acme")
    assert done.schema_differs
    [row] = await world.estate.fetch("acme", "SELECT count(*) FILTER (WHERE later = 'new') AS n FROM entry")
    assert row["n"] == 200


async def test_rows_without_a_tenant_column_of_their_own_refuse_an_export_and_an_erasure(world: World) -> None:
    await world.estate.fetch("shared", "CREATE TABLE line (entry bigint REFERENCES entry (id), what text)")
    before = await world.rows("shared")
    for call in (world.ops.data.export(world.tenant, world.file), world.ops.data.erase(world.tenant)):
        with pytest.raises(OperationRefused, match=r'"public"."line" belongs to tenants by its foreign key'):
            await call
    assert await world.rows("shared") == before
    assert not world.file.exists()
    assert (await world.ops.tenants.get(world.tenant)).state == "active"


async def test_two_imports_at_once_write_the_rows_once(world: World) -> None:
    before = await world.rows("shared")
    await world.ops.data.export(world.tenant, world.file)
    await world.ops.data.erase(world.tenant)
    done = await asyncio.gather(*(world.ops.data.import_(world.file) for _ in range(3)), return_exceptions=True)
    assert [one for one in done if not isinstance(one, Exception)]
    assert all(isinstance(one, OperationRefused) or not isinstance(one, Exception) for one in done), done
    assert await world.rows("shared") == before


async def test_an_export_that_is_cancelled_or_fails_leaves_no_file(world: World) -> None:
    def stop(_: DataProgress) -> None:
        task.cancel()

    task = asyncio.create_task(world.ops.data.export(world.tenant, world.file, progress=stop))
    with pytest.raises(asyncio.CancelledError):
        await task

    async def cut() -> None:
        async with world.estate.admin("shared") as admin:
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%export%'"
            )

    async with world.estate.admin("shared") as admin, admin.transaction():
        await admin.execute("LOCK TABLE flag IN ACCESS EXCLUSIVE MODE")
        lost = asyncio.create_task(world.ops.data.export(world.tenant, world.file))
        while not await admin.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
            assert not lost.done()
            await asyncio.sleep(0.01)
        await cut()
        with pytest.raises(DatabaseUnavailable, match="shared"):
            await lost
    assert not list(world.folder.iterdir())
    assert (await world.ops.data.export(world.tenant, world.file)).rows


async def test_tables_of_every_tenant_are_found_however_they_are_named(world: World) -> None:
    """A tenant table whose column is spelt otherwise, and one of hostile names, go along."""
    for statement in (
        'CREATE TABLE "we""ird Table" ("tenantId" uuid NOT NULL, "a b" text, "select" int)',
        f"INSERT INTO \"we\"\"ird Table\" VALUES ('{world.tenant}', 'x', 1)",
    ):
        await world.estate.fetch("shared", statement)
    done = await world.ops.data.export(world.tenant, world.file)
    await world.ops.data.erase(world.tenant)
    assert not await world.estate.fetch("shared", 'SELECT FROM "we""ird Table"')
    assert (await world.ops.data.import_(world.file)).rows == done.rows
    [row] = await world.estate.fetch("shared", 'SELECT * FROM "we""ird Table"')
    assert dict(row) == {"tenantId": world.tenant, "a b": "x", "select": 1}


async def test_what_kits_keep_of_a_tenant_goes_along_and_refuses_a_database_without_them(world: World) -> None:
    log = "SELECT database, id, operation, key, old, new FROM tenantry.audit_log WHERE tenant = $1 ORDER BY 1, 2"
    async with world.estate.admin("shared") as shared:
        await kits.install(shared, kits.KITS, application_role="app")
        await shared.execute("SELECT tenantry.audit_on('public.account')")
        await shared.execute("INSERT INTO tenantry.quota_plan VALUES ($1, 'gold')", str(world.tenant))
        await shared.execute(
            "INSERT INTO tenantry.quota_exception VALUES ($1, 'seats', 7), ($1, 'files', NULL)", str(world.tenant)
        )
        await shared.execute("UPDATE account SET balance = id WHERE tenant_id = $1", world.tenant)
        entries = await shared.fetch(log, str(world.tenant))
        limits = await kits.limits_of(shared, world.tenant)
        assert len(entries) == 10
        await world.ops.data.export(world.tenant, world.file)
        receipt = await world.ops.data.erase(world.tenant)
        found = {t.table: t.found for one in receipt.databases for t in one.tables}
        assert found['"tenantry"."audit_log"'] == 10
        assert not await shared.fetch(log, str(world.tenant))
        assert await kits.limits_of(shared, world.tenant) != limits
        with pytest.raises(OperationRefused, match="init --with quotas,audit"):
            await world.ops.data.import_(world.file, database="acme")
        await world.ops.data.import_(world.file)
        assert await shared.fetch(log, str(world.tenant)) == entries
        assert await kits.limits_of(shared, world.tenant) == limits
        # The next entry has a number of its own.
        await shared.execute("UPDATE account SET balance = 0 WHERE tenant_id = $1", world.tenant)
        assert len(await shared.fetch(log, str(world.tenant))) == 20


async def test_neighbours_write_on_while_a_tenant_is_erased_and_imported(world: World) -> None:
    other, stop, done = world.estate.tenants[1], asyncio.Event(), 0

    async def write(router: Router) -> None:
        nonlocal done
        while not stop.is_set():
            async with router.tenant(other) as conn:
                await conn.execute(
                    "INSERT INTO entry (tenant_id, op, account, amount, currency) "
                    "VALUES ($1, gen_random_uuid(), 1, 0, 'EUR')",
                    other,
                )
            done += 1

    await world.ops.data.export(world.tenant, world.file)
    before = len((await world.rows("shared", other))["entry"])
    async with Router.open(world.estate.config()) as router:
        writer = asyncio.create_task(write(router))
        await world.ops.data.erase(world.tenant)
        await world.ops.data.import_(world.file)
        stop.set()
        await writer
    assert done
    assert len((await world.rows("shared", other))["entry"]) == before + done


async def test_two_erasures_at_once_delete_each_row_once(world: World) -> None:
    before = await world.rows("shared")
    done = await asyncio.gather(*(world.ops.data.erase(world.tenant) for _ in range(2)), return_exceptions=True)
    receipts = [one for one in done if not isinstance(one, BaseException)]
    assert sum(one.deleted for one in receipts) == sum(map(len, before.values()))
    assert all(isinstance(one, OperationRefused) or not isinstance(one, BaseException) for one in done), done
    assert not any((await world.rows("shared")).values())


async def test_a_restore_replaces_the_rows_of_one_tenant_or_leaves_them_as_they_are(world: World) -> None:
    data, before, others = world.ops.data, await world.rows("shared"), await world.others()
    await data.export(world.tenant, world.file)
    async with world.estate.admin("shared") as shared:
        await shared.execute("DELETE FROM node WHERE tenant_id = $1", world.tenant)
        await shared.execute("UPDATE account SET balance = 5 WHERE tenant_id = $1", world.tenant)
        await shared.execute("INSERT INTO account (tenant_id, id) VALUES ($1, 99)", world.tenant)
    spoilt = await world.rows("shared")
    with pytest.raises(OperationRefused, match="tenants suspend"):
        await data.import_(world.file, replace=True)
    await world.ops.tenants.suspend(world.tenant)
    with pytest.raises(OperationRefused, match="no rows to replace in acme"):
        await data.import_(world.file, replace=True, as_tenant=uuid.uuid4(), database="acme")
    await world.estate.fetch("shared", "ALTER TABLE account ADD CONSTRAINT rich CHECK (balance > 0) NOT VALID")
    with pytest.raises(OperationRefused, match="rich"):
        await data.import_(world.file, replace=True)
    assert await world.rows("shared") == spoilt
    await world.estate.fetch("shared", "ALTER TABLE account DROP CONSTRAINT rich")
    assert (await data.import_(world.file, replace=True)).written
    assert await world.rows("shared") == before
    assert await world.others() == others
    assert (await world.ops.tenants.get(world.tenant)).state == "suspended"
    await world.ops.tenants.resume(world.tenant)
    async with Router.open(world.estate.config()) as router:
        assert await router.fetchval(world.tenant, "SELECT sum(balance) FROM account") == 0


async def test_an_archive_is_not_imported_where_its_tenant_may_not_live(world: World) -> None:
    ops = world.ops
    await ops.tenants.set(world.tenant, region="eu", tier="gold")
    await ops.data.export(world.tenant, world.file)
    await ops.tenants.remove(world.tenant)
    await ops.data.erase(world.tenant)
    for copy in (None, str(uuid.uuid4())):
        with pytest.raises(WrongHome, match="region eu and tier gold, and may not live in acme"):
            await ops.data.import_(world.file, database="acme", as_tenant=copy)
    written = sections(world.estate)
    written["databases"]["acme"] |= {"region": "eu", "tier": "gold"}
    async with Operations.open(Config.parse(written), actor="a test") as others:
        await others.data.import_(world.file, database="acme")
        row = await others.tenants.get(world.tenant)
        assert (row.database, row.region, row.tier) == ("acme", "eu", "gold")
        assert await others.placements.check() == ()
