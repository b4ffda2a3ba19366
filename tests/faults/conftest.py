"""The fault matrix. `python -m tests.faults` runs all of it and writes its table."""

from tests.support.estate_fixtures import estate, estate18

__all__ = ["estate", "estate18"]
