"""Connections that nobody uses are closed after the pool's `idle`, whatever happens meanwhile."""

from __future__ import annotations

import pytest

from tenantry.router.pool import Pool
from tests.support.product import Product
from tests.support.until import until


async def test_idle_connections_are_closed_also_after_a_look_for_them_has_failed(
    direct: Product, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reap, failed = Pool.reap, 0

    def fail_twice(pool: Pool, now: float) -> None:
        nonlocal failed
        if failed < 2:
            failed += 1
            raise ArithmeticError("a mistake of ours")
        reap(pool, now)

    monkeypatch.setattr(Pool, "reap", fail_twice)
    async with direct.open(pool={"idle": "200ms"}) as router:
        [tenant] = await direct.signed_up(router)
        await router.fetch(tenant, "SELECT 1")
        pool = router.pools.open_pools()["shared"]
        assert pool.open == 1
        await until(lambda: pool.open == 0, what="the idle connection is closed")
        assert failed == 2
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "tenantry reaper failed"
    ] * 2
