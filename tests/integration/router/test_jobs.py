"""`tenantry.jobs`: work over all tenants and a queue's tasks, each in a scope of the tenant that is named."""

from __future__ import annotations

import asyncio
import inspect
import logging
import uuid
from typing import Any

import pytest

from tenantry.errors import InvalidTenantId, TenantBusy, UnknownTenant
from tenantry.jobs import each_tenant, tenant_task
from tenantry.log_context import TenantOnRecords
from tests.support.product import Product
from tests.support.quiet import nothing_leaked


async def test_a_job_visits_every_active_tenant_once_and_one_failure_is_nobody_else_s(fresh: Product) -> None:
    async with fresh.open() as router:
        tenants = await fresh.signed_up(router, 12)
        async with fresh.admin() as admin:
            await admin.execute("UPDATE tenantry.tenant SET state = 'suspended' WHERE id = $1", str(tenants[0]))
        broken = tenants[5]
        running = most = started = 0
        together = asyncio.Barrier(3)
        told: list[Any] = []

        async def work(conn: Any, tenant: Any) -> None:
            nonlocal running, most, started
            running, most, started = running + 1, max(most, running + 1), started + 1
            try:
                if started <= 3:
                    await together.wait()
                assert await conn.fetchval("SELECT tenantry.current_tenant()") == tenant
                await conn.execute("INSERT INTO students (name) VALUES ('nightly')")
                if tenant == broken:
                    raise RuntimeError("on purpose")
            finally:
                running -= 1

        report = await each_tenant(router, work, concurrency=3, on_error=lambda tenant, error: told.append(tenant))
        assert (report.done, list(report.failed), told) == (10, [broken], [broken])
        assert most == 3
        async with fresh.admin() as admin:
            rows = await admin.fetch("SELECT tenant_id FROM students WHERE name = 'nightly'")
        assert sorted(row["tenant_id"] for row in rows) == sorted(set(tenants[1:]) - {broken})
        with pytest.raises(ExceptionGroup) as failures:
            report.raise_failures()
        assert failures.value.exceptions[0].__notes__ == [f"tenant {broken}"]
        await nothing_leaked(router)


async def test_a_cancelled_job_leaves_nothing_open_and_writes_nothing_half(fresh: Product) -> None:
    async with fresh.open() as router:
        await fresh.signed_up(router, 4)
        inside = asyncio.Event()

        async def work(conn: Any, tenant: Any) -> None:
            await conn.execute("INSERT INTO students (name) VALUES ('half')")
            inside.set()
            await asyncio.Event().wait()

        job = asyncio.create_task(each_tenant(router, work))
        await inside.wait()
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        await nothing_leaked(router)
        async with fresh.admin() as admin:
            assert await admin.fetchval("SELECT count(*) FROM students") == 0


async def test_a_job_waits_for_a_tenant_that_is_busy_with_live_requests(fresh: Product) -> None:
    async with fresh.open(pool={"max": 1}, router={"queue": 1, "timeout": 20}) as router:
        [tenant] = await fresh.signed_up(router)
        live, waiting = router.tenant(tenant), router.tenant(tenant)
        await live.__aenter__()
        queued = asyncio.create_task(waiting.__aenter__())
        await asyncio.sleep(0)
        with pytest.raises(TenantBusy):
            await router.fetchval(tenant, "SELECT 1")
        job = asyncio.create_task(each_tenant(router, _nothing))
        await asyncio.sleep(0)
        await live.__aexit__(None, None, None)
        await queued
        await waiting.__aexit__(None, None, None)
        assert (await job).done == 1


async def _nothing(conn: Any, tenant: Any) -> None:
    await conn.fetchval("SELECT 1")


async def test_a_job_s_hook_that_raises_ends_the_job_with_its_error(fresh: Product) -> None:
    async with fresh.open() as router:
        await fresh.signed_up(router, 3)

        async def work(conn: Any, tenant: Any) -> None:
            raise RuntimeError("on purpose")

        async def stop(tenant: Any, error: Exception) -> None:
            raise LookupError("enough")

        with pytest.raises(LookupError, match="enough"):
            await each_tenant(router, work, on_error=stop)
        with pytest.raises(ValueError, match="at least 1"):
            await each_tenant(router, work, concurrency=0)
        await nothing_leaked(router)


async def test_a_task_runs_for_the_tenant_of_its_message_and_a_message_without_one_raises(
    fresh: Product, caplog: pytest.LogCaptureFixture
) -> None:
    async with fresh.open() as router:
        [tenant] = await fresh.signed_up(router)

        @tenant_task(lambda: router)
        async def enrol(conn: Any, name: str) -> uuid.UUID:
            logging.getLogger("product").warning("enrolling")
            await conn.execute("INSERT INTO students (name) VALUES ($1)", name)
            found: uuid.UUID = await conn.fetchval("SELECT tenantry.current_tenant()")
            return found

        caplog.handler.addFilter(TenantOnRecords())
        assert await enrol("Ada", tenant_id=str(tenant)) == tenant
        assert [getattr(record, "tenant", None) for record in caplog.records if record.name == "product"] == [
            str(tenant)
        ]
        assert await router.fetchval(tenant, "SELECT name FROM students") == "Ada"
        assert "tenant_id" in inspect.signature(enrol).parameters
        for message in ({}, {"tenant_id": None}, {"tenant_id": "not an id"}, {"tenant_id": 7}):
            with pytest.raises(InvalidTenantId):
                await enrol("Eve", **message)
        with pytest.raises(UnknownTenant):
            await enrol("Eve", tenant_id=str(uuid.uuid4()))
        async with fresh.admin() as admin:
            assert await admin.fetchval("SELECT count(*) FROM students") == 1
