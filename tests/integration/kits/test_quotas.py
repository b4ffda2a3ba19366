"""The quotas kit: the database's word is the law."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import asyncpg
import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.ids import IdType
from tenantry.kits import QuotaExceeded
from tests.integration.kits.conftest import Shop, shop_on
from tests.support.product import OPERATOR

LIMIT = 10


async def limit(shop: Shop, rows: int | None = LIMIT, plan: str = "default") -> None:
    await shop.sql("SELECT tenantry.quota_on('public.students')")
    await shop.sql("INSERT INTO tenantry.quota_limit VALUES ($1, 'students', $2)", plan, rows)


async def add(shop: Shop, tenant: Any, number: int = 1) -> None:
    await shop.router.execute(
        tenant, "INSERT INTO students (name) SELECT 'n' || n FROM generate_series(1, $1) AS n", number
    )


async def count(shop: Shop, tenant: Any) -> int:
    return int(await shop.router.fetchval(tenant, "SELECT count(*) FROM students"))


async def test_of_a_hundred_inserts_at_once_exactly_as_many_succeed_as_the_plan_allows(shop: Shop) -> None:
    await limit(shop)
    results = await asyncio.gather(*(add(shop, shop.a) for _ in range(100)), return_exceptions=True)
    refused = [one for one in results if isinstance(one, QuotaExceeded)]
    assert (results.count(None), len(refused)) == (LIMIT, 100 - LIMIT)
    assert await count(shop, shop.a) == LIMIT
    assert refused[-1].sqlstate == "TN010"
    assert (refused[-1].resource, refused[-1].limit, refused[-1].used) == ("students", LIMIT, LIMIT)


async def test_a_hundred_connections_of_their_own_get_no_more_in_either(pg18: EmbeddedServer) -> None:
    async with shop_on(pg18, hardened=False) as shop:
        await limit(shop)
        connections = [await asyncpg.connect(shop.product.dsn()) for _ in range(100)]
        barrier = asyncio.Barrier(len(connections))

        async def one(connection: Any) -> None:
            async with connection.transaction():
                await connection.execute(f"SELECT tenantry.bind('{shop.a}')")
                await barrier.wait()
                await connection.execute("INSERT INTO students (name) VALUES ('x')")

        try:
            results = await asyncio.gather(*map(one, connections), return_exceptions=True)
        finally:
            for connection in connections:
                await connection.close()
        assert results.count(None) == LIMIT
        assert {type(one) for one in results} == {type(None), QuotaExceeded}


@pytest.mark.parametrize("isolation", ["repeatable_read", "serializable"])
async def test_old_snapshots_do_not_let_more_in(shop: Shop, isolation: str) -> None:
    await limit(shop)

    async def one() -> None:
        async def work(conn: Any) -> None:
            await conn.fetchval("SELECT count(*) FROM students")  # the snapshot is taken here
            await conn.execute("INSERT INTO students (name) VALUES ('x')")

        await shop.router.run(shop.a, work, isolation=isolation, attempts=1000)

    results = await asyncio.gather(*(one() for _ in range(30)), return_exceptions=True)
    assert results.count(None) == LIMIT, results
    assert await count(shop, shop.a) == LIMIT


async def test_one_statement_that_brings_too_many_is_refused_whole(shop: Shop) -> None:
    await limit(shop)
    await add(shop, shop.a, 4)
    with pytest.raises(QuotaExceeded) as refused:
        await add(shop, shop.a, LIMIT)
    assert refused.value.used == 4
    assert await count(shop, shop.a) == 4
    await add(shop, shop.a, LIMIT - 4)


async def test_deleting_a_row_frees_its_quota_and_rolling_back_an_insert_takes_none(shop: Shop) -> None:
    await limit(shop)
    await add(shop, shop.a, LIMIT)
    with pytest.raises(QuotaExceeded):
        await add(shop, shop.a)
    await shop.router.execute(
        shop.a, "DELETE FROM students WHERE id IN (SELECT id FROM students ORDER BY id LIMIT 3)"
    )
    with contextlib.suppress(ZeroDivisionError):
        async with shop.router.tenant(shop.a) as conn:
            await conn.execute("INSERT INTO students (name) VALUES ('x'), ('y'), ('z')")
            raise ZeroDivisionError
    await add(shop, shop.a, 3)
    assert await count(shop, shop.a) == LIMIT


async def test_one_tenant_uses_up_nothing_of_anothers(shop: Shop) -> None:
    await limit(shop)
    await add(shop, shop.a, LIMIT)
    await add(shop, shop.b, LIMIT)
    assert await count(shop, shop.b) == LIMIT


async def test_a_tenants_own_limit_goes_before_its_plans_and_that_before_the_default(shop: Shop) -> None:
    await limit(shop, 1)
    await shop.sql("INSERT INTO tenantry.quota_limit VALUES ('pro', 'students', 3)")
    await shop.sql("INSERT INTO tenantry.quota_plan VALUES ($1, 'pro')", str(shop.a))
    with pytest.raises(QuotaExceeded):
        await add(shop, shop.b, 2)
    await add(shop, shop.a, 3)
    with pytest.raises(QuotaExceeded):
        await add(shop, shop.a)
    await shop.sql("INSERT INTO tenantry.quota_exception VALUES ($1, 'students', 5)", str(shop.a))
    await add(shop, shop.a, 2)
    await shop.sql("UPDATE tenantry.quota_exception SET max_rows = NULL")
    await add(shop, shop.a, 20)
    await shop.sql("UPDATE tenantry.quota_exception SET max_rows = 0")
    with pytest.raises(QuotaExceeded):
        await add(shop, shop.a)


async def test_without_a_limit_nothing_is_refused_or_written(shop: Shop) -> None:
    await shop.sql("SELECT tenantry.quota_on('public.students')")
    await add(shop, shop.a, 50)
    assert await shop.sql("SELECT * FROM tenantry.quota_turn") == []


async def test_a_tenant_reads_its_own_limits_and_use_and_nobody_elses(shop: Shop) -> None:
    await limit(shop, 7)
    await shop.sql("INSERT INTO tenantry.quota_limit VALUES ('secret plan', 'students', 99)")
    await shop.sql("INSERT INTO tenantry.quota_plan VALUES ($1, 'secret plan')", str(shop.b))
    await shop.sql("INSERT INTO tenantry.quota_exception VALUES ($1, 'students', 77)", str(shop.b))
    await add(shop, shop.a, 2)
    rows = await shop.router.fetch(shop.a, "SELECT * FROM tenantry.my_quotas")
    assert [tuple(row) for row in rows] == [("students", 7, 2)]
    for table, own in (("quota_limit", [("default", "students", 7)]), ("quota_plan", []), ("quota_exception", [])):
        seen = await shop.router.fetch(shop.a, f"SELECT * FROM tenantry.{table}")
        assert [tuple(row) for row in seen] == own, table
    assert (await shop.router.fetch(shop.b, "SELECT * FROM tenantry.quota_limit"))[0]["plan"] == "secret plan"


async def test_without_a_tenant_nothing_is_seen(shop: Shop) -> None:
    await limit(shop, 7)
    connection = await asyncpg.connect(shop.product.dsn())
    try:
        for name in ("my_quotas", "quota_limit", "quota_plan", "quota_exception"):
            assert await connection.fetch(f"SELECT * FROM tenantry.{name}") == []
    finally:
        await connection.close()


ATTACKS = (
    "UPDATE tenantry.quota_limit SET max_rows = 999",
    "INSERT INTO tenantry.quota_limit VALUES ('default', 'other', 1)",
    "INSERT INTO tenantry.quota_exception VALUES ('{a}', 'students', 999)",
    "INSERT INTO tenantry.quota_plan VALUES ('{a}', 'pro')",
    "DELETE FROM tenantry.quota_limit",
    "DELETE FROM tenantry.quota_resource",
    "TRUNCATE tenantry.quota_resource",
    "DROP TABLE tenantry.quota_limit",
    "ALTER TABLE students DISABLE TRIGGER tenantry_quota",
    "DROP TRIGGER tenantry_quota ON students",
    "SET LOCAL session_replication_role = replica",
    "SELECT tenantry.quota_off('students')",
    "SELECT tenantry.quota_on('students', 'nothing')",
    "SELECT tenantry.quota_hold('{a}', 'students', -100)",
    "SELECT tenantry.quotas_grant('product_app')",
    "CREATE OR REPLACE FUNCTION tenantry.quota_of(tenant text, resource text) RETURNS bigint "
    "LANGUAGE sql AS 'SELECT NULL::bigint'",
    "CREATE TEMP TABLE added (tenant_id uuid)",
    "CREATE TEMP TABLE quota_resource (resource text, relation regclass, tenant_column name)",
    "CREATE FUNCTION public.format(text, VARIADIC \"any\") RETURNS text LANGUAGE sql AS $$SELECT 'SELECT 0'$$",
    "SET LOCAL search_path = pg_temp, public",
)


async def after(shop: Shop, attack: str) -> None:
    """Insert one too many in the scope of an attack, which PostgreSQL may have refused."""
    async with shop.router.tenant(shop.a) as conn:
        with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError):
            async with conn.transaction():
                await conn.execute(attack)
        await conn.execute("INSERT INTO students (name) VALUES ('one too many')")


@pytest.mark.parametrize("careless", [False, True], ids=["granted as installed", "after GRANT ALL"])
async def test_the_application_role_can_not_get_around_its_limit(shop: Shop, careless: bool) -> None:
    await limit(shop)
    await add(shop, shop.a, LIMIT)
    if careless:
        await shop.sql("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA tenantry TO product_app")
    for attack in ATTACKS:
        with pytest.raises((QuotaExceeded, asyncpg.InsufficientPrivilegeError)):
            await after(shop, attack.format(a=shop.a))
        assert await count(shop, shop.a) == LIMIT, attack


async def test_a_row_for_another_tenant_is_refused_by_its_policy_not_by_its_limit(shop: Shop) -> None:
    await limit(shop)
    await add(shop, shop.b, LIMIT)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await shop.router.execute(shop.a, "INSERT INTO students (tenant_id, id) VALUES ($1, 1)", shop.b)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO students (id, name) VALUES (-1, 'x') ON CONFLICT (tenant_id, id) DO UPDATE SET name = 'y'",
        "MERGE INTO students AS s USING (VALUES (-1)) AS v (id) ON s.id = v.id "
        "WHEN NOT MATCHED THEN INSERT (id, name) VALUES (-1, 'x')",
        "WITH w AS (INSERT INTO students (name) VALUES ('x') RETURNING id) SELECT count(*) FROM w",
        "DO $$ BEGIN INSERT INTO students (name) VALUES ('x'); END $$",
    ],
    ids=["upsert", "merge", "with", "do"],
)
async def test_every_way_to_insert_is_counted(shop: Shop, statement: str) -> None:
    await limit(shop)
    await add(shop, shop.a, LIMIT)
    with pytest.raises(QuotaExceeded):
        await shop.router.execute(shop.a, statement)


async def test_an_upsert_that_only_updates_takes_no_place(shop: Shop) -> None:
    await limit(shop)
    await add(shop, shop.a, LIMIT)
    first = await shop.router.fetchval(shop.a, "SELECT min(id) FROM students")
    await shop.router.execute(
        shop.a,
        "INSERT INTO students (id, name) VALUES ($1, 'x') ON CONFLICT (tenant_id, id) DO UPDATE SET name = 'y'",
        first,
    )


async def test_an_operators_bulk_load_counts_for_each_tenant(shop: Shop) -> None:
    await limit(shop)
    operator = await asyncpg.connect(shop.product.server.dsn(shop.product.database, user=OPERATOR))
    try:
        rows = [(tenant, n) for tenant in (shop.a, shop.b) for n in range(LIMIT)]
        await operator.copy_records_to_table("students", records=rows, columns=["tenant_id", "id"])
        with pytest.raises(QuotaExceeded):
            await operator.copy_records_to_table("students", records=[(shop.b, 99)], columns=["tenant_id", "id"])
        await operator.execute("DELETE FROM students WHERE tenant_id = $1 AND id = 0", shop.b)
        await operator.execute(
            "UPDATE students SET tenant_id = $2, id = 99 WHERE tenant_id = $1 AND id = 1", shop.a, shop.b
        )
        with pytest.raises(QuotaExceeded):
            await operator.execute(
                "UPDATE students SET tenant_id = $2, id = 98 WHERE tenant_id = $1 AND id = 2", shop.a, shop.b
            )
    finally:
        await operator.close()


@pytest.mark.parametrize("ids", list(IdType))
async def test_limits_hold_for_every_type_of_id(pg18: EmbeddedServer, ids: IdType) -> None:
    async with shop_on(pg18, hardened=False, ids=ids) as shop:
        await limit(shop, 1)
        await add(shop, shop.a)
        with pytest.raises(QuotaExceeded):
            await add(shop, shop.a)
        assert await shop.router.fetchval(shop.a, "SELECT used FROM tenantry.my_quotas") == 1


async def test_partitions_that_are_written_directly_count_too(shop: Shop) -> None:
    await shop.sql("CREATE TABLE logs (tenant_id uuid, n int) PARTITION BY HASH (n)")
    for part in range(2):
        await shop.sql(f"CREATE TABLE logs_{part} PARTITION OF logs FOR VALUES WITH (MODULUS 2, REMAINDER {part})")
    await shop.sql("SELECT tenantry.quota_on('logs')")
    await shop.sql("INSERT INTO tenantry.quota_limit VALUES ('default', 'logs', 5)")
    await shop.sql("INSERT INTO logs SELECT $1, n FROM generate_series(1, 4) AS n", shop.a)
    even = await shop.sql("SELECT tableoid::regclass::text AS part, n FROM logs LIMIT 1")
    statement = f"INSERT INTO {even[0]['part']} VALUES ($1, $2)"
    await shop.sql(statement, shop.a, even[0]["n"])
    with pytest.raises(QuotaExceeded):
        await shop.sql(statement, shop.a, even[0]["n"])


async def test_a_table_without_the_column_is_refused_by_name(shop: Shop) -> None:
    with pytest.raises(asyncpg.RaiseError, match="no table with a column tenant"):
        await shop.sql("SELECT tenantry.quota_on('students', 'students', 'tenant')")
