"""What several acceptance tests start from."""

from __future__ import annotations

import pytest

from tests.support.packaging import Built, Fresh, built_in, fresh_with


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The source distribution of this tree, and the wheel of that."""
    return built_in(tmp_path_factory.mktemp("packaging"))


@pytest.fixture(scope="session")
def fresh(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Fresh:
    """An environment with the wheel."""
    return fresh_with(built.wheel, tmp_path_factory.mktemp("environment") / "fresh")
