"""The product that these tests run on."""

from tests.support.variants import direct, fresh, product, products

__all__ = ["direct", "fresh", "product", "products"]
