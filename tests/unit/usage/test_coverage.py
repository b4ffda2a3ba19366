"""How much of an hour the fleet was reporting: the definition, case by case and against an oracle."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantry.usage.coverage import Reporter, expected, hour_coverage

HOUR = 360_000
LATER = float(HOUR + 100_000)


def router(number: int, started: float, until: float, stopped: float | None = None) -> Reporter:
    """Times in seconds after the hour's start."""
    return Reporter(
        UUID(int=number),
        HOUR + started,
        HOUR + until,
        None if stopped is None else HOUR + stopped,
    )


def coverage(*routers: Reporter, reported: tuple[float, ...] = (), now: float = LATER) -> float:
    seconds = {one.id: value for one, value in zip(routers, reported, strict=True)}
    return hour_coverage(HOUR, routers, seconds, now)


CASES = [
    ("one router all the hour", [router(1, -9000, 9000)], (3600,), 1.0),
    ("two, one of them cut off for half of it", [router(1, -9, 9000), router(2, -9, 9000)],
     (3600, 1800), 0.75),
    ("no router ever", [], (), 0.0),
    ("the first started in the middle", [router(1, 1800, 9000)], (1800,), 0.5),
    ("the last said good-bye in the middle", [router(1, -9, 1800, 1800)], (1800,), 1.0),
    ("it said good-bye long before", [router(1, -9000, -5000, -5000)], (0,), 1.0),
    ("it was killed long before", [router(1, -9000, -5000)], (0,), 0.0),
    ("killed in the middle, nobody after", [router(1, -9, 1800)], (1800,), 0.5),
    ("killed, its successor there 10 s later",
     [router(1, -9, 1800), router(2, 1810, 9000)], (1800, 1790),
     3590 / (1800 + 300 + 1790)),
    ("good-bye, and a successor ten minutes later",
     [router(1, -9, 1800, 1800), router(2, 2400, 9000)], (1800, 1200), 1.0),
    ("killed, and a successor ten minutes later: 5 min of a silent router, 5 of nobody",
     [router(1, -9, 1800), router(2, 2400, 9000)], (1800, 1200),
     (3600 - 300) * (3000 / 3300) / 3600),
    ("it reported more than it lived, clocks being what they are",
     [router(1, 600, 1200, 1200)], (700,), 3000 / 3600),
]  # fmt: skip


@pytest.mark.parametrize(
    ("routers", "reported", "wanted"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_coverage_is_what_its_definition_says(
    routers: list[Reporter], reported: tuple[float, ...], wanted: float
) -> None:
    assert coverage(*routers, reported=reported) == pytest.approx(wanted)


def test_a_router_between_two_flushes_does_not_lower_the_present_hours_coverage() -> None:
    alive = router(1, -9, 600)

    assert coverage(alive, reported=(600,), now=HOUR + 604.0) == pytest.approx(1.0)
    assert coverage(alive, reported=(600,), now=HOUR + 700.0) < 1.0


def test_an_hour_that_has_not_begun_is_not_covered() -> None:
    assert coverage(router(1, -9, 0), reported=(0,), now=float(HOUR)) == 0.0


times = st.integers(-40, 120).map(lambda n: n * 60.0)


@st.composite
def lives(draw: st.DrawFn) -> Reporter:
    started, until = sorted((draw(times), draw(times)))
    stopped = until if draw(st.booleans()) else None
    return router(draw(st.integers(1, 10**6)), started, until, stopped)


@settings(max_examples=400, deadline=None)
@given(routers=st.lists(lives(), max_size=5, unique_by=lambda one: one.id))
def test_with_perfect_reports_only_time_without_any_known_reason_is_uncovered(
    routers: list[Reporter],
) -> None:
    """Oracle: minute by minute."""
    reported = {}
    for one in routers:
        begin, end = expected(one, LATER)
        reported[one.id] = max(0.0, min(end, HOUR + 3600) - max(begin, HOUR))
    covered = 0
    for minute in range(60):
        at = HOUR + minute * 60 + 30
        spans = [(*expected(one, LATER), one) for one in routers]
        if any(begin <= at < end for begin, end, _ in spans):
            covered += 1
            continue
        # Zero-length lives that end where another does can't be told apart; skip those worlds.
        gone = [(end, one.stopped is not None) for _, end, one in spans if end <= at]
        if gone:
            newest = max(end for end, _ in gone)
            verdicts = {polite for end, polite in gone if end == newest}
            if len(verdicts) > 1:
                return
            covered += verdicts == {True}

    assert hour_coverage(HOUR, routers, reported, LATER) == pytest.approx(covered / 60)
