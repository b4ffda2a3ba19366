"""What is told while one tenant's data are taken out, brought in or deleted."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class DataProgress(NamedTuple):
    """How far one table is."""

    work: str
    """"copying", "checking", "loading", "comparing", "counting" or "deleting"."""
    table: str
    """Quoted, and of which database where there are several."""
    done: int
    """Bytes of a stream, or rows; since the last time."""


class TellData(Protocol):
    """Is told of it; must not wait."""

    def __call__(self, progress: DataProgress, /) -> None:
        """Take the news."""


def untold(progress: DataProgress, /) -> None:
    """Tell nobody."""
