"""The product with every kit installed, in both modes, on each version."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple

import pytest

from tenantry import Router, kits
from tenantry.embedded import EmbeddedServer
from tenantry.ids import IdType, TenantId
from tests.support.product import APP, Product, product_on


class Shop(NamedTuple):
    """A product with kits, a router on it, and two tenants."""

    product: Product
    router: Router
    a: TenantId
    b: TenantId

    async def sql(self, statement: str, *args: Any) -> list[Any]:
        """As the owner, who sees everything."""
        async with self.product.admin() as admin:
            return list(await admin.fetch(statement, *args))


Shops = Callable[..., AbstractAsyncContextManager[Shop]]


@asynccontextmanager
async def shop_on(server: EmbeddedServer, *, hardened: bool, ids: IdType = IdType.UUID) -> AsyncIterator[Shop]:
    with product_on(server, ids, hardened=hardened) as product:
        async with product.admin() as admin:
            await kits.install(admin, kits.KITS, application_role=APP)
        async with product.open() as router:
            a, b = await product.signed_up(router, 2)
            yield Shop(product, router, a, b)


@pytest.fixture(params=[("pg16", False), ("pg18", True)], ids=["pg16-plain", "pg18-hardened"])
async def shop(request: pytest.FixtureRequest) -> AsyncIterator[Shop]:
    """Both modes, both versions."""
    version, hardened = request.param
    async with shop_on(request.getfixturevalue(version), hardened=hardened) as made:
        yield made
