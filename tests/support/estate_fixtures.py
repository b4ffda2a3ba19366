"""Estates for the tests of moves; imported by the conftests that want them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tenantry.embedded import EmbeddedServer
from tests.support.estate import Estate


@pytest.fixture(params=["16", "18"])
async def estate(request: pytest.FixtureRequest) -> AsyncIterator[Estate]:
    """A shared database on one server and an empty one on another of the same version."""
    near = request.getfixturevalue(f"pg{request.param}")
    far = request.getfixturevalue(f"far{request.param}")
    made = await Estate.make(near, far)
    yield made
    made.drop()


@pytest.fixture
async def estate18(pg18: EmbeddedServer, far18: EmbeddedServer) -> AsyncIterator[Estate]:
    """As `estate`, on 18 only."""
    made = await Estate.make(pg18, far18)
    yield made
    made.drop()
