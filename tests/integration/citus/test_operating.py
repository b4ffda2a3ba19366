"""What an operator is told of a real Citus: check, and who is working, on the workers too."""

from __future__ import annotations

import asyncio
from typing import Any

from tenantry.operations import Operations
from tenantry.usage.sampler import read_activity
from tests.integration.citus.conftest import Cluster
from tests.support.until import until


async def codes(cluster: Cluster, **shared: Any) -> dict[str, str]:
    async with Operations.open(cluster.config(**shared)) as operations:
        report = await operations.check()
    return {f.code: f.problem for f in report.findings if f.database == "shared"}


async def test_check_knows_the_engine_and_by_what_tables_are_distributed(cluster: Cluster) -> None:
    assert "engine-differs" not in await codes(cluster, engine="citus")
    assert "engine-differs" in await codes(cluster, engine="postgresql")
    assert not {code for code in await codes(cluster) if code.startswith("citus")}
    await cluster.fetch("CREATE TABLE other (tenant_id bigint NOT NULL, id bigint PRIMARY KEY)")
    await cluster.fetch("SELECT create_distributed_table('other', 'id')")
    assert "public.other" in (await codes(cluster))["citus-distribution"]


async def test_the_sampler_counts_what_runs_on_the_workers_for_the_tenant_that_asked(cluster: Cluster) -> None:
    async with cluster.open() as router, cluster.admin() as admin:
        working = asyncio.create_task(
            router.fetchval(1, "SELECT count(*) FROM entry WHERE pg_sleep(0.05) IS NOT NULL")
        )

        async def seen() -> bool:
            activity = await read_activity(admin)
            return any(one.active and one.tenant == "1" and one.sessions >= 1 for one in activity)

        await until(seen)
        assert not [one for one in await read_activity(admin) if one.active and one.tenant == ""]
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
