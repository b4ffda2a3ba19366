"""pytest fixtures for products on tenantry: a database, the product's schema in it, a router.

pytest loads it wherever tenantry is installed, so it imports nothing heavy before a fixture is asked for. What the
fixtures hand out is `tenantry.testing`'s. See docs/how-to/testing.md.

Asked for by name: `tenantry_server`, `tenantry_product`, `tenantry_router`, `tenantry_promote`, `tenantry_clean`,
`tenantry_strict`. Overridden in a conftest: `tenantry_schema` (the product's SQL) and `tenantry_options` (what
`Product.installed` takes).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tenantry import Router, TenantId
    from tenantry.testing import Product, Server


@pytest.fixture(scope="session")
def tenantry_server() -> Iterator[Server]:
    """The server of TENANTRY_TEST_DSN, whose role may create databases and roles; or else an embedded one."""
    from tenantry.testing import Server

    with Server.of_environment() as server:
        yield server


@pytest.fixture(scope="session")
def tenantry_schema() -> str:
    """Override it: the SQL that makes the product's tables. `{role}` in it is the application role."""
    return ""


@pytest.fixture(scope="session")
def tenantry_options() -> dict[str, Any]:
    """Override it: keyword arguments of `tenantry.testing.Product.installed`."""
    return {}


@pytest.fixture(scope="session")
def tenantry_product(
    tenantry_server: Server, tenantry_schema: str, tenantry_options: dict[str, Any]
) -> Iterator[Product]:
    """The product's schema in a database of its own, made once for the session and dropped at its end."""
    from tenantry.testing import Product

    # On a loop of its own: the tests' loops come and go.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        made = Product.installed(tenantry_server, tenantry_schema, **tenantry_options)
        product = runner.run(made.__aenter__())
        try:
            yield product
        finally:
            runner.run(made.__aexit__(None, None, None))


def pytest_configure(config: pytest.Config) -> None:
    """Offer the fixtures that await where pytest-asyncio is loaded; in its strict mode too."""
    if not config.pluginmanager.hasplugin("asyncio"):
        return
    from pytest_asyncio import fixture

    class Asynchronous:
        @fixture
        async def tenantry_router(self, tenantry_product: Product) -> AsyncIterator[Router]:
            """An open router on the product, of the test's own loop."""
            async with tenantry_product.router() as router:
                yield router

        @fixture
        async def tenantry_promote(
            self, tenantry_product: Product
        ) -> AsyncIterator[Callable[[TenantId], Awaitable[str]]]:
            """`await tenantry_promote(tenant)` really moves a tenant to a database of its own, and gives its name;
            at the test's end it is taken back.
            """
            yield tenantry_product.promote
            await tenantry_product.take_back()

        @fixture
        async def tenantry_clean(self, tenantry_product: Product) -> AsyncIterator[None]:
            """After the test: no tenant, no row of one, no promotion. See `Product.clean`."""
            yield
            await tenantry_product.clean()

        @fixture
        async def tenantry_strict(self, tenantry_product: Product, tenantry_router: Router) -> AsyncIterator[None]:
            """The test leaves no scope of `tenantry_router` open, and runs no query outside of scopes."""
            from tenantry.testing import no_scope_left_open, only_in_scopes

            async with only_in_scopes(tenantry_product), no_scope_left_open(tenantry_router):
                yield

    config.pluginmanager.register(Asynchronous(), "tenantry-asyncio")
