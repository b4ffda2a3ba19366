"""Tests that differ in the server or the way to it only: every run has one of two, `make long` has both.

Which one a test has goes by its name, half and half: over all tests of a folder, every run has every server.
"""

from __future__ import annotations

import re
import zlib
from typing import Final

import pytest

#: The oldest and the newest PostgreSQL of the wheel.
PG: Final = ("pg16", "pg18")
#: What hardly knows which PostgreSQL it talks to. What makes tables and functions, or moves rows, runs on both.
_ONE_SERVER: Final = tuple(
    f"tests/integration/{folder}/"
    for folder in ("cli", "integrations", "isolation", "operations", "server", "testing", "usage")
)
#: Tests of moves that are less about replication than about what is counted and compared beside it.
_ONE_ESTATE: Final = tuple(
    f"tests/{name}.py"
    for name in (
        "faults/test_switch",
        "integration/move/test_definitions",
        "integration/move/test_guard",
        "integration/move/test_identities",
        "integration/move/test_ids",
        "integration/move/test_operators",
    )
)
#: A fixture, where its values are twins, and the twins.
TWINS: Final = (
    ("pg", _ONE_SERVER, PG),
    ("estate", _ONE_ESTATE, ("16", "18")),
    ("direct", ("tests/",), ("pg16-direct-bigint", "pg18-direct-uuid")),
    ("product", ("tests/",), ("pg15-direct-uuid", "pg16-direct-uuid")),
    ("product", ("tests/",), ("pg18-pgbouncer-bigint", "pg16-pgbouncer-uuid")),
)


def has_a_twin_in_every_run(item: pytest.Item) -> bool:
    """Whether the other one of the twins is the one that every run has."""
    callspec = getattr(item, "callspec", None)
    if callspec is None or item.get_closest_marker("faults"):  # the fault matrix has all of its cells
        return False
    for fixture, where, twins in TWINS:
        value = callspec.params.get(fixture)
        if value in twins and item.nodeid.startswith(where):
            name = re.sub(rf"(?<=[\[-]){re.escape(value)}(?=[\]-])", "", item.nodeid, count=1)
            chosen = zlib.crc32(name.encode()) % len(twins)
            return bool(value != twins[chosen])
    return False
