"""External programs that some tests talk to: optional on a desk, required in CI."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

SYSTEM_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin"


def find_program(name: str) -> Path | None:
    """Where the program is, system administrators' folders included; None if it is not here."""
    path = os.environ.get("PATH", os.defpath) + os.pathsep + SYSTEM_FOLDERS
    found = shutil.which(name, path=path)
    return Path(found) if found else None


def require_program(name: str, *, requirement: str | None = None) -> Path:
    """The program's path; where it is missing the test skips, or fails if CI must have it.

    `requirement`: the name that TENANTRY_CI_REQUIRE uses, where it is not the program's own.
    """
    return find_program(name) or missing(requirement or name, f"the program {name} is not installed")


def missing(requirement: str, reason: str) -> NoReturn:
    """Skips the test, or fails it where TENANTRY_CI_REQUIRE (comma-separated) names the need."""
    if requirement in os.environ.get("TENANTRY_CI_REQUIRE", "").split(","):
        pytest.fail(f"{reason}, and TENANTRY_CI_REQUIRE demands {requirement}")
    pytest.skip(reason)
