"""Installing kits, again and again, and taking them away."""

from __future__ import annotations

import pytest

from tenantry import kits
from tenantry.embedded import EmbeddedServer
from tenantry.errors import ConfigError, UnsafeRole
from tests.integration.kits.conftest import Shop
from tests.support.product import APP, product_on

OBJECTS = (
    "SELECT 'table ' || c.relname AS it FROM pg_class AS c WHERE c.relnamespace = 'tenantry'::regnamespace "
    "UNION ALL SELECT 'function ' || f.proname FROM pg_proc AS f WHERE f.pronamespace = 'tenantry'::regnamespace "
    "UNION ALL SELECT 'trigger ' || t.tgname FROM pg_trigger AS t WHERE NOT t.tgisinternal ORDER BY 1"
)


async def test_installing_again_keeps_limits_entries_and_what_is_watched(shop: Shop) -> None:
    await shop.sql("SELECT tenantry.quota_on('students'), tenantry.audit_on('students')")
    await shop.sql("INSERT INTO tenantry.quota_limit VALUES ('default', 'students', 2)")
    await shop.router.execute(shop.a, "INSERT INTO students (id) VALUES (1)")
    before = await shop.sql(OBJECTS)
    async with shop.product.admin() as admin:
        assert await kits.install(admin, "usage,quotas, audit", application_role=APP) == kits.KITS
    assert await shop.sql(OBJECTS) == before
    await shop.router.execute(shop.a, "INSERT INTO students (id) VALUES (2)")
    with pytest.raises(kits.QuotaExceeded):
        await shop.router.execute(shop.a, "INSERT INTO students (id) VALUES (3)")
    assert await shop.router.fetchval(shop.a, "SELECT count(*) FROM tenantry.audit_log") == 2


async def test_removing_leaves_nothing_behind_but_the_log_and_that_on_demand(pg: EmbeddedServer) -> None:
    with product_on(pg) as product:
        async with product.admin() as admin:
            before = await admin.fetch(OBJECTS)
            await kits.install(admin, kits.KITS, application_role=APP)
            assert await kits.installed(admin) == kits.KITS
            await admin.execute("SELECT tenantry.quota_on('students'), tenantry.audit_on('students')")
            await admin.execute("INSERT INTO students VALUES (gen_random_uuid(), 1)")
            assert await kits.remove(admin, kits.KITS) == kits.KITS
            assert await kits.installed(admin) == ()
            await admin.execute("INSERT INTO students VALUES (gen_random_uuid(), 1)")
            assert await admin.fetchval("SELECT count(*) FROM tenantry.audit_log") == 1
            await kits.install(admin, "audit", application_role=APP)
            assert await kits.remove(admin, kits.KITS, keep_log=False) == ("audit",)
            assert await admin.fetch(OBJECTS) == before


async def test_a_table_dropped_meanwhile_is_no_obstacle_to_removing(pg18: EmbeddedServer) -> None:
    with product_on(pg18) as product:
        async with product.admin() as admin:
            await kits.install(admin, kits.KITS, application_role=APP)
            await admin.execute("CREATE TABLE brief (tenant_id uuid)")
            await admin.execute("SELECT tenantry.quota_on('brief'), tenantry.audit_on('brief')")
            await admin.execute("DROP TABLE brief")
            await kits.remove(admin, kits.KITS)


async def test_installing_an_unknown_kit_names_it_and_the_kits_that_there_are(
    pg18: EmbeddedServer, database: str
) -> None:
    with pytest.raises(ConfigError, match="no kit 'quota'; there are: quotas, audit, usage"):
        kits.parse("audit,quota")


async def test_without_the_schema_the_next_step_is_said(pg18: EmbeddedServer) -> None:
    with product_on(pg18) as product:
        async with product.admin() as admin:
            await admin.execute("DROP SCHEMA tenantry CASCADE")
            with pytest.raises(ConfigError, match="tenantry init"):
                await kits.install(admin, "audit", application_role=APP)


async def test_a_role_that_owns_the_schema_is_refused(pg18: EmbeddedServer) -> None:
    with product_on(pg18) as product:
        async with product.admin() as admin:
            with pytest.raises(UnsafeRole, match="no kit holds"):
                await kits.install(admin, "audit", application_role="postgres")
            assert await kits.installed(admin) == ()


async def test_limits_and_entries_follow_a_tenant_to_another_database_once(shop: Shop) -> None:
    await shop.sql("SELECT tenantry.audit_on('students')")
    await shop.sql("INSERT INTO tenantry.quota_limit VALUES ('pro', 'students', 5)")
    for tenant in (shop.a, shop.b):
        await shop.sql("INSERT INTO tenantry.quota_plan VALUES ($1, 'pro')", str(tenant))
        await shop.router.execute(tenant, "INSERT INTO students (id) VALUES (1)")
    with product_on(shop.product.server) as other:
        async with shop.product.admin() as source, other.admin() as target:
            await kits.install(target, kits.KITS, application_role=APP)
            await target.execute("UPDATE tenantry.database_identity SET name = 'acme'")
            assert await kits.carry(source, target, shop.a) == 3
            assert await kits.carry(source, target, shop.a) == 0
            assert [
                tuple(row) for row in await target.fetch("SELECT database, tenant FROM tenantry.audit_log")
            ] == [("shared", str(shop.a))]
            assert await target.fetchval("SELECT tenantry.quota_of($1, 'students')", str(shop.a)) == 5
            assert await target.fetchval("SELECT tenantry.quota_of($1, 'students')", str(shop.b)) is None
