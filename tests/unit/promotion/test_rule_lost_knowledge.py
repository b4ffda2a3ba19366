"""G13: losing knowledge never makes a candidate, for promotion or for demotion, whatever is lost."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import NamedTuple

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tenantry.ids import Kind
from tenantry.promotion import Bucket, BucketStatus, Candidacy, PromotionRule, judge, judge_return
from tenantry.usage.shares import Home, Shares, Total, Used
from tenantry.usage.values import BUSIEST, MEASURED

MONDAY = date(2026, 11, 30)
HOURS = 24

#: Busy seconds of one hour, of the tenant and of all others: quiet, near the threshold, heavy, as busy as can be.
OWN = st.sampled_from([0.0, 10.0, 39.0, 40.0, 41.0, 60.0, 500.0, 1500.0])
OTHERS = st.sampled_from([0.0, 1.0, 59.0, 60.0, 61.0, 100.0, 4000.0, 3600.0 * BUSIEST - 1500.0])


class Hour(NamedTuple):
    """One hour, and what is known of it."""

    own: float
    others: float
    seen: bool = True
    """The server's figure of it is known."""
    reported: bool = True
    """The routers' figures of it are known."""


Life = Mapping[date, list[Hour]]


@st.composite
def lives(draw: st.DrawFn, days: int) -> Life:
    """Days with one usual hour and some unusual ones, so that a few hours decide much."""
    usual = draw(st.tuples(OWN, OTHERS))
    found = {}
    for number in range(1, days + 1):
        hours = [Hour(*usual)] * HOURS
        for _ in range(draw(st.integers(0, 2))):
            hours[draw(st.integers(0, HOURS - 1))] = Hour(draw(OWN), draw(OTHERS))
        found[MONDAY - timedelta(days=number)] = hours
    return found


@st.composite
def losses(draw: st.DrawFn, life: Life) -> Life:
    """The same life, with less of it known."""
    left = dict(life)
    days = sorted(life)
    for day in draw(st.lists(st.sampled_from(days), max_size=2)):
        left.pop(day, None)
    for day in draw(st.lists(st.sampled_from(days), max_size=len(days))):
        if day in left:
            hour = draw(st.integers(0, HOURS - 1))
            hours = list(left[day])
            hours[hour] = hours[hour]._replace(**draw(st.sampled_from([{"seen": False}, {"reported": False}])))
            left[day] = hours
    return left


def recorded(life: Life, tenant: str = "t", database: str = "shared", kind: Kind = Kind.SHARED) -> Shares:
    """What the ledger's days say of it; `sql/usage/close_day.sql` does the same."""
    totals, used = {}, {}
    for day, hours in life.items():
        seen = [hour for hour in hours if hour.seen]
        totals[database, day] = Total(
            busy=sum(hour.own + hour.others for hour in seen),
            covered=len(seen) / HOURS,
            reported=sum(hour.reported for hour in hours) / HOURS,
            source=MEASURED,
        )
        busy = sum(hour.own for hour in hours if hour.reported)
        used[tenant, database, day, MEASURED] = Used(busy, busy, 0.0, 1, 0, 0, 1)
    homes = {tenant: Home(database, kind, date.min)}
    return Shares(MONDAY - timedelta(days=60), MONDAY, totals, used, homes, {database: kind})


RULES = [
    PromotionRule(bucket=Bucket.DAY, window=3, floor=100.0),
    PromotionRule(bucket=Bucket.DAY, window=3, coverage=0.5, floor=9000.0),
    PromotionRule(bucket=Bucket.WEEK, window=14, floor=100.0),
    PromotionRule(bucket=Bucket.WEEK, window=14, coverage=0.8, floor=2400.0),
    PromotionRule(bucket=Bucket.WEEK, window=7, coverage=0.0, floor=0.0),
    PromotionRule(bucket=Bucket.WEEK, window=28),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.bucket}s-{rule.window}-{rule.coverage}")
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_losing_any_knowledge_never_makes_a_candidate_for_promotion(
    rule: PromotionRule, data: st.DataObject
) -> None:
    life = data.draw(lives(rule.window))
    lost = data.draw(losses(life))
    before = judge(rule, recorded(life).history("t"), MONDAY)
    after = judge(rule, recorded(lost).history("t"), MONDAY)

    event(f"{before.state} -> {after.state}")
    if before.state is not Candidacy.CANDIDATE:
        assert after.state is not Candidacy.CANDIDATE
    assert after.streak <= before.streak


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.bucket}s-{rule.window}-{rule.coverage}")
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_losing_any_knowledge_never_makes_a_candidate_for_demotion(
    rule: PromotionRule, data: st.DataObject
) -> None:
    own, shared = data.draw(lives(rule.window)), data.draw(lives(rule.window))
    own_lost, shared_lost = data.draw(losses(own)), data.draw(losses(shared))

    def returns(own: Life, shared: Life) -> Candidacy:
        mine = recorded(own, database="own", kind=Kind.DEDICATED).history("t")
        return judge_return(rule, mine, recorded(shared).database("shared"), MONDAY).state

    before, after = returns(own, shared), returns(own_lost, shared_lost)

    event(f"{before} -> {after}")
    if before is not Candidacy.CANDIDATE:
        assert after is not Candidacy.CANDIDATE


def test_a_week_with_an_unknown_day_is_not_above_though_its_known_days_are() -> None:
    rule = PromotionRule(bucket=Bucket.WEEK, window=28, floor=100.0)
    life = {MONDAY - timedelta(days=n): [Hour(500.0, 500.0)] * HOURS for n in range(1, 29)}
    life[MONDAY - timedelta(days=3)] = [Hour(0.0, 40_000.0)] * HOURS
    assert judge(rule, recorded(life).history("t"), MONDAY).buckets[-1].status is BucketStatus.UNMET
    del life[MONDAY - timedelta(days=3)]

    verdict = judge(rule, recorded(life).history("t"), MONDAY)

    assert verdict.coverage > rule.coverage
    assert verdict.state is Candidacy.UNKNOWN
    assert [bucket.status for bucket in verdict.buckets] == [BucketStatus.MET] * 3 + [BucketStatus.MISSING]


def test_some_seconds_in_which_nobody_saw_a_busy_database_decide_nothing() -> None:
    """A crash costs the figures of a few seconds: a hundred sessions in each would not change the verdict."""
    life = {MONDAY - timedelta(days=n): [Hour(500.0, 500.0)] * HOURS for n in range(1, 15)}
    days = recorded(life)
    crashed = ("shared", MONDAY - timedelta(days=3))
    totals = {**days.totals, crashed: days.totals[crashed]._replace(covered=1 - 10 / 86_400)}
    shares = Shares(days.first, days.until, totals, days.used, days.homes, days.kinds)

    assert judge(PromotionRule(), shares.history("t"), MONDAY).state is Candidacy.CANDIDATE


def test_hours_that_no_router_reported_count_as_hours_without_the_tenant() -> None:
    """The server's figure is known, so nothing else has to be presumed: the share is at least what is left."""
    heavy = {MONDAY - timedelta(days=n): [Hour(900.0, 100.0)] * HOURS for n in range(1, 15)}
    for day in heavy:
        heavy[day] = [heavy[day][0]._replace(reported=False), *heavy[day][1:]]

    assert judge(PromotionRule(), recorded(heavy).history("t"), MONDAY).state is Candidacy.CANDIDATE
