"""What a database or a role brings along, and scopes have to live with."""

from __future__ import annotations

from tenantry import sql
from tenantry.embedded import EmbeddedServer
from tests.support.installing import make_data
from tests.support.product import APP, product_on

WHO = "SELECT current_user::text"


async def test_a_role_that_the_login_role_takes_by_default_is_back_in_every_scope(pg: EmbeddedServer) -> None:
    """ALTER ROLE … SET role: what DISCARD ALL would lose."""
    with product_on(pg) as product:
        async with product.admin() as admin:
            await admin.execute(
                f"DROP ROLE IF EXISTS doorman; CREATE ROLE doorman LOGIN; GRANT {APP} TO doorman; "
                f"ALTER ROLE doorman SET role = '{APP}'"
            )
        try:
            async with product.open(pool={"max": 1}, shared={"dsn": product.dsn("doorman")}) as router:
                [a, b] = await product.signed_up(router, 2)
                for tenant in (a, b, a):
                    async with router.tenant(tenant) as conn:
                        assert await conn.fetchval(WHO) == APP
                        await conn.execute("SET ROLE NONE")
                        assert await conn.fetchval(WHO) == "doorman"
        finally:
            async with product.admin() as admin:
                await admin.execute("DROP ROLE doorman")


async def test_where_citus_is_installed_the_tenant_is_set_as_citus_propagates_it(pg18: EmbeddedServer) -> None:
    """Citus itself isn't here; a row in the catalog says that it is, so this is about what is generated."""
    body = "SELECT prosrc FROM pg_proc WHERE oid IN ('tenantry.bind(text)'::regprocedure, {enter})"
    bodies = body.format(enter="'tenantry.enter(text, text, integer)'::regprocedure")
    with product_on(pg18) as product:
        async with product.admin() as admin:
            assert not (await admin.fetchrow(sql.query("check/local")))["citus_came_later"]
            before = [row["prosrc"] for row in await admin.fetch(bodies)]
            await admin.execute(
                "INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion) "
                "SELECT 4242424, 'citus', oid, 'public'::regnamespace, false, '13.2' "
                "FROM pg_roles WHERE rolname = current_user"
            )
            assert (await admin.fetchrow(sql.query("check/local")))["citus_came_later"]
            await make_data(admin, APP)
            assert not (await admin.fetchrow(sql.query("check/local")))["citus_came_later"]
            after = [row["prosrc"] for row in await admin.fetch(bodies)]
        assert len(before) == len(after) == 2
        assert not any("SET LOCAL" in source for source in before)
        assert all("EXECUTE format('SET LOCAL app.current_tenant = %L', tenant)" in source for source in after)
        async with product.open() as router:
            [a, b] = await product.signed_up(router, 2)
            await router.execute(a, "INSERT INTO students (name) VALUES ('Ada')")
            assert await router.fetchval(a, "SELECT count(*) FROM students") == 1
            assert await router.fetchval(b, "SELECT count(*) FROM students") == 0
