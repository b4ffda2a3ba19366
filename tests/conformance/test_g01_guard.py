"""G1 in hardened mode: the proof guards every tenant table, whatever policies of its own a product has (E7).

A table that is not guarded is an error of plan, audit and check, and no router opens on it.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from tenantry import Operations, Router
from tenantry.catalog.read import read
from tenantry.catalog.tenancy import Tenancy
from tenantry.embedded import EmbeddedServer
from tenantry.errors import UnsafeRole
from tenantry.ids import IdType
from tenantry.isolation.apply import adopt, compute
from tenantry.isolation.audit import audit
from tests.support.product import APP, Product, product_on

TENANCY = Tenancy(hardened=True)
BOUND = "nullif(current_setting('app.current_tenant', true), '')::uuid"
OWN = f"""
CREATE TABLE t (tenant_id uuid NOT NULL DEFAULT tenantry.current_tenant(), id bigint, owner text DEFAULT 'ada',
    PRIMARY KEY (tenant_id, id));
ALTER TABLE t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, UPDATE, DELETE ON t TO {APP};
"""
#: A product's own policies: by the setting, by its users, by a staff flag, for everybody.
KEPT = {
    "setting": f"CREATE POLICY own ON t USING (tenant_id = {BOUND})",
    "users": "CREATE POLICY own ON t USING (owner = current_setting('app.who', true))",
    "staff": f"CREATE POLICY own ON t USING (tenant_id = {BOUND} OR current_setting('app.staff', true) = 'on')",
    "held by its own": f"CREATE POLICY own ON t USING (true);"
    f"CREATE POLICY held ON t AS RESTRICTIVE USING (tenant_id = {BOUND})",
}
#: What an attacker sets in A's scope to be B, and staff, and everybody's user.
FORGED = "SET LOCAL app.current_tenant = '{b}'; SET LOCAL app.who = 'ada'; SET LOCAL app.staff = 'on'"


@asynccontextmanager
async def hardened(server: EmbeddedServer, policies: str) -> AsyncIterator[tuple[Product, Any]]:
    """A hardened product with a table of its own policies, not guarded yet."""
    with product_on(server, IdType.UUID, hardened=True) as product:
        async with product.admin() as admin:
            await admin.execute(f"{OWN}{policies}")
            yield product, admin


@pytest.fixture(params=["15", "16", "18"])
def server(request: pytest.FixtureRequest) -> EmbeddedServer:
    found: EmbeddedServer = request.getfixturevalue(f"pg{request.param}")
    return found


async def forged(router: Router, a: Any, b: Any, statement: str) -> str | None:
    """The SQLSTATE of a statement in A's scope after everything was set that would make it B's; None: it ran."""
    try:
        async with router.tenant(a) as conn:
            await conn.execute(FORGED.format(b=b))
            await conn.fetch(statement)
    except asyncpg.PostgresError as error:
        return error.sqlstate
    return None


@pytest.mark.parametrize("kept", KEPT)
async def test_no_setting_of_a_scope_reaches_past_the_guard_beside_a_products_own_policies(
    server: EmbeddedServer, kept: str
) -> None:
    async with hardened(server, KEPT[kept]) as (product, admin):
        await adopt(admin, TENANCY, role=APP)
        assert (await compute(admin, TENANCY, role=APP)).steps == ()
        assert [
            p for p in await admin.fetch("SELECT FROM pg_policies WHERE tablename = 't' AND policyname = 'own'")
        ]
        async with product.open() as router:
            a, b = await product.signed_up(router, 2)
            for tenant in (a, b):
                async with router.tenant(tenant) as conn:
                    await conn.execute("SET LOCAL app.who = 'ada'")
                    await conn.execute("INSERT INTO t (id) VALUES (1)")
                    assert await conn.fetchval("SELECT count(*) FROM t") == 1
            async with router.tenant(a) as conn:
                await conn.execute("SET LOCAL app.staff = 'on'; SET LOCAL app.who = 'ada'")
                assert [row[0] for row in await conn.fetch("SELECT tenant_id FROM t")] == [a]
            for statement in (
                "SELECT * FROM t", "UPDATE t SET id = 2 RETURNING *", "DELETE FROM t RETURNING *",
                f"INSERT INTO t VALUES ('{b}', 9) RETURNING *",
            ):  # fmt: skip
                assert await forged(router, a, b, statement) in ("TN004", "42501"), statement
        assert await admin.fetchval("SELECT count(*) FROM t WHERE id = 1") == 2


@pytest.mark.parametrize("kept", KEPT)
async def test_a_table_without_the_guard_is_an_error_everywhere_and_no_router_opens_on_it(
    server: EmbeddedServer, kept: str
) -> None:
    async with hardened(server, KEPT[kept]) as (product, admin):
        planned = (await compute(admin, TENANCY, role=APP)).steps
        assert [step.object for step in planned if step.kind == "policy"] == ["public.t"]
        found = [f for f in audit(await read(admin), TENANCY, role=APP).findings if f.rule.code == "TN116"]
        assert [(f.object, f.rule.severity.value) for f in found] == [("public.t", "error")]
        with pytest.raises(UnsafeRole, match=r"it may use t, whose policies believe the setting"):
            async with product.open() as router:
                await router.add_tenant(uuid.uuid4())
        async with Operations.open(product.config()) as operations:
            said = {(finding.code, finding.severity) for finding in (await operations.check()).findings}
        assert {("unsafe-role", "error"), ("no-guard", "warning")} <= said
        for statement in found[0].fix:
            await admin.execute(statement)
        async with product.open() as router:
            await router.add_tenant(uuid.uuid4())


HALF_GUARDS = {
    "plain": "ALTER POLICY tenantry_guard ON t USING ((SELECT tenantry.admitted()))",
    "for reading only": "ALTER POLICY tenantry_guard ON t WITH CHECK (true)",
    "with a way round": "ALTER POLICY tenantry_guard ON t USING "
    "(id = 7 OR coalesce(tenant_id = (SELECT tenantry.admitted_tenant()), false))",
    "for some": f"ALTER POLICY tenantry_guard ON t TO {APP}",
    "row-level security off": "ALTER TABLE t DISABLE ROW LEVEL SECURITY",
}


@pytest.mark.parametrize("half", HALF_GUARDS)
async def test_a_guard_that_does_not_compare_every_row_with_the_proof_is_none(
    pg18: EmbeddedServer, half: str
) -> None:
    async with hardened(pg18, KEPT["setting"]) as (product, admin):
        await adopt(admin, TENANCY, role=APP)
        await admin.execute(HALF_GUARDS[half])
        with pytest.raises(UnsafeRole, match="it may use t"):
            async with product.open() as router:
                await router.add_tenant(uuid.uuid4())
        keys = {finding.key for finding in audit(await read(admin), TENANCY, role=APP).findings}
        assert keys & {"TN116 public.t", "TN101 public.t"}


async def test_a_table_that_the_role_may_not_use_keeps_no_router_from_opening(pg18: EmbeddedServer) -> None:
    async with (
        hardened(pg18, f"{KEPT['setting']}; REVOKE ALL ON t FROM {APP}") as (product, _),
        product.open() as router,
    ):
        await router.add_tenant(uuid.uuid4())
