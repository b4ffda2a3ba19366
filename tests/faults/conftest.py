"""The fault matrix. Long: only with `-m faults`, or `python -m tests.faults`, which writes its table."""

from __future__ import annotations

import pytest

from tests.faults.fixtures import estate, estate18, far16, far18

__all__ = ["estate", "estate18", "far16", "far18"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "faults: a cell of the fault matrix; only with -m faults")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "faults" in str(config.option.markexpr):
        return
    long = [item for item in items if item.get_closest_marker("faults")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]
