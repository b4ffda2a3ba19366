"""Servers and estates for the tests of moves."""

from tests.faults.fixtures import estate, estate18, far16, far18

__all__ = ["estate", "estate18", "far16", "far18"]
