"""The usage kit: a tenant reads its own metering, for its bill."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import asyncpg

from tenantry import kits
from tests.integration.kits.conftest import Shop
from tests.support.product import APP, fresh_database

DAY = date(2026, 11, 20)
SINCE = date(2026, 1, 1)


async def used(shop: Shop, tenant: Any, day: date, busy: float, *, rolled: bool = False) -> None:
    if rolled:
        await shop.sql(
            "INSERT INTO tenantry.usage_day (day, database, tenant, busy_seconds, commits, statements) "
            "VALUES ($1, 'shared', $2, $3, 1, 2)",
            day,
            str(tenant),
            busy,
        )
        return
    hour = datetime(day.year, day.month, day.day, 13, tzinfo=UTC)
    await shop.sql(
        "INSERT INTO tenantry.usage (hour, database, tenant, busy_seconds, commits, statements) "
        "VALUES ($1, 'shared', $2, $3, 1, 2)",
        hour,
        str(tenant),
        busy,
    )


READ = "SELECT day, database, busy_seconds, commits, statements FROM tenantry.my_usage ORDER BY day"


async def test_a_tenant_reads_its_own_days_hours_and_rolled_up_days_together(shop: Shop) -> None:
    await used(shop, shop.a, DAY, 1.5)
    await used(shop, shop.a, DAY, 2.0, rolled=True)
    await used(shop, shop.b, DAY, 40.0)
    rows = await shop.router.fetch(shop.a, READ)
    assert [tuple(row) for row in rows] == [(DAY, "shared", 3.5, 2, 4)]
    assert (await shop.router.fetchval(shop.b, "SELECT sum(busy_seconds) FROM tenantry.my_usage")) == 40.0


async def test_an_import_is_on_nobodys_bill(shop: Shop) -> None:
    await shop.sql(
        "INSERT INTO tenantry.usage_day (day, database, tenant, source, busy_seconds) "
        "VALUES ($1, 'shared', $2, 'imported', 9)",
        DAY,
        str(shop.a),
    )
    assert await shop.router.fetch(shop.a, READ) == []


async def test_nothing_is_read_without_a_tenant_or_of_the_ledger_itself(shop: Shop) -> None:
    await used(shop, shop.a, DAY, 1.5)
    connection = await asyncpg.connect(shop.product.dsn())
    try:
        assert await connection.fetch("SELECT * FROM tenantry.my_usage") == []
    finally:
        await connection.close()
    for statement in (
        "SELECT * FROM tenantry.usage",
        "SELECT * FROM tenantry.usage_day",
        "UPDATE tenantry.my_usage SET busy_seconds = 0",
        "DELETE FROM tenantry.my_usage",
        "INSERT INTO tenantry.usage_copy (tenant) VALUES ('x')",
        "DELETE FROM tenantry.usage_copy",
    ):
        try:
            await shop.router.execute(shop.a, statement)
        except (asyncpg.InsufficientPrivilegeError, asyncpg.ObjectNotInPrerequisiteStateError):
            continue
        raise AssertionError(statement)


async def test_a_function_of_the_attackers_does_not_see_through_the_view(shop: Shop) -> None:
    await used(shop, shop.b, DAY, 40.0)
    await used(shop, shop.a, DAY, 1.0)
    async with shop.router.tenant(shop.a) as conn:
        await conn.execute(
            "CREATE FUNCTION pg_temp.peek(double precision) RETURNS boolean LANGUAGE plpgsql COST 0.000001 AS "
            "$$ BEGIN IF $1 > 30 THEN RAISE EXCEPTION 'seen %', $1; END IF; RETURN true; END $$"
        )
        rows = await conn.fetch("SELECT * FROM tenantry.my_usage WHERE pg_temp.peek(busy_seconds)")
        assert len(rows) == 1


async def test_a_second_database_gets_a_copy_of_the_usage_view_and_a_newer_one_replaces_it(shop: Shop) -> None:
    await used(shop, shop.a, DAY, 1.5)
    await used(shop, shop.b, DAY, 40.0)
    with fresh_database(shop.product.server) as name:
        async with shop.product.admin(name) as data, shop.product.admin() as control:
            # A data database only: the ledger is elsewhere.
            await data.execute("DROP TABLE tenantry.usage, tenantry.usage_day CASCADE")
            await kits.install(data, "usage", application_role=APP)
            await data.execute("SELECT tenantry.enroll($1, 1)", str(shop.a))
            assert await kits.copy_usage(control, data, since=SINCE) == 1
            await used(shop, shop.a, DAY, 2.0, rolled=True)
            assert await kits.copy_usage(control, data, since=SINCE) == 1
            tenants = await data.fetch("SELECT DISTINCT tenant FROM tenantry.usage_copy")
            assert [row["tenant"] for row in tenants] == [str(shop.a)]
        app = await asyncpg.connect(shop.product.dsn(database=name))
        try:
            async with app.transaction():
                await app.execute("SELECT tenantry.bind($1)", str(shop.a))
                assert [tuple(row) for row in await app.fetch(READ)] == [(DAY, "shared", 3.5, 2, 4)]
            assert await app.fetch(READ) == []
        finally:
            await app.close()
