"""The numbered migrations: what makes the tables, once, in order."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import NamedTuple


class Migration(NamedTuple):
    """One numbered step of a schema."""

    number: int
    """Starts at 1, no gaps."""
    name: str
    text: str


@cache
def migrations(side: str) -> tuple[Migration, ...]:
    """The migrations of one side ("control" or "data"), in order."""
    found = []
    for entry in files("tenantry.schema").joinpath("migrations", side).iterdir():
        if entry.name.endswith(".sql"):
            number, _, name = entry.name.removesuffix(".sql").partition("_")
            found.append(Migration(int(number), name, entry.read_text(encoding="utf-8")))
    found.sort()
    if [step.number for step in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"migrations of {side} are not numbered 1, 2, 3 …")
    return tuple(found)
