"""The fault matrix. `python -m tests.faults` runs all of it and writes its table."""

from tests.faults.fixtures import estate, estate18
from tests.faults.marks import pytest_collection_modifyitems, pytest_configure

__all__ = ["estate", "estate18", "pytest_collection_modifyitems", "pytest_configure"]
