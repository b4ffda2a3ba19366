"""A database on whose reference tables another's hang takes no tenant: what is copied there would be copied on."""

from __future__ import annotations

from tenantry.move import State
from tests.faults.test_f18_two_movers import a_third, moved
from tests.support.estate import Estate

COUNT = "SELECT count(*) AS rows, count(DISTINCT code) AS codes FROM currency"


async def test_a_tenant_comes_back_to_a_database_only_once_nothing_hangs_on_it(estate18: Estate) -> None:
    tenant = estate18.tenant
    async with a_third(estate18):
        mover = estate18.mover()
        for to in ("acme", "third"):
            await moved(estate18, tenant, to)
        plan = await mover.plan(tenant, "acme")
        (refusal,) = plan.refusals
        assert refusal.code == "target-feeds-others"
        assert "demote the tenant" in refusal.fix
        await moved(estate18, tenant, "shared")
        assert await mover.leftovers() == []
        record = await mover.run(await mover.plan(tenant, "acme"))
        assert record.state is State.FLIPPED
        (here,), (there,) = await estate18.fetch("shared", COUNT), await estate18.fetch("acme", COUNT)
        assert there["rows"] == there["codes"] == here["rows"] > 0
