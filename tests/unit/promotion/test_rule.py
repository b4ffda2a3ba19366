"""G13: the rule fires exactly when its definition says so."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import pytest

from tenantry.ids import Kind
from tenantry.promotion import (
    Action,
    Bucket,
    BucketStatus,
    Candidacy,
    PromotionRule,
    judge,
    judge_return,
    reasons,
    window,
)
from tenantry.usage.values import Day, History

TODAY = date(2026, 11, 21)  # a Saturday
TOTAL = 10_000.0


def history(
    shares: Sequence[float | None],
    *,
    coverage: Sequence[float] | float = 1.0,
    total: Sequence[float] | float = TOTAL,
    since: date | None = None,
    kind: Kind = Kind.SHARED,
    last: date = TODAY - timedelta(days=1),
    source: str = "measured",
) -> History:
    """A history whose newest day is `last`; None is a day without any data."""
    days = {}
    for number, share in enumerate(reversed(shares)):
        if share is None:
            continue
        at = len(shares) - 1 - number
        whole = total if isinstance(total, float) else total[at]
        covered = coverage if isinstance(coverage, float) else coverage[at]
        day = last - timedelta(days=number)
        days[day] = Day(day, share * whole, whole, covered, source)
    return History("heavy", "shared", kind, since, days)


FORTNIGHT = [0.41] * 14

BOUNDARIES = [
    # name, history, state, streak, days to go
    ("all 14 days above", history(FORTNIGHT), Candidacy.CANDIDATE, 14, 0),
    ("exactly at the threshold", history([0.40] * 14), Candidacy.NOT_CANDIDATE, 0, 14),
    ("a hair above", history([0.400001] * 14), Candidacy.CANDIDATE, 14, 0),
    ("exactly at it on one day", history([0.41] * 13 + [0.40]), Candidacy.NOT_CANDIDATE, 0, 14),
    ("exactly at it on the first day", history([0.40] + [0.41] * 13), Candidacy.BUILDING, 13, 1),
    ("13 days", history([0.1] + [0.41] * 13), Candidacy.BUILDING, 13, 1),
    ("13 days and no data before", history([0.41] * 13), Candidacy.UNKNOWN, 13, 1),
    ("a hole on day 7", history([0.41] * 6 + [None] + [0.41] * 7), Candidacy.UNKNOWN, 7, 7),
    ("a hole yesterday", history([*([0.41] * 13), None]), Candidacy.UNKNOWN, 0, 14),
    ("a hole beside a day below", history([0.1, None] + [0.41] * 12), Candidacy.BUILDING, 12, 2),
    ("no data at all", history([]), Candidacy.UNKNOWN, 0, 14),
    ("coverage at its least", history(FORTNIGHT, coverage=0.95), Candidacy.CANDIDATE, 14, 0),
    ("coverage 0.949", history(FORTNIGHT, coverage=0.949), Candidacy.UNKNOWN, 14, 1),
    (
        "one day of poor coverage in a window that is covered",
        history(FORTNIGHT, coverage=[0.31] + [1.0] * 13),
        Candidacy.CANDIDATE,
        14,
        0,
    ),
    (
        "below, but half of the day unreported, is not proven",
        history([0.39] + [0.41] * 13, coverage=[0.5] + [1.0] * 13),
        Candidacy.UNKNOWN,
        13,
        1,
    ),
    ("database exactly at the floor", history(FORTNIGHT, total=600.0), Candidacy.CANDIDATE, 14, 0),
    ("database nearly idle", history(FORTNIGHT, total=599.0), Candidacy.NOT_CANDIDATE, 0, 14),
    (
        "one idle day breaks the streak",
        history(FORTNIGHT, total=[TOTAL] * 10 + [10.0] + [TOTAL] * 3),
        Candidacy.BUILDING,
        3,
        11,
    ),
    (
        "created in the window",
        history([0.9] * 10, since=TODAY - timedelta(days=10)),
        Candidacy.BUILDING,
        10,
        4,
    ),
    ("created today", history([], since=TODAY), Candidacy.NOT_CANDIDATE, 0, 14),
    (
        "moved here yesterday, heavy before elsewhere",
        history(FORTNIGHT, since=TODAY - timedelta(days=1)),
        Candidacy.BUILDING,
        1,
        13,
    ),
    ("lives in its own database", history(FORTNIGHT, kind=Kind.DEDICATED), Candidacy.NOT_CANDIDATE, 0, 14),
    (
        "a day that was not used at all",
        history([0.41] * 7 + [0.0] + [0.41] * 6),
        Candidacy.BUILDING,
        6,
        8,
    ),
    (
        "a longer past does not matter",
        history([0.0] * 30 + FORTNIGHT),
        Candidacy.CANDIDATE,
        14,
        0,
    ),
]


@pytest.mark.parametrize(
    ("past", "state", "streak", "to_go"),
    [case[1:] for case in BOUNDARIES],
    ids=[case[0] for case in BOUNDARIES],
)
def test_the_rule_fires_exactly_at_its_boundaries(
    past: History, state: Candidacy, streak: int, to_go: int
) -> None:
    verdict = judge(PromotionRule(), past, TODAY)

    assert (verdict.state, verdict.streak, verdict.to_go) == (state, streak, to_go)
    assert (verdict.to_go == 0) == (verdict.state is Candidacy.CANDIDATE)
    assert len(verdict.buckets) == verdict.needed == 14
    assert reasons(verdict)


def test_noise_of_added_floats_does_not_lift_a_share_above_the_threshold() -> None:
    hours = [0.1] * 24
    total = 6.0 * 1000
    busy = sum(hours) * 1000  # 2400.0000000000005 and the like: exactly 40 % but for the noise
    days = {day: Day(day, busy, total, 1.0) for day in (TODAY - timedelta(days=n) for n in range(1, 15))}

    assert (
        judge(PromotionRule(), History("t", "shared", Kind.SHARED, None, days), TODAY).state
        is Candidacy.NOT_CANDIDATE
    )


def test_two_tenants_above_forty_percent_are_both_candidates() -> None:
    first, second = history([0.45] * 14), history([0.42] * 14)

    assert judge(PromotionRule(), first, TODAY).state is Candidacy.CANDIDATE
    assert judge(PromotionRule(), second, TODAY).state is Candidacy.CANDIDATE


def test_today_never_counts_because_it_is_not_complete() -> None:
    past = history([0.41] * 13 + [0.9], last=TODAY)

    verdict = judge(PromotionRule(), past, TODAY)

    assert verdict.buckets[-1].first == TODAY - timedelta(days=1)
    assert (verdict.state, verdict.streak) == (Candidacy.UNKNOWN, 13)
    assert verdict.missing[0].first == TODAY - timedelta(days=14)


def test_a_day_whose_total_is_not_known_is_missing() -> None:
    past = history(FORTNIGHT)
    day = TODAY - timedelta(days=3)
    days = {**past.days, day: Day(day, 5000.0, None, 1.0)}

    verdict = judge(PromotionRule(), History("t", "shared", Kind.SHARED, None, days), TODAY)

    assert [bucket.first for bucket in verdict.missing] == [day]
    assert verdict.state is Candidacy.UNKNOWN


def test_weeks_are_the_last_complete_iso_weeks() -> None:
    rule = PromotionRule(bucket=Bucket.WEEK)

    assert window(rule, TODAY) == (date(2026, 11, 2), date(2026, 11, 9))
    assert window(rule, date(2026, 11, 16)) == (date(2026, 11, 2), date(2026, 11, 9))
    assert window(rule, date(2026, 11, 15)) == (date(2026, 10, 26), date(2026, 11, 2))


SUNDAY = date(2026, 11, 15)
WEEKS = [
    ("one day below in a heavy week", [0.6] * 13 + [0.1], {}, Candidacy.CANDIDATE, 2, 0),
    ("exactly at it on average", [0.4] * 14, {}, Candidacy.NOT_CANDIDATE, 0, 9),
    ("last week only", [0.1] * 7 + [0.5] * 7, {}, Candidacy.BUILDING, 1, 2),
    ("a day without data", [0.6] * 6 + [None] + [0.6] * 7, {}, Candidacy.UNKNOWN, 1, 2),
    ("idle weeks", [0.9] * 14, {"total": 599.0}, Candidacy.NOT_CANDIDATE, 0, 9),
    ("one idle day", [0.9] * 14, {"total": [TOTAL] * 13 + [1.0]}, Candidacy.CANDIDATE, 2, 0),
]


@pytest.mark.parametrize(
    ("shares", "how", "state", "streak", "to_go"),
    [case[1:] for case in WEEKS],
    ids=[case[0] for case in WEEKS],
)
def test_read_by_weeks_the_rule_wants_each_weeks_share_above(
    shares: list[float | None], how: dict[str, float], state: Candidacy, streak: int, to_go: int
) -> None:
    past = history(shares, last=SUNDAY, **how)  # type: ignore[arg-type]

    verdict = judge(PromotionRule(bucket=Bucket.WEEK), past, TODAY)

    assert (verdict.state, verdict.streak, verdict.to_go) == (state, streak, to_go)
    assert reasons(verdict)


def test_a_dedicated_tenant_may_return_only_when_it_would_stay_below_the_lower_threshold() -> None:
    shared = history([0.0] * 14, total=8000.0)

    def verdict_with(own_total: float, since: date | None = None) -> Candidacy:
        own = history([1.0] * 14, total=own_total, kind=Kind.DEDICATED, since=since)
        verdict = judge_return(PromotionRule(), own, shared, TODAY)
        assert verdict.action is Action.DEMOTE
        assert reasons(verdict)
        return verdict.state

    assert verdict_with(1999.0) is Candidacy.CANDIDATE
    assert verdict_with(2000.0) is Candidacy.NOT_CANDIDATE  # exactly 0.20 is not below
    assert verdict_with(4000.0) is Candidacy.NOT_CANDIDATE  # below the promotion threshold, but in the gap between
    assert verdict_with(1999.0, since=TODAY - timedelta(days=13)) is Candidacy.BUILDING
    # The day on which it came is a mixed one: less was its own than a whole day would have been.
    assert verdict_with(1999.0, since=TODAY - timedelta(days=14)) is Candidacy.BUILDING
    assert verdict_with(1999.0, since=TODAY - timedelta(days=15)) is Candidacy.CANDIDATE


def test_a_week_that_is_covered_exactly_as_much_as_is_wanted_is_covered() -> None:
    """Seven times a seventh of 0.95 is a hair less than 0.95 in floats."""
    rule, last = PromotionRule(bucket=Bucket.WEEK), SUNDAY
    own = history([1.0] * 14, total=1000.0, coverage=0.95, kind=Kind.DEDICATED, last=last)
    shared = history([0.0] * 14, total=8000.0, last=last)
    below = history([0.1] * 14, coverage=[0.94, 0.96, 0.95, 0.95, 0.95, 0.95, 0.95] * 2, last=last)

    assert judge_return(rule, own, shared, TODAY).state is Candidacy.CANDIDATE
    assert judge(rule, below, TODAY).state is Candidacy.NOT_CANDIDATE


def test_a_gap_never_sends_a_tenant_back() -> None:
    shared = history([0.0] * 14, total=8000.0)
    own = history([1.0] * 6 + [None] + [1.0] * 7, total=100.0, kind=Kind.DEDICATED)

    verdict = judge_return(PromotionRule(), own, shared, TODAY)

    assert verdict.state is Candidacy.UNKNOWN
    assert [bucket.status for bucket in verdict.buckets].count(BucketStatus.MISSING) == 1


def test_a_tenant_of_a_shared_database_is_never_sent_back() -> None:
    shared = history([0.01] * 14)

    assert judge_return(PromotionRule(), shared, shared, TODAY).state is Candidacy.NOT_CANDIDATE


@pytest.mark.parametrize(
    "numbers",
    [
        {"threshold": 0.0},
        {"threshold": 1.0},
        {"demote_threshold": 0.4},
        {"coverage": 1.01},
        {"floor": -1.0},
        {"window": 0},
        {"window": 10, "bucket": Bucket.WEEK},
    ],
)
def test_a_rule_that_means_nothing_is_refused(numbers: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="promotion"):
        PromotionRule(**numbers)  # type: ignore[arg-type]


def test_the_reasons_name_what_is_missing_and_what_was_imported() -> None:
    hole = judge(PromotionRule(), history([0.41] * 6 + [None] + [0.41] * 7, source="simulated"), TODAY)

    assert reasons(hole) == (
        "can't tell yet: above 40.0% in the last 7 of 14 days, and data is missing",
        "not enough data for 2026-11-13",
        "coverage of the window is 0.929, the rule wants 0.95",
        "leans on imported history: simulated",
    )
    idle = judge(PromotionRule(), history(FORTNIGHT, total=10.0), TODAY)
    assert "database busy for less than 600 s a day on 2026-11-07" in reasons(idle)[1]
    building = judge(PromotionRule(), history([0.1] + [0.41] * 13), TODAY)
    assert reasons(building)[0] == (
        "above 40.0% of shared in the last 13 of 14 days; a candidate in 1 day if that goes on"
    )
