"""How often somebody may fail: a bucket of failures for each source, which empties by and by. Pure."""

from __future__ import annotations

from typing import Final

#: Failures at once, and seconds for each one more.
BURST: Final = 20
EVERY: Final = 3.0

#: Sources that are remembered; those whose last failure is the longest ago go first.
SOURCES: Final = 10_000


class FailureLimit:
    """Counts failures by source. Times are loop times in seconds."""

    # Mutable state: _failures (by source: how many, and when that was counted; the latest last).

    def __init__(self, burst: int = BURST, every: float = EVERY, sources: int = SOURCES) -> None:
        self._burst = burst
        self._every = every
        self._sources = sources
        self._failures: dict[str, tuple[float, float]] = {}

    def wait(self, source: str, now: float) -> float:
        """Seconds until the source may fail again; 0: it may now."""
        over = self._level(source, now) - (self._burst - 1)
        return max(0.0, over * self._every)

    def failed(self, source: str, now: float) -> None:
        """It has failed once more."""
        level = min(self._level(source, now) + 1, float(self._burst))
        self._failures.pop(source, None)
        if len(self._failures) >= self._sources:
            del self._failures[next(iter(self._failures))]
        self._failures[source] = (level, now)

    def _level(self, source: str, now: float) -> float:
        level, at = self._failures.get(source, (0.0, now))
        return max(0.0, level - (now - at) / self._every)
