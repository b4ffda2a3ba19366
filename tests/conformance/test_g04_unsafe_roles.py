"""G4: the router refuses to serve through a role that bypasses RLS, says which way, and how to fix it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import pytest

from tenantry import UnsafeRole
from tests.support.product import Product, product_on


class Danger(NamedTuple):
    """A way past row-level security. `{role}` is the application's role, `{group}` another one."""

    make: str
    problem: str


DANGERS = {
    "superuser": Danger("ALTER ROLE {role} SUPERUSER", "it is a superuser"),
    "bypassrls": Danger("ALTER ROLE {role} BYPASSRLS", "it has BYPASSRLS"),
    "member": Danger("ALTER ROLE {group} BYPASSRLS; GRANT {group} TO {role}", "it is a member of"),
    "member of a member": Danger(
        "CREATE ROLE dangerous_other BYPASSRLS; GRANT dangerous_other TO {group}; GRANT {group} TO {role}",
        "it is a member of",
    ),
    "member of a superuser": Danger("ALTER ROLE {group} SUPERUSER; GRANT {group} TO {role}", "it is a member of"),
    "replication": Danger("ALTER ROLE {role} REPLICATION", "it has REPLICATION"),
    "replication through a group": Danger(
        "ALTER ROLE {group} REPLICATION; GRANT {group} TO {role}", "it is a member of"
    ),
    "createrole": Danger("ALTER ROLE {role} CREATEROLE", "it has CREATEROLE"),
    "member that does not inherit": Danger(
        "ALTER ROLE {role} NOINHERIT; ALTER ROLE {group} CREATEROLE; GRANT {group} TO {role}", "it is a member of"
    ),
    "runs programs": Danger(
        "GRANT pg_execute_server_program TO {role}", "it is a member of pg_execute_server_program"
    ),
    "reads files, through a group": Danger(
        "GRANT pg_read_server_files TO {group}; GRANT {group} TO {role}", "it is a member of pg_read_server_files"
    ),
    "writes files": Danger("GRANT pg_write_server_files TO {role}", "it is a member of pg_write_server_files"),
    "reads everything": Danger("GRANT pg_read_all_data TO {role}", "it is a member of pg_read_all_data"),
    "writes everything": Danger("GRANT pg_write_all_data TO {role}", "it is a member of pg_write_all_data"),
    "reads the secret": Danger("GRANT SELECT ON tenantry.secret TO {role}", "it may SELECT tenantry.secret"),
    "reads a column of the secret": Danger(
        "GRANT SELECT (inner_pad) ON tenantry.secret TO {group}; GRANT {group} TO {role}",
        "it may SELECT tenantry.secret, as",
    ),
    "writes placements": Danger(
        "GRANT UPDATE (epoch) ON tenantry.placement TO PUBLIC", "it may UPDATE tenantry.placement, as everybody"
    ),
    "owns our schema": Danger("ALTER SCHEMA tenantry OWNER TO {role}", "it owns tenantry"),
    "owns a function of ours": Danger(
        "ALTER FUNCTION tenantry.admitted() OWNER TO {role}", "it owns tenantry.admitted()"
    ),
    "makes functions in our schema": Danger(
        "GRANT CREATE ON SCHEMA tenantry TO {role}", "it may CREATE in schema tenantry"
    ),
    "reads statistics": Danger("GRANT SELECT ON pg_statistic TO {role}", "it may SELECT pg_catalog.pg_statistic"),
    "reads passwords": Danger(
        "GRANT SELECT ON pg_authid TO {group}; GRANT {group} TO {role}", "it may SELECT pg_catalog.pg_authid"
    ),
    "reads a file by a function": Danger(
        "GRANT EXECUTE ON FUNCTION pg_read_file(text) TO {role}", "it may EXECUTE pg_catalog.pg_read_file"
    ),
    "preset of the role": Danger(
        "ALTER ROLE {role} SET app.current_tenant = 'x'", "it has connections that begin with app.current_tenant"
    ),
    "preset of the database": Danger(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET app.current_tenant = 1', current_database()); END $$",
        "it has connections that begin with app.current_tenant",
    ),
    "preset of the role in the database": Danger(
        "DO $$ BEGIN EXECUTE format('ALTER ROLE {role} IN DATABASE %I SET app.current_tenant = %L', "
        "current_database(), 'x'); END $$",
        "it has connections that begin with app.current_tenant",
    ),
    "preset of every role": Danger(
        "ALTER ROLE ALL SET \"App.Current_Tenant\" = 'x'", "it has connections that begin with App.Current_Tenant"
    ),
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
ROLE, GROUP = '"Danger""ous"', '"the ""group"'


@pytest.fixture(params=["pg15", "pg18"])
def fresh(request: pytest.FixtureRequest) -> Iterator[Product]:
    """On the oldest server, whose memberships have no options, and on the newest; the audit's tests add 16."""
    with product_on(request.getfixturevalue(request.param)) as made:
        yield made


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
            f"DROP OWNED BY {ROLE}, {GROUP} CASCADE; DROP ROLE {ROLE}, {GROUP};"
            "DROP ROLE IF EXISTS dangerous_other; ALTER ROLE ALL RESET app.current_tenant"
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


#: Tables of which the role is the owner, and what the configuration says of tables.
OWNED = {
    "a column spelt otherwise": ('CREATE TABLE loose ("Tenant-ID" uuid)', {}),
    "a column of an override": ("CREATE TABLE loose (customer uuid)", {"public.loose": "customer"}),
    "the override of a parent": (
        "CREATE TABLE above (customer uuid); CREATE TABLE loose () INHERITS (above)",
        {"public.above": "customer"},
    ),
    "two columns that could both be it": ('CREATE TABLE loose ("tenantId" uuid, "TENANT_ID" uuid)', {}),
    "an override of a column that is not there": ("CREATE TABLE loose (id int)", {"public.loose": "customer"}),
    "a partition of its own": (
        "CREATE TABLE above (tenant_id uuid) PARTITION BY LIST (tenant_id);"
        "CREATE TABLE loose PARTITION OF above DEFAULT",
        {},
    ),
}


@pytest.mark.parametrize("name", OWNED)
async def test_the_router_refuses_the_owner_of_any_tenant_table_that_the_configuration_makes_one(
    fresh: Product, admin: Any, name: str
) -> None:
    made, overrides = OWNED[name]
    sections: Any = {"shared": {"dsn": fresh.dsn(user='Danger"ous')}, "tenancy": {"tables": overrides}}
    await admin.execute(f"{made}; ALTER TABLE loose OWNER TO {ROLE}")
    with pytest.raises(UnsafeRole, match="it owns loose, whose row-level security is not forced") as refused:
        async with fresh.open(**sections):
            pytest.fail("opened")
    for mend in refused.value.fixes:
        await admin.execute(mend)
    async with fresh.open(**sections) as router:
        [tenant] = await fresh.signed_up(router)
        assert await router.fetchval(tenant, "SELECT 1") == 1


@pytest.mark.parametrize("word", ["reference", "once", "ignore"])
async def test_the_owner_of_a_table_that_is_not_a_tenants_is_served(fresh: Product, admin: Any, word: str) -> None:
    await admin.execute(
        "CREATE TABLE prices (tenant_id uuid) PARTITION BY LIST (tenant_id);"
        "CREATE TABLE rest PARTITION OF prices DEFAULT;"
        f"CREATE TABLE plain (id int); ALTER TABLE prices OWNER TO {ROLE}; ALTER TABLE rest OWNER TO {ROLE};"
        f"ALTER TABLE plain OWNER TO {ROLE}"
    )
    sections: Any = {
        "shared": {"dsn": fresh.dsn(user='Danger"ous')},
        "tenancy": {"tables": {"public.prices": word}},
    }
    async with fresh.open(**sections) as router:
        [tenant] = await fresh.signed_up(router)
        assert await router.fetchval(tenant, "SELECT 1") == 1


async def test_a_connection_that_begins_with_a_tenant_set_is_refused_wherever_that_comes_from(
    fresh: Product,
) -> None:
    dsn = fresh.dsn() + "?options=-c%20app.current_tenant%3Dx"
    with pytest.raises(UnsafeRole, match=r"its connections begin with app\.current_tenant set"):
        async with fresh.open(shared={"dsn": dsn}):
            pytest.fail("opened")


async def test_a_membership_that_gives_nothing_and_an_empty_preset_are_no_reason_to_refuse(
    fresh: Product, admin: Any
) -> None:
    if (await admin.fetchval("SELECT current_setting('server_version_num')::int")) >= 160000:
        await admin.execute(
            f"ALTER ROLE {GROUP} BYPASSRLS; GRANT {GROUP} TO {ROLE} WITH INHERIT FALSE, SET FALSE, ADMIN FALSE"
        )
    await admin.execute(f"ALTER ROLE {ROLE} SET app.current_tenant = ''")
    async with fresh.open(shared={"dsn": fresh.dsn(user='Danger"ous')}) as router:
        [tenant] = await fresh.signed_up(router)
        assert await router.fetchval(tenant, "SELECT 1") == 1


async def test_a_table_that_is_made_later_is_seen_by_the_next_connection(fresh: Product, admin: Any) -> None:
    async with fresh.open(shared={"dsn": fresh.dsn(user='Danger"ous')}) as router:
        await fresh.signed_up(router)
        await admin.execute(f"CREATE TABLE loose (tenant_id uuid); ALTER TABLE loose OWNER TO {ROLE}")
        with pytest.raises(UnsafeRole, match="it owns loose"):
            await router.pools.dial(await router.pools.spec("shared"))


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
