"""The product that these tests run on: one is enough, tokens are the control database's."""

from __future__ import annotations

import pytest

from tests.support.product import Product
from tests.support.variants import Products, products

__all__ = ["products"]


@pytest.fixture
def shared(products: Products) -> Product:
    """A product on PostgreSQL 18; shared between tests."""
    return products("pg18-direct-uuid")
