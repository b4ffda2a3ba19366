"""Scopes on real Citus: each tenant sees its own rows, and nobody is served without a bind."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from tenantry.catalog.guards import unguarded
from tenantry.catalog.read import read
from tenantry.errors import ConfigError
from tenantry.ids import IdType
from tenantry.isolation.attacks import probe
from tenantry.isolation.audit import Severity, audit
from tenantry.isolation.plan import plan
from tenantry.proof import database_key
from tests.integration.citus.conftest import ROWS, TENANCY, Cluster
from tests.support import citus
from tests.support.installing import SECRET, make_data

COUNT = "SELECT count(*) FROM entry"


async def test_scopes_at_every_level_see_their_own_rows_across_the_workers(cluster: Cluster) -> None:
    async with cluster.open() as router:
        for isolation in (None, "repeatable_read", "serializable"):
            for tenant in cluster.tenants:
                async with router.tenant(tenant, isolation=isolation) as conn:
                    assert await conn.fetchval(COUNT) == ROWS
                    assert (
                        await conn.fetchval(
                            "SELECT count(*) FROM entry AS e JOIN account AS a "
                            "ON (a.tenant_id, a.id) = (e.tenant_id, e.account)"
                        )
                        == ROWS
                    )
        for tenant in cluster.tenants:  # one-shots
            assert await router.fetchval(tenant, COUNT) == ROWS


async def test_writes_land_with_the_bound_tenant_and_foreign_ones_are_refused(cluster: Cluster) -> None:
    async with cluster.open() as router:
        await router.execute(1, "INSERT INTO entry (account, amount) VALUES (1, 7)")
        await router.execute(2, "UPDATE entry SET amount = amount + 1")
        await router.execute(3, "DELETE FROM entry")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await router.execute(1, "INSERT INTO entry (tenant_id, account, amount) VALUES (2, 1, 7)")
    rows = await cluster.fetch(
        "SELECT tenant_id, count(*) AS n, sum(amount) AS s FROM entry GROUP BY 1 ORDER BY 1"
    )
    whole = ROWS * (ROWS + 1) // 2
    assert [tuple(row) for row in rows] == [(1, ROWS + 1, whole + 7), (2, ROWS, whole + ROWS)]


async def test_under_load_connections_go_from_tenant_to_tenant_and_nobody_sees_anothers_rows(
    cluster: Cluster,
) -> None:
    async def client(tenant: int) -> None:
        for _ in range(30):
            async with router.tenant(tenant) as conn:
                rows = await conn.fetch("SELECT DISTINCT tenant_id FROM entry")
                assert [row["tenant_id"] for row in rows] == [tenant]

    async with cluster.open(pool={"max": 2}) as router:
        await asyncio.gather(*(client(tenant) for tenant in cluster.tenants for _ in range(3)))


async def test_the_mark_and_the_setting_reach_the_workers_and_end_with_the_transaction(cluster: Cluster) -> None:
    connection = await asyncpg.connect(citus.at(cluster.dsn, user=cluster.app))
    try:
        async with connection.transaction():
            await connection.execute("SELECT tenantry.bind('1')")
            assert await connection.fetchval(COUNT) == ROWS
            async with connection.transaction():
                await connection.execute("SAVEPOINT here")
                await connection.execute("ROLLBACK TO SAVEPOINT here")
            assert await connection.fetchval(COUNT) == ROWS
        assert await connection.fetchval(COUNT) == 0
        async with connection.transaction():
            await connection.execute("SET LOCAL app.current_tenant = '1'")
            assert await connection.fetchval(COUNT) == 0, "nothing has bound"
    finally:
        await connection.close()


async def test_a_tenants_statement_timeout_works_and_ends_what_runs_on_the_workers(cluster: Cluster) -> None:
    await cluster.fetch("UPDATE tenantry.tenant SET limits = '{\"statement_timeout\": 400}' WHERE id = '1'")
    async with cluster.open() as router:
        assert await router.fetchval(1, COUNT) == ROWS
        assert await router.fetchval(1, "SHOW statement_timeout") == "400ms"
        with pytest.raises(asyncpg.QueryCanceledError):
            await router.fetchval(1, "SELECT count(*) FROM entry, pg_sleep(5) WHERE amount > 0")
        assert await router.fetchval(2, "SHOW statement_timeout") == "0"
        assert await router.fetchval(1, COUNT) == ROWS


async def test_rls_apply_leaves_an_empty_plan_a_clean_audit_and_a_probe_that_holds(cluster: Cluster) -> None:
    async with cluster.admin() as admin:
        catalog = await read(admin)
        assert plan(catalog, TENANCY, role=cluster.app).steps == ()
        report = audit(catalog, TENANCY, role=cluster.app)
        assert [f"{f.key}: {f.message}" for f in report.findings if f.rule.severity is Severity.ERROR] == []
        assert report.tables == 2
        probed = await probe(admin, catalog, TENANCY, cluster.app)
        assert probed.passed, str(probed)
        async with admin.transaction():
            assert await unguarded(admin, TENANCY) == ()


async def test_hardened_mode_is_refused_by_install_plan_and_audit(cluster: Cluster) -> None:
    async with cluster.admin() as admin:
        with pytest.raises(ConfigError, match="not to be had on Citus"):
            await make_data(admin, cluster.app, IdType.BIGINT, key=database_key(SECRET, "shared"))


async def test_a_restrictive_policy_opens_a_distributed_table_and_the_audit_says_so(cluster: Cluster) -> None:
    """Why there is no guard on Citus: should this fail, Citus has learnt to carry the word RESTRICTIVE."""
    await cluster.fetch("CREATE POLICY positive ON entry AS RESTRICTIVE USING (amount > 0)")
    async with cluster.open() as router:
        assert await router.fetchval(1, COUNT) == len(cluster.tenants) * ROWS
    async with cluster.admin() as admin:
        report = audit(await read(admin), TENANCY, role=cluster.app)
    found = {f.key: f.fix for f in report.findings if f.rule.code in ("TN105", "TN116", "TN119")}
    assert found.keys() == {"TN105 public.entry.positive", "TN116 public.entry", "TN119 public.entry.positive"}
    for statement in found["TN119 public.entry.positive"]:
        await cluster.fetch(statement)
    async with cluster.open() as router:
        assert await router.fetchval(1, COUNT) == ROWS
