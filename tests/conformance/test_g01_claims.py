"""G1, G3: claims say who asks within the tenant: they narrow, never widen, and end with their scope."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from tenantry import InvalidClaims, Router, RouterPinned
from tenantry.catalog.read import read
from tenantry.catalog.tenancy import Tenancy
from tenantry.config import Config
from tenantry.embedded import EmbeddedServer
from tenantry.errors import ConfigError
from tenantry.ids import TenantId
from tenantry.isolation.facts import Facts
from tenantry.isolation.plan.policies import guarding
from tenantry.router.claims import MOST_BYTES
from tests.support.pgbouncer import PgBouncer
from tests.support.product import APP, Product, product_on
from tests.support.proxy import Proxy
from tests.support.until import until

CLAIMS = "SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb"
SUB = "SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'"
NASTY = "'; SELECT set_config('app.current_tenant', 'x', false); -- $1 \\ € \n\u2028"

#: As a Supabase product has it: its own functions, policies for users and for staff, whatever the tenant.
SUPABASE = f"""
CREATE SCHEMA auth;
CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE AS
    $$ SELECT coalesce(nullif(current_setting('request.jwt.claim', true), ''),
                       nullif(current_setting('request.jwt.claims', true), ''))::jsonb $$;
CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS
    $$ SELECT (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid $$;
CREATE TABLE notes (tenant_id uuid NOT NULL DEFAULT tenantry.current_tenant(), author uuid DEFAULT auth.uid(),
    body text, PRIMARY KEY (tenant_id, body));
CREATE POLICY own ON notes USING (author = auth.uid()) WITH CHECK (author = auth.uid());
CREATE POLICY staff ON notes USING (auth.jwt() ->> 'role' = 'staff');
CREATE POLICY of_the_claimed_tenant ON notes USING (tenant_id = (auth.jwt() ->> 'tenant_id')::uuid);
GRANT USAGE ON SCHEMA auth TO {APP};
"""


@pytest.fixture(params=["plain", "hardened"])
async def supabase(request: pytest.FixtureRequest, pg18: EmbeddedServer) -> AsyncIterator[Product]:
    """A product whose policies read claims and nothing else, with the guard that `rls plan` puts beside them."""
    hardened = request.param == "hardened"
    with product_on(pg18, hardened=hardened) as product:
        async with product.admin() as admin:
            await admin.execute(SUPABASE)
            await guard_notes(admin, hardened)
        yield product


async def guard_notes(admin: Any, hardened: bool) -> None:
    """By the way that `rls plan` offers first: keep the policies, held by the guard."""
    facts = Facts(await read(admin), Tenancy(hardened=hardened), APP)
    ((relation, column),) = [found for found in facts.tenant_tables if found[0].name == "notes"]
    for statement in (
        *guarding(facts, relation, column),
        "ALTER TABLE notes ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE notes FORCE ROW LEVEL SECURITY",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON notes TO {APP}",
    ):
        await admin.execute(statement)


async def test_policies_on_claims_work_within_the_tenant_and_no_claim_widens_it(supabase: Product) -> None:
    ada, bob = str(uuid.uuid4()), str(uuid.uuid4())
    async with supabase.open(pool={"max": 1}) as router:
        mine, other = await supabase.signed_up(router, 2)

        async def seen(claims: Any) -> list[str]:
            rows = await router.fetch(mine, "SELECT body FROM notes ORDER BY body", claims=claims)
            return [row["body"] for row in rows]

        insert = "INSERT INTO notes (body) VALUES ($1)"
        await router.execute(mine, insert, "ada's", claims={"sub": ada})
        await router.execute(mine, insert, "bob's", claims={"sub": bob})
        await router.execute(other, insert, "secret", claims={"sub": ada})
        assert await seen({"sub": ada}) == ["ada's"]
        assert await seen({"sub": bob}) == ["bob's"]
        assert await seen({"role": "staff"}) == ["ada's", "bob's"], "staff of the bound tenant, and of no other"
        assert await seen(None) == []
        assert await seen({}) == []
        assert await seen({"role": "staff", "tenant_id": str(other), "sub": ada}) == ["ada's", "bob's"]
        for forged in ({"tenant_id": str(other)}, {"sub": ada, "tenant_id": str(other), "role": "staff"}):
            async with router.tenant(mine, claims=forged) as conn:
                assert await conn.fetchval("SELECT count(*) FROM notes WHERE body = 'secret'") == 0
                assert (
                    await conn.execute("UPDATE notes SET body = body || '!' WHERE body = 'secret'") == "UPDATE 0"
                )
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    async with conn.transaction():
                        await conn.execute("INSERT INTO notes (tenant_id, body) VALUES ($1, 'planted')", other)
        assert await router.fetchval(other, "SELECT body FROM notes", claims={"role": "staff"}) == "secret"


async def test_claims_reach_the_scope_as_they_were_given(product: Product) -> None:
    claims = {"sub": NASTY, "n": 2**70, "roles": ["a", None, True, 1.5], "large": "x" * (MOST_BYTES - 200)}
    async with product.open(pool={"max": 1}) as router:
        [tenant] = await product.signed_up(router)
        for options in ({}, {"readonly": True}, {"isolation": "serializable"}, {"timeout": 20.0}):
            async with router.tenant(tenant, claims=claims, **options) as conn:
                assert json.loads(await conn.fetchval(CLAIMS)) == claims
            async with router.tenant(tenant, claims=claims, **options) as conn:
                await conn.opened()
                assert json.loads(await conn.fetchval(CLAIMS)) == claims
        assert json.loads(await router.fetchval(tenant, CLAIMS, claims=claims)) == claims
        assert json.loads(await router.run(tenant, lambda conn: conn.fetchval(CLAIMS), claims=claims)) == claims
        changed = {"sub": "first"}
        scope = router.tenant(tenant, claims=changed)
        changed["sub"] = "later"
        async with scope as conn:
            assert await conn.fetchval(SUB) == "first"


async def test_the_tenants_own_statement_timeout_holds_beside_claims(direct: Product) -> None:
    async with direct.open(pool={"max": 1}) as router:
        [tenant] = await direct.signed_up(router, limits={"statement_timeout": 4321})
        both = "SELECT current_setting('statement_timeout') || ' ' || (current_setting('request.jwt.claims'))"
        assert await router.fetchval(tenant, both, claims={}) == "4321ms {}"


@pytest.mark.parametrize("way", ["commit", "hand-off", "rollback", "statement failed"])
async def test_no_claim_survives_its_scope(product: Product, way: str) -> None:
    """Neither what the router has set, nor what the scope has made of it."""
    async with product.open(pool={"max": 1}) as router:
        first, second = await product.signed_up(router, 2)

        async def heir() -> Any:
            return await router.fetchval(second, CLAIMS)

        waiting: asyncio.Task[Any] | None = None
        try:
            async with router.tenant(first, claims={"role": "staff"}) as conn:
                assert await conn.fetchval(CLAIMS) == '{"role": "staff"}'
                await conn.execute("SELECT set_config('request.jwt.claims', '{\"role\": \"kept\"}', false)")
                if way == "hand-off":
                    waiting = asyncio.create_task(heir())
                    pool = router.pools.open_pools()["shared"]
                    await until(lambda: pool.admission.waiting == 1)
                if way == "statement failed":
                    await conn.fetchval("SELECT 1 / (SELECT 0)")
                if way == "rollback":
                    raise KeyError
        except (KeyError, asyncpg.DivisionByZeroError):
            pass
        assert await (waiting or heir()) is None
        assert await router.fetchval(first, CLAIMS) is None


async def test_while_callers_wait_each_scope_has_its_own_claims_or_none(product: Product) -> None:
    """Hand-offs, with as many prepared statements and one-shots as come."""
    async with product.open(pool={"max": 2}) as router:
        tenants = await product.signed_up(router, 3)

        async def caller(number: int) -> None:
            tenant = tenants[number % 3]
            claims = None if number % 4 == 0 else {"sub": f"user {number}"}
            wanted = None if claims is None else claims["sub"]
            for _ in range(5):
                assert await router.fetchval(tenant, SUB, claims=claims) == wanted
                async with router.tenant(tenant, claims=claims) as conn:
                    assert await conn.fetchval(SUB) == wanted
                    assert await conn.fetchval("SELECT tenantry.current_tenant()") == tenant

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for number in range(24):
                group.create_task(caller(number))


async def test_two_services_behind_one_pgbouncer_connection_never_see_each_others_claims(
    pg18: EmbeddedServer,
) -> None:
    with (
        PgBouncer.start(pg18, "transaction", pool_size=1) as bouncer,
        product_on(pg18, via=bouncer.instead) as product,
    ):
        async with product.open(pool={"max": 2}) as one, product.open(pool={"max": 2}) as another:
            a, b = await product.signed_up(one, 2)

            async def caller(router: Router, tenant: TenantId, sub: str | None) -> None:
                for _ in range(10):
                    claims = None if sub is None else {"sub": sub}
                    assert await router.fetchval(tenant, SUB, claims=claims) == sub

            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                for router, tenant, sub in ((one, a, "x"), (one, b, None), (another, b, "y"), (another, a, None)):
                    group.create_task(caller(router, tenant, sub))


async def test_a_scope_that_is_opened_again_elsewhere_has_its_claims_there(product: Product) -> None:
    """The tenant moves while the router's cache is old: the statement that was refused is sent at the new home."""
    name = f"home_{uuid.uuid4().hex[:8]}"
    async with product.dedicated(name) as section:
        target = section["dsn"].rpartition("/")[2]
        async with product.open(pool={"max": 2}, databases={name: section}) as router:
            [tenant] = await product.signed_up(router)
            claims = {"sub": "ada"}
            assert await router.fetchval(tenant, SUB, claims=claims) == "ada"
            async with product.admin(target) as admin:
                await admin.execute("INSERT INTO tenantry.placement VALUES ($1, $2, 2)", str(tenant), name)
            async with product.admin() as admin:
                await admin.execute(
                    "UPDATE tenantry.placement SET database = $2, epoch = 2 WHERE tenant = $1", str(tenant), name
                )
            both = "SELECT current_database() || ' ' || (current_setting('request.jwt.claims')::jsonb ->> 'sub')"
            async with router.tenant(tenant, claims=claims) as moved:
                assert await moved.fetchval(both) == f"{target} ada"
            assert await router.fetchval(tenant, both, claims=claims) == f"{target} ada"


async def test_a_scope_whose_connection_was_killed_before_its_first_statement_has_its_claims_on_another(
    direct: Product,
) -> None:
    async with direct.open(pool={"max": 1}) as router:
        [tenant] = await direct.signed_up(router)
        backend = await router.fetchval(tenant, "SELECT pg_backend_pid()")
        async with router.tenant(tenant, claims={"sub": "ada"}) as conn, direct.admin() as admin:
            await admin.fetchval("SELECT pg_terminate_backend($1, 5000)", backend)
            row = await conn.fetchrow(f"SELECT pg_backend_pid(), ({SUB})")
            assert row[0] != backend
            assert row[1] == "ada"


async def test_scopes_that_are_cancelled_at_every_await_leave_no_claim_behind(direct: Product) -> None:
    async with direct.open(pool={"max": 1}) as router:
        mine, other = await direct.signed_up(router, 2)

        async def staff() -> None:
            async with router.tenant(mine, claims={"role": "staff"}) as conn:
                await conn.fetchval(SUB)
                await conn.fetchval("SELECT pg_sleep(0.001)")

        for turns in range(40):
            task = asyncio.create_task(staff())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert await router.fetchval(other, CLAIMS) is None


async def test_a_scope_that_heals_keeps_its_claims(fresh: Product) -> None:
    """Its first statement failed because the schema had changed, and is sent once more."""
    async with fresh.open(pool={"max": 1}) as router:
        [tenant] = await fresh.signed_up(router)
        select = "SELECT *, current_setting('request.jwt.claims') AS claims FROM students"
        await router.execute(tenant, "INSERT INTO students (name) VALUES ('x')")
        await router.fetch(tenant, select, claims={"sub": "a"})
        async with fresh.admin() as admin:
            await admin.execute("ALTER TABLE students ADD COLUMN nick text")
        async with router.tenant(tenant, claims={"sub": "b"}) as conn:
            assert [row["claims"] for row in await conn.fetch(select)] == ['{"sub":"b"}']


RAW = "SELECT current_setting('request.jwt.claims', true)::jsonb ->> 'sub'"


async def test_with_a_default_of_its_role_the_bare_form_of_a_policy_works_with_and_without_claims(
    fresh: Product,
) -> None:
    """Without one it fails, on connections that have had claims: an empty text is no JSON."""
    async with fresh.open(pool={"max": 1}) as router:
        [tenant] = await fresh.signed_up(router)
        assert await router.fetchval(tenant, RAW) is None
        assert await router.fetchval(tenant, RAW, claims={"sub": "x"}) == "x"
        with pytest.raises(asyncpg.InvalidTextRepresentationError):
            await router.fetchval(tenant, RAW)
    async with fresh.admin() as admin:
        await admin.execute(f"ALTER ROLE {APP} IN DATABASE {fresh.database} SET request.jwt.claims = '{{}}'")
    async with fresh.open(pool={"max": 1}) as router:
        for claims, wanted in ((None, None), ({"sub": "x"}, "x"), (None, None), ({}, None)):
            assert await router.fetchval(tenant, RAW, claims=claims) == wanted


async def test_claims_stand_in_no_text_that_others_can_see(direct: Product) -> None:
    """Not in the running statement, and not in what a scope's own code sees as the query."""
    async with direct.open(pool={"max": 1}) as router:
        [tenant] = await direct.signed_up(router)
        async with router.tenant(tenant, claims={"sub": "s3cr3t"}) as conn:
            await conn.opened()
            async with direct.admin() as admin:
                texts = [row[0] for row in await admin.fetch("SELECT query FROM pg_stat_activity")]
        assert texts
        assert not any("s3cr3t" in text for text in texts)


async def test_claims_cost_no_flight(direct: Product) -> None:
    async with Proxy(direct.server.host, direct.server.port) as proxy:
        product = direct.behind(proxy.dsn)
        async with product.open(pool={"max": 1}) as router:
            [tenant] = await product.signed_up(router)
            for _ in range(2):
                await router.fetchval(tenant, SUB, claims={"sub": "x"})
            before = proxy.flights
            assert await router.fetchval(tenant, SUB, claims={"sub": "x"}) == "x"
            assert proxy.flights - before == 1
            async with router.tenant(tenant, claims={"sub": "x"}) as conn:
                await conn.fetchval(SUB)
            assert proxy.flights - before == 3


async def test_claims_that_are_no_json_raise_at_once_and_send_nothing(direct: Product) -> None:
    async with (
        Proxy(direct.server.host, direct.server.port) as proxy,
        direct.behind(proxy.dsn).open(pool={"max": 1}) as router,
    ):
        [tenant] = await direct.signed_up(router)
        before = proxy.flights
        for wrong in ({"sub": uuid.uuid4()}, {"sub": "x" * MOST_BYTES}, "sub", {1: 2}):
            claims: Any = wrong
            with pytest.raises(InvalidClaims):
                router.tenant(tenant, claims=claims)
            with pytest.raises(InvalidClaims):
                await router.fetch(tenant, "SELECT 1", claims=claims)
        assert proxy.flights == before
        assert await router.fetchval(tenant, "SELECT 1") == 1


@pytest.mark.parametrize("setting", ["request.jwt.claims", "request.jwt.claim.sub", "tenantry.bound"])
def test_the_tenant_can_not_be_configured_to_stand_where_claims_go(setting: str) -> None:
    with pytest.raises(ConfigError, match=r"tenancy\.setting"):
        Config.parse(
            {
                "tenancy": {"setting": setting},
                "control": {"dsn": "postgresql://x/x"},
                "databases": {"shared": {"kind": "shared", "dsn": "postgresql://x/x"}},
            }
        )


# -- pinned routers ----------------------------------------------------------------------------------


async def test_a_pinned_router_serves_its_tenant_and_refuses_everything_else_before_anything_is_sent(
    direct: Product,
) -> None:
    async with direct.open() as router:
        mine, other = await direct.signed_up(router, 2)
        await router.execute(other, "INSERT INTO students (name) VALUES ('secret')")
    async with (
        Proxy(direct.server.host, direct.server.port) as proxy,
        Router.open(direct.behind(proxy.dsn).config(), metrics=False, pinned=mine) as router,
    ):
        await router.execute(mine, "INSERT INTO students (name) VALUES ('mine')")
        assert await router.fetchval(mine, "SELECT name FROM students", claims={}) == "mine"
        assert (await router.placement(mine)).database == "shared"
        assert [tenant async for tenant in router.tenants()] == [mine]
        assert [tenant async for tenant in router.tenants(database="elsewhere")] == []
        before = proxy.flights
        with pytest.raises(RouterPinned) as refused:
            router.tenant(other)
        assert refused.value.pinned == mine
        assert (refused.value.status, str(other) in refused.value.public) == (403, False)
        for call in (
            router.fetch(other, "SELECT 1"),
            router.fetchrow(other, "SELECT 1"),
            router.fetchval(other, "SELECT 1"),
            router.execute(other, "SELECT 1"),
            router.run(other, lambda conn: conn.fetch("SELECT 1")),
            router.placement(other),
            router.add_tenant(direct.new_id()),
        ):
            with pytest.raises(RouterPinned):
                await call
        with pytest.raises(RouterPinned):
            async with router.operator(reason="a report"):
                pass
        with pytest.raises(RouterPinned):
            router.operators(reason="a report")
        assert proxy.flights == before


async def test_a_router_can_not_be_pinned_to_what_is_no_id(direct: Product) -> None:
    wrong: Any = object()
    with pytest.raises(ValueError, match=r"not a \w+ tenant id"):
        async with Router.open(direct.config(), metrics=False, pinned=wrong):
            pass
