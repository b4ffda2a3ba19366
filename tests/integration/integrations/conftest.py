"""The product that these tests run on."""

from tests.support.variants import fresh, products

__all__ = ["fresh", "products"]
