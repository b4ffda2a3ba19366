"""G4: the router refuses to serve through a role that bypasses RLS, says which way, and how to fix it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest

from tenantry import UnsafeRole
from tests.support.product import Product


class Danger(NamedTuple):
    """A way past row-level security. `{role}` is the application's role, `{group}` another one."""

    make: str
    problem: str


DANGERS = {
    "superuser": Danger("ALTER ROLE {role} SUPERUSER", "it is a superuser"),
    "bypassrls": Danger("ALTER ROLE {role} BYPASSRLS", "it has BYPASSRLS"),
    "member": Danger("ALTER ROLE {group} BYPASSRLS; GRANT {group} TO {role}", "it is a member of"),
    "member of a member": Danger(
        "CREATE ROLE {group}2 BYPASSRLS; GRANT {group}2 TO {group}; GRANT {group} TO {role}", "it is a member of"
    ),
    "member of a superuser": Danger("ALTER ROLE {group} SUPERUSER; GRANT {group} TO {role}", "it is a member of"),
    "owner without force": Danger(
        "ALTER TABLE students OWNER TO {role}; ALTER TABLE students NO FORCE ROW LEVEL SECURITY",
        "it owns students, whose row-level security is not forced",
    ),
    "owner through a group": Danger(
        "GRANT {group} TO {role}; ALTER TABLE students OWNER TO {group}; "
        "ALTER TABLE students NO FORCE ROW LEVEL SECURITY",
        "it owns students, whose row-level security is not forced",
    ),
    "owner of a table without policies": Danger(
        "CREATE TABLE loose (tenant_id uuid); ALTER TABLE loose OWNER TO {role}",
        "it owns loose, whose row-level security is not forced",
    ),
}
ROLE, GROUP = '"Danger""ous"', "dangerous_group"


@pytest.fixture
async def admin(fresh: Product) -> AsyncIterator[Any]:
    """The superuser, with a role that wants quoting and a group, gone afterwards."""
    async with fresh.admin() as connection:
        await connection.execute(
            f"CREATE ROLE {ROLE} LOGIN; CREATE ROLE {GROUP}; SELECT tenantry.grant_application('Danger\"ous');"
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {ROLE}"
        )
        yield connection
        await connection.execute(
            f"DROP OWNED BY {ROLE}, {GROUP} CASCADE; DROP ROLE {ROLE}, {GROUP}; DROP ROLE IF EXISTS {GROUP}2"
        )


@pytest.mark.parametrize("name", DANGERS)
async def test_the_router_refuses_to_open_and_the_fix_it_names_works(
    fresh: Product, admin: Any, name: str
) -> None:
    danger = DANGERS[name]
    section = {"dsn": fresh.dsn(user='Danger"ous')}
    await admin.execute(danger.make.format(role=ROLE, group=GROUP))
    with pytest.raises(UnsafeRole) as refused:
        async with fresh.open(shared=section):
            pytest.fail("opened")
    error = refused.value
    assert error.database == "shared"
    assert error.role == 'Danger"ous'
    assert any(problem.startswith(danger.problem) for problem in error.problems), error.problems
    assert len(error.problems) == len(error.fixes) == str(error).count("fix:")
    for fix in error.fixes:
        await admin.execute(fix)
    async with fresh.open(shared=section) as router:
        [tenant] = await fresh.signed_up(router)
        assert await router.fetchval(tenant, "SELECT 1") == 1


async def test_a_dedicated_database_through_an_unsafe_role_is_refused_when_it_is_used(fresh: Product) -> None:
    async with fresh.dedicated("acme") as section:
        section["dsn"] = section["dsn"].replace("product_app@", "postgres@")
        async with fresh.open(databases={"acme": section}) as router:
            with pytest.raises(UnsafeRole) as refused:
                await fresh.signed_up(router, database="acme")
            assert refused.value.database == "acme"
            [tenant] = await fresh.signed_up(router)
            assert await router.fetchval(tenant, "SELECT 1") == 1


async def test_a_safe_role_is_served(product: Product) -> None:
    """Also one that owns a tenant table with FORCE, and one that is a member of harmless groups."""
    async with product.open() as router:
        [tenant] = await product.signed_up(router)
        assert await router.fetchval(tenant, "SELECT 1") == 1
