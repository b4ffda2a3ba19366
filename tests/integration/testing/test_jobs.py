"""Background jobs: without a tenant they raise, with one they keep to it."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from tenantry.testing import IsolationBroken, check_background_job, check_unbound_work
from tests.integration.testing.conftest import TABLES, Stage


async def test_a_job_through_the_router_passes(stage: Stage) -> None:
    async def nightly(tenant: Any) -> int:
        return int(await stage.router.fetchval(tenant, "SELECT count(*) FROM customers"))

    report = await check_background_job(stage.router, nightly, stage.a, stage.b, tables=TABLES)
    assert len(report.held) == 3


async def test_a_job_that_finds_nothing_and_says_so_is_found(stage: Stage) -> None:
    async def nightly(tenant: Any) -> list[Any]:
        connection = await asyncpg.connect(stage.product.dsn)
        try:
            return list(await connection.fetch("SELECT * FROM customers"))
        finally:
            await connection.close()

    with pytest.raises(IsolationBroken, match=r"nightly.*returned \[\]: a job without a tenant must raise"):
        await check_background_job(stage.router, nightly)


async def test_a_job_that_touches_another_tenant_is_found(stage: Stage) -> None:
    async def tidy(tenant: Any) -> None:
        if not tenant:
            raise ValueError("no tenant")
        await stage.sql("UPDATE tokens SET token = token || 'x'")

    with pytest.raises(IsolationBroken, match=r"changed rows of the other tenant in public\.tokens"):
        await check_background_job(stage.router, tidy, stage.a, stage.b, tables=TABLES)


async def test_work_on_a_connection_without_a_tenant_must_raise(stage: Stage) -> None:
    async def silent(connection: Any) -> Any:
        return await connection.fetch("SELECT * FROM customers")

    async def loud(connection: Any) -> None:
        await connection.execute("INSERT INTO tokens (tenant_id) VALUES (gen_random_uuid())")

    await check_unbound_work(stage.router, stage.a, loud)
    with pytest.raises(IsolationBroken, match="without a tenant"):
        await check_unbound_work(stage.router, stage.a, silent)
