"""`import tenantry`: what it offers, and what it does not load before it is asked."""

from __future__ import annotations

import subprocess
import sys

import pytest

import tenantry


def test_every_public_name_is_there() -> None:
    assert {name for name in tenantry.__all__ if getattr(tenantry, name, None) is None} == set()
    assert set(tenantry.__all__) <= set(dir(tenantry))


def test_a_name_that_is_not_public_is_told_as_missing() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        getattr(tenantry, "Nothing")  # noqa: B009


def test_importing_the_package_loads_none_of_its_dependencies() -> None:
    loaded = "import sys, tenantry; print([n for n in ('asyncpg', 'pydantic', 'yaml') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True).stdout == "[]\n"
