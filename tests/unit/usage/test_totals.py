"""The denominator's arithmetic: resets, restarts, steps of the clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.usage.totals import HourTotal, Reading, difference

NOON = 1_795_262_400.0  # 2026-11-21 12:00 UTC
MIDNIGHT = NOON + 12 * 3600


def reading(
    busy: float,
    at: float,
    *,
    reset_at: float | None = None,
    started_at: float = NOON - 9e6,
    transactions: int | None = None,
) -> Reading:
    count = int(busy * 10) if transactions is None else transactions
    return Reading(busy, at, reset_at, started_at, busy * 2000, count, count)


def test_what_was_executed_between_two_readings_is_added() -> None:
    assert difference(reading(100, NOON), reading(104, NOON + 10)) == [HourTotal(int(NOON), 4, 10)]


def test_a_difference_over_the_turn_of_the_hour_is_shared_out() -> None:
    parts = difference(reading(100, NOON - 30), reading(104, NOON + 10))

    assert parts == [HourTotal(int(NOON) - 3600, 3, 30), HourTotal(int(NOON), 1, 10)]


def test_a_reset_loses_the_time_before_it_and_keeps_the_time_after_it() -> None:
    after = reading(2, NOON + 10, reset_at=NOON + 4)

    assert difference(reading(100, NOON), after) == [HourTotal(int(NOON), 2, 6)]


def test_a_reset_is_seen_even_when_the_counter_has_overtaken_itself() -> None:
    after = reading(101, NOON + 600, reset_at=NOON + 1)

    assert difference(reading(100, NOON), after) == [HourTotal(int(NOON), 101, 599)]


def test_a_clean_restart_keeps_the_counters_and_loses_nothing() -> None:
    after = reading(104, NOON + 60, started_at=NOON + 30)

    assert difference(reading(100, NOON), after) == [HourTotal(int(NOON), 4, 60)]


def test_a_crash_that_restarted_the_server_loses_the_time_before_the_start() -> None:
    after = reading(3, NOON + 60, started_at=NOON + 40)

    assert difference(reading(100, NOON), after) == [HourTotal(int(NOON), 3, 20)]


def test_a_crash_without_any_date_covers_nothing_but_counts_what_is_there() -> None:
    assert difference(reading(100, NOON), reading(3, NOON + 60)) == [HourTotal(int(NOON), 3, 0)]


def test_a_reset_without_a_date_is_betrayed_by_any_counter_that_shrank() -> None:
    after = reading(150, NOON + 60, transactions=5)

    assert difference(reading(100, NOON), after) == [HourTotal(int(NOON), 150, 0)]


def test_a_clock_that_jumps_ahead_covers_only_the_time_that_really_passed() -> None:
    parts = difference(reading(100, NOON), reading(104, NOON + 7200), elapsed=10.0)

    assert parts == [HourTotal(int(NOON) + 3600, 4, 10)]


def test_a_clock_that_jumps_back_covers_nothing_and_keeps_the_load() -> None:
    parts = difference(reading(100, NOON), reading(104, NOON - 7000), elapsed=10.0)

    assert parts == [HourTotal(int(NOON) - 7200, 4, 0)]


def test_an_outage_within_a_day_loses_nothing() -> None:
    parts = difference(reading(100, NOON), reading(460, NOON + 6 * 3600))

    assert sum(part.busy for part in parts) == pytest.approx(360)
    assert sum(part.covered for part in parts) == pytest.approx(6 * 3600)


def test_an_outage_over_midnight_is_not_covered_because_its_days_are_a_guess() -> None:
    parts = difference(reading(100, NOON), reading(460, NOON + 24 * 3600))

    assert sum(part.busy for part in parts) == pytest.approx(360)
    assert sum(part.covered for part in parts) == 0
    short = difference(reading(100, MIDNIGHT - 300), reading(460, MIDNIGHT + 300))
    assert sum(part.covered for part in short) == 600


@given(steps=st.lists(st.tuples(st.integers(1, 800), st.integers(0, 3000)), min_size=1, max_size=50))
def test_a_counter_adds_up_to_the_same_sum_however_often_it_is_read(steps: list[tuple[int, int]]) -> None:
    at, busy = NOON, 500.0
    first = before = reading(busy, at)
    total = covered = 0.0
    for seconds, more in steps:
        at, busy = at + seconds, busy + more
        now = reading(busy, at)
        parts = difference(before, now, elapsed=seconds)
        total += sum(part.busy for part in parts)
        covered += sum(part.covered for part in parts)
        before = now

    assert total == pytest.approx(busy - first.busy)
    assert covered == pytest.approx(at - NOON)
