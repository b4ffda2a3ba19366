"""Fixtures of the tests of `tenantry.operations`."""

from tests.support.estate_fixtures import estate18

__all__ = ["estate18"]
