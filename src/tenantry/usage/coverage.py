"""How much of an hour the fleet was reporting. Pure.

A router is *expected* to report from its start until it says good-bye. One that falls silent is
presumed to be serving for `SILENCE` seconds more, then to be dead. The coverage of an hour is the
reported part of the expected router seconds. While no router is expected, the fleet is known to be
empty if the last one to leave said good-bye: that time is covered, for there was nothing to report.
If the last one just fell silent, or there never was one, that time is not covered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple
from uuid import UUID

from tenantry.usage.meter import HOUR

#: Seconds for which a router that fell silent is presumed to be serving. A killed router costs the
#: coverage of that time; a router that was cut off for longer repairs the past when it is back.
SILENCE: Final = 300.0
#: Seconds after its last report for which a router is not yet called silent: three flushes.
DUE: Final = 15.0


class Reporter(NamedTuple):
    """One process's life as the ledger knows it; times in seconds since 1970 UTC."""

    id: UUID
    started: float
    until: float
    """Its use up to here is in the ledger."""
    stopped: float | None
    """When it said good-bye; None: it did not."""


def expected(reporter: Reporter, now: float, *, silence: float = SILENCE) -> tuple[float, float]:
    """From when to when the router was expected to report."""
    if reporter.stopped is not None:
        return reporter.started, max(reporter.started, reporter.stopped)
    if now - reporter.until <= DUE:
        return reporter.started, max(reporter.started, reporter.until)
    return reporter.started, max(reporter.started, min(now, reporter.until + silence))


def hour_coverage(
    hour: int,
    reporters: Iterable[Reporter],
    reported: Mapping[UUID, float],
    now: float,
    *,
    silence: float = SILENCE,
) -> float:
    """How much of the hour the fleet was reporting, 0 to 1; of the present hour, its part until now.

    Args:
        hour: its start, seconds since 1970 UTC.
        reporters: every router that was expected in the hour, and the last one that left before it.
        reported: seconds of the hour that each router was reporting for.
        now: seconds since 1970 UTC.
        silence: see `SILENCE`.
    """
    end = min(float(hour + HOUR), now)
    if end <= hour:
        return 0.0
    lives = [(*expected(one, now, silence=silence), one) for one in reporters]
    due = seen = 0.0
    for begin, finish, one in lives:
        overlap = max(0.0, min(finish, end) - max(begin, hour))
        due += overlap
        seen += min(overlap, reported.get(one.id, 0.0))
    void, empty = _without_router(hour, end, lives, now)
    manned = end - hour - void - empty
    covered = manned * (seen / due if due > 0 else 1.0) + empty
    return min(1.0, max(0.0, covered / (end - hour)))


def _without_router(
    begin: float, end: float, lives: list[tuple[float, float, Reporter]], now: float
) -> tuple[float, float]:
    """Seconds in which nobody was expected: nobody knows why, and: the last said good-bye."""
    void = empty = 0.0
    at = begin
    good_bye = False
    last = float("-inf")
    for start, finish, one in sorted(lives, key=lambda life: life[0]):
        # `at`: everything before it is accounted for.
        if start > at and last <= at:
            gap = min(start, end) - at
            void, empty = (void, empty + gap) if good_bye else (void + gap, empty)
            at = min(start, end)
        if finish >= last:
            last = finish
            # One that is merely not due again yet is alive.
            good_bye = one.stopped is not None or now - one.until <= DUE
        at = min(end, max(at, finish))
        if at >= end:
            break
    if at < end:
        void, empty = (void, empty + end - at) if good_bye else (void + end - at, empty)
    return void, empty
