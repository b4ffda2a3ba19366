"""A tenant's own limits reach its scopes, and the next scope after they were changed."""

from __future__ import annotations

import json

from tenantry.embedded import EmbeddedServer
from tenantry.ids import TenantId
from tests.support.product import Product, product_on
from tests.support.until import until

TIMEOUT = "SELECT current_setting('statement_timeout')"


async def set_limits(product: Product, tenant: TenantId, limits: dict[str, int]) -> None:
    async with product.admin() as admin:
        await admin.execute(
            "UPDATE tenantry.tenant SET limits = $2::text::jsonb WHERE id = $1", str(tenant), json.dumps(limits)
        )


async def test_a_tenants_statement_timeout_holds_and_follows_the_directory(pg18: EmbeddedServer) -> None:
    with product_on(pg18) as product:
        async with product.open() as router:
            [slow, other] = await product.signed_up(router, 2)
            usual = await router.fetchval(slow, TIMEOUT)
            await set_limits(product, slow, {"statement_timeout": 1234})

            async def seen(value: str) -> bool:
                return bool(await router.fetchval(slow, TIMEOUT) == value)

            await until(lambda: seen("1234ms"))
            assert await router.fetchval(other, TIMEOUT) == usual, "a limit is one tenant's own"
            await set_limits(product, slow, {})
            await until(lambda: seen(usual))
