"""The product on each kind of id, directly and through PgBouncer, on the oldest and the newest server.

Fixtures for the conftest of a folder: `from tests.support.variants import product, products, direct`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Final

import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.ids import IdType
from tests.support.pgbouncer import PgBouncer
from tests.support.product import Product, product_on

#: Every pair of server and way, every type of ids both ways or on both servers.
VARIANTS: Final = (
    "pg15-direct-uuid",
    "pg16-direct-uuid",
    "pg18-direct-text",
    "pg18-pgbouncer-bigint",
    "pg16-pgbouncer-uuid",
)
DIRECT: Final = ("pg16-direct-bigint", "pg18-direct-uuid")

Products = Callable[[str], Product]


@pytest.fixture(scope="session")
def products(request: pytest.FixtureRequest) -> Iterator[Products]:
    """The product of a variant by its name, made once for all tests."""
    made: dict[str, Product] = {}
    bouncers: dict[str, PgBouncer] = {}
    with ExitStack() as stack:

        def through(server: EmbeddedServer, version: str) -> Callable[[str], str]:
            if version not in bouncers:
                bouncers[version] = stack.enter_context(PgBouncer.start(server, "transaction", pool_size=20))
            return bouncers[version].instead

        def get(variant: str) -> Product:
            if variant not in made:
                version, way, ids = variant.split("-")
                server = request.getfixturevalue(version)
                assert isinstance(server, EmbeddedServer)
                via = through(server, version) if way == "pgbouncer" else str
                made[variant] = stack.enter_context(product_on(server, IdType(ids), via))
            return made[variant]

        yield get


@pytest.fixture(params=VARIANTS)
def product(request: pytest.FixtureRequest, products: Products) -> Product:
    """The product, directly and through PgBouncer; shared between tests, so use tenants of your own."""
    return products(request.param)


@pytest.fixture(params=DIRECT)
def direct(request: pytest.FixtureRequest, products: Products) -> Product:
    """The product without anything in between; shared between tests."""
    return products(request.param)


@pytest.fixture
def fresh(pg18: EmbeddedServer) -> Iterator[Product]:
    """A product that the test may break, on PostgreSQL 18."""
    with product_on(pg18) as made:
        yield made
