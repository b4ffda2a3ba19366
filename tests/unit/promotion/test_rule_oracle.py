"""The rule against an oracle written from the definition, slowly and with other means."""

from __future__ import annotations

from datetime import date, timedelta
from fractions import Fraction
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from tenantry.ids import Kind
from tenantry.promotion import Candidacy, PromotionRule, judge
from tenantry.usage.values import Day, History

TODAY = date(2026, 11, 21)

# Whole numbers, so that the oracle's fractions are exact and boundaries are hit often.
day_values = st.none() | st.tuples(
    st.sampled_from([0, 39, 40, 41, 100]),  # busy
    st.sampled_from([None, 99, 100, 101, 200]),  # total
    st.sampled_from([0, 50, 94, 95, 96, 100]),  # coverage in hundredths
)


def proven_above(value: tuple[int, int | None, int] | None, floor: int) -> bool:
    if value is None or value[1] is None:
        return False
    busy, total, _ = value
    assert total is not None
    return Fraction(busy, total) > Fraction(2, 5) and total >= floor


def proven_not_above(value: tuple[int, int | None, int] | None, floor: int) -> bool:
    if value is None or value[1] is None or value[2] < 95:
        return False
    return not proven_above(value, floor)


def oracle(values: list[tuple[int, int | None, int] | None], absent: int, floor: int) -> Candidacy:
    """Three-valued by brute force: try every way in which the unknown days may really have been."""
    possible: list[list[bool]] = []
    for number, value in enumerate(values):
        if number < absent or proven_not_above(value, floor):
            possible.append([False])
        elif proven_above(value, floor):
            possible.append([True])
        else:
            possible.append([True, False])
    coverage = Fraction(
        sum(value[2] for value in values if value is not None and value[1] is not None),
        100 * len(values),
    )
    certain = all(options == [True] for options in possible)
    if certain and coverage >= Fraction(95, 100):
        return Candidacy.CANDIDATE
    if any(all(world) for world in product(*possible)):
        return Candidacy.UNKNOWN
    newest = values[-1]
    return Candidacy.BUILDING if absent < len(values) and proven_above(newest, floor) else Candidacy.NOT_CANDIDATE


@settings(max_examples=1500, deadline=None)
@given(
    values=st.lists(day_values, min_size=1, max_size=8),
    absent=st.integers(0, 9),
    floor=st.sampled_from([0, 99, 100, 150]),
)
def test_the_rule_agrees_with_the_definition_worked_out_by_hand(
    values: list[tuple[int, int | None, int] | None], absent: int, floor: int
) -> None:
    size = len(values)
    absent = min(absent, size)
    first = TODAY - timedelta(days=size)
    days = {
        first + timedelta(days=number): Day(
            first + timedelta(days=number), float(value[0]), value[1], value[2] / 100
        )
        for number, value in enumerate(values)
        if value is not None
    }
    past = History("t", "shared", Kind.SHARED, first + timedelta(days=absent), days)
    rule = PromotionRule(window=size, floor=float(floor))

    verdict = judge(rule, past, TODAY)

    assert verdict.state is oracle(values, absent, floor)
    streak = 0
    for number in range(size - 1, absent - 1, -1):
        if not proven_above(values[number], floor):
            break
        streak += 1
    assert verdict.streak == streak


@settings(max_examples=500, deadline=None)
@given(values=st.lists(day_values, min_size=1, max_size=8))
def test_days_to_go_are_the_fewest_perfect_days_that_make_a_candidate(
    values: list[tuple[int, int | None, int] | None],
) -> None:
    size = len(values)
    rule = PromotionRule(window=size, floor=0.0)
    first = TODAY - timedelta(days=size)
    days = {
        first + timedelta(days=number): Day(
            first + timedelta(days=number), float(value[0]), value[1], value[2] / 100
        )
        for number, value in enumerate(values)
        if value is not None
    }
    promised = judge(rule, History("t", "s", Kind.SHARED, None, days), TODAY).to_go

    today, fewest = TODAY, 0
    while judge(rule, History("t", "s", Kind.SHARED, None, days), today).state is not Candidacy.CANDIDATE:
        days[today] = Day(today, 100.0, 100.0, 1.0)
        today += timedelta(days=1)
        fewest += 1

    assert promised == fewest <= size


@settings(max_examples=500, deadline=None)
@given(
    values=st.lists(day_values, min_size=1, max_size=8),
    hole=st.integers(0, 7),
)
def test_losing_a_day_never_makes_a_candidate(values: list[tuple[int, int | None, int] | None], hole: int) -> None:
    size = len(values)
    rule = PromotionRule(window=size, floor=0.0)
    first = TODAY - timedelta(days=size)
    days = {
        first + timedelta(days=number): Day(
            first + timedelta(days=number), float(value[0]), value[1], value[2] / 100
        )
        for number, value in enumerate(values)
        if value is not None
    }
    before = judge(rule, History("t", "s", Kind.SHARED, None, days), TODAY)
    days.pop(first + timedelta(days=hole % size), None)
    after = judge(rule, History("t", "s", Kind.SHARED, None, days), TODAY)

    if before.state is not Candidacy.CANDIDATE:
        assert after.state is not Candidacy.CANDIDATE
    assert after.streak <= before.streak
