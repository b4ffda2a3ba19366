"""Servers and estates for the tests of moves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tenantry.embedded import EmbeddedServer
from tests.integration.move.rated import RATES
from tests.support.estate import Estate
from tests.support.estate_fixtures import estate, estate18

__all__ = ["estate", "estate18"]


@pytest.fixture(scope="module")
def looked_at(pg18: EmbeddedServer, far18: EmbeddedServer) -> Iterator[Estate]:
    """An estate for tests that move nothing and leave everything as it was."""
    made = asyncio.run(Estate.make(pg18, far18))
    yield made
    made.drop()


@pytest.fixture
def rated(estate18: Estate) -> Estate:
    """An estate with two reference tables: one that rows of tenants point to, one that the operator has listed."""
    estate18.near.psql(RATES, estate18.shared)
    return estate18
