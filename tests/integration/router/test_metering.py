"""A router writes what it meters: the ledger has every scope of a closed router, once."""

from __future__ import annotations

from tenantry import Config, Router
from tenantry.config import UsageSection
from tenantry.embedded import EmbeddedServer
from tests.support.product import Product, product_on


def recording(product: Product) -> Config:
    return product.config().model_copy(update={"usage": UsageSection(record=True, flush=0.2)})


async def test_a_closed_routers_scopes_are_in_the_ledger_once(pg: EmbeddedServer) -> None:
    with product_on(pg) as product:
        async with Router.open(recording(product), metrics=False) as router:
            (tenant,) = await product.signed_up(router)
            for n in range(25):
                await router.execute(tenant, "INSERT INTO students (id, name) VALUES ($1, 'x')", n)
        async with product.admin() as admin:
            row = await admin.fetchrow(
                "SELECT sum(commits) AS commits, sum(busy_seconds) AS busy FROM tenantry.usage WHERE tenant = $1",
                str(tenant),
            )
        assert row["commits"] == 25
        assert row["busy"] > 0


async def test_a_router_that_is_told_not_to_record_writes_nothing(pg18: EmbeddedServer) -> None:
    with product_on(pg18) as product:
        async with Router.open(product.config(), metrics=False) as router:
            (tenant,) = await product.signed_up(router)
            await router.execute(tenant, "INSERT INTO students (name) VALUES ('x')")
        async with product.admin() as admin:
            assert await admin.fetchval("SELECT count(*) FROM tenantry.usage") == 0
