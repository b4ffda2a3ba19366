"""What a move tells while it runs: frozen values, for progress bars, logs and metrics.

Each has a `name`, which programs read and which stays the same whatever the class is called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class StepStarted(NamedTuple):
    """A step of the procedure begins."""

    move: str
    step: str

    @property
    def name(self) -> str:
        """Stable."""
        return "step.started"


class StepEnded(NamedTuple):
    """A step is complete and journalled."""

    move: str
    step: str
    seconds: float

    @property
    def name(self) -> str:
        """Stable."""
        return "step.ended"


class CopyProgressed(NamedTuple):
    """Rows of one table were copied."""

    move: str
    table: str
    bytes: int
    """Sent so far."""
    expected: int
    """Estimate of all bytes of this table's share; 0: unknown."""
    rows: int | None
    """Copied so far; None: not counted yet."""
    seconds: float
    """Since the table's copy began."""
    expected_rows: int = 0
    """Estimate of all rows of this table's share; 0: unknown."""
    complete: bool = False
    """True once, at the table's end."""

    @property
    def name(self) -> str:
        """Stable."""
        return "rows.copied"


class Following(NamedTuple):
    """How far the other side is behind."""

    move: str
    lag: int
    """Bytes of write-ahead log."""
    latency: float | None
    """Seconds that a marker took to be seen at the other side; None: not probed yet."""

    @property
    def name(self) -> str:
        """Stable."""
        return "lag.measured"


class Compared(NamedTuple):
    """Some rows were read for the comparison; whether they are equal is known at the table's end."""

    move: str
    table: str
    rows: int
    """Of this table, so far: the mean of both sides, which go at their own pace."""

    @property
    def name(self) -> str:
        """Stable."""
        return "rows.compared"


class FenceTried(NamedTuple):
    """One attempt at the flip is over."""

    move: str
    attempt: int
    """Starts at 1."""
    flipped: bool
    pause: float
    """Seconds from asking for the fence's lock to the end of its transaction."""
    why: str | None
    """Why it ended without a flip."""

    @property
    def name(self) -> str:
        """Stable."""
        return "fence.tried"


class Deleted(NamedTuple):
    """Old rows were deleted at the old home."""

    move: str
    table: str
    rows: int
    """Of this table, so far."""

    @property
    def name(self) -> str:
        """Stable."""
        return "rows.deleted"


class Retrying(NamedTuple):
    """A connection broke, or a reference table changed just when it was to be compared; it is tried again."""

    move: str
    step: str
    error: str
    wait: float
    """Seconds."""

    @property
    def name(self) -> str:
        """Stable."""
        return "step.retried"


Progress = StepStarted | StepEnded | CopyProgressed | Following | Compared | FenceTried | Deleted | Retrying
Tell = Callable[[Progress], None]


def silence(_: Progress) -> None:
    """Tell nobody."""
