"""Fixtures of the tests of `tenantry migrate`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.operations.migrate import run as running
from tests.support.herd import Herd


@pytest.fixture
def herd(pg18: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Herd]:
    monkeypatch.setenv("PATH", f"{pg18.bin('psql').parent}{os.pathsep}{os.environ['PATH']}")
    # Most tests' commands visit no database: then there is no waiting for the server's count to be sure of.
    monkeypatch.setattr(running, "COUNTED", 0.0)
    made = Herd(pg18, tmp_path, ["shared1", "tenant1", "tenant2", "tenant3"])
    yield made
    made.drop()
