"""The balance of shared databases, as a pure function: by property, and over ninety simulated days."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.promotion.balance import Balance, BalanceRule, Hosted, Hosting, propose, window
from tenantry.residence import Residence

TODAY = date(2026, 3, 1)
RULE = BalanceRule()
DAYS = window(RULE, TODAY)
LONG_AGO = TODAY - timedelta(days=300)


def steady(load: float) -> dict[date, float]:
    return dict.fromkeys(DAYS, load)


def fleet(homes: Mapping[str, Mapping[str, float]], **more: Any) -> tuple[list[Hosting], list[Hosted]]:
    """Databases with their tenants' steady loads; `more` is said of every database."""
    hostings = [Hosting(name, steady(sum(tenants.values())), **more) for name, tenants in homes.items()]
    hosted = [
        Hosted(tenant, name, steady(load), LONG_AGO)
        for name, tenants in homes.items()
        for tenant, load in tenants.items()
    ]
    return hostings, hosted


def moves(balance: Balance) -> list[tuple[str, str, str]]:
    return [(one.tenant, one.source, one.target) for one in balance.moves]


UNEVEN = {"a": {"big": 5000.0, "mid": 3000.0, "small": 1000.0}, "b": {"x": 3000.0}, "c": {"y": 3300.0}}


def test_the_fullest_database_gives_the_tenant_that_evens_it_out_to_the_emptiest() -> None:
    found = propose(RULE, *fleet(UNEVEN), TODAY)
    assert moves(found) == [("mid", "a", "b")]
    [move] = found.moves
    assert move.source_load[0] == pytest.approx(9000 / 5100)
    assert move.source_load[1] == pytest.approx(6000 / 5100)
    assert move.target_load[1] == pytest.approx(6000 / 5100)
    assert move.share == pytest.approx(1 / 3)


def test_databases_within_the_limit_are_left_alone() -> None:
    assert (
        propose(RULE, *fleet({"a": {"x": 1200.0, "v": 0.0}, "b": {"y": 1000.0}, "c": {"z": 800.0}}), TODAY).moves
        == ()
    )


@pytest.mark.parametrize("gap", DAYS)
def test_a_day_of_which_one_database_is_unknown_moves_nobody(gap: date) -> None:
    hostings, hosted = fleet(UNEVEN)
    hostings[2] = hostings[2]._replace(days={day: load for day, load in hostings[2].days.items() if day != gap})
    found = propose(RULE, hostings, hosted, TODAY)
    assert (found.moves, found.unknown) == ((), [gap])


def test_one_quiet_day_is_enough_to_wait() -> None:
    hostings, hosted = fleet(UNEVEN)
    hostings[0] = hostings[0]._replace(days={**hostings[0].days, DAYS[3]: 3000.0})
    assert propose(RULE, hostings, hosted, TODAY).moves == ()


def test_a_tenant_whose_days_are_not_all_known_or_who_came_lately_stays() -> None:
    hostings, hosted = fleet(UNEVEN)
    mid = next(one for one in hosted if one.tenant == "mid")
    for worse in (
        mid._replace(days={day: 3000.0 for day in DAYS[1:]}),
        mid._replace(since=TODAY - timedelta(days=27)),
    ):
        others = [worse if one is mid else one for one in hosted]
        assert "mid" not in [tenant for tenant, _, _ in moves(propose(RULE, hostings, others, TODAY))]


def test_what_a_move_has_changed_is_seen_for_a_window_first() -> None:
    for place in (0, 1, 2):
        hostings, hosted = fleet(UNEVEN)
        hostings[place] = hostings[place]._replace(moved=DAYS[0])
        found = propose(RULE, hostings, hosted, TODAY)
        assert hostings[place].name not in {name for _, *names in moves(found) for name in names}
    hostings, hosted = fleet(UNEVEN, moved=DAYS[0])
    assert [one.why for one in propose(RULE, hostings, hosted, TODAY).over] == [
        "its last move has not been seen for a window"
    ]


def test_a_tenant_that_is_too_large_for_any_is_named() -> None:
    found = propose(RULE, *fleet({"a": {"giant": 9000.0, "s": 10.0}, "b": {"x": 700.0}, "c": {"y": 700.0}}), TODAY)
    assert [one.database for one in found.over] == ["a"] or moves(found) == [("s", "a", "b")]
    alone = propose(RULE, *fleet({"a": {"giant": 9000.0}, "b": {"x": 700.0}, "c": {"y": 700.0}}), TODAY)
    assert "giant alone is 100%" in alone.over[0].why


def test_full_or_closed_databases_get_nobody_and_sizes_count() -> None:
    hostings, hosted = fleet(UNEVEN)
    closed = [hostings[0], hostings[1]._replace(accepts=False), hostings[2]._replace(room=0)]
    assert propose(RULE, closed, hosted, TODAY).moves == ()
    large = [hostings[0]._replace(size=3.0), *hostings[1:]]
    assert propose(RULE, large, hosted, TODAY).moves == (), "three times as large, and three times as full"


@given(st.permutations(["eu", "us", None]), st.lists(st.sampled_from(["eu", "us", None]), min_size=3, max_size=3))
def test_nobody_is_sent_out_of_the_region_that_it_asks_for(
    sites: list[str | None], wanted: list[str | None]
) -> None:
    hostings, hosted = fleet(UNEVEN)
    hostings = [one._replace(residence=Residence(site)) for one, site in zip(hostings, sites, strict=True)]
    asked = dict(zip(("big", "mid", "small"), wanted, strict=True))
    hosted = [one._replace(residence=Residence(asked.get(one.tenant))) for one in hosted]
    region = {one.name: one.residence.region for one in hostings}
    for tenant, _, target in moves(propose(RULE, hostings, hosted, TODAY)):
        assert asked[tenant] in (None, region[target])


def test_little_load_is_worth_no_move() -> None:
    assert propose(RULE, *fleet({"a": {"x": 900.0, "y": 500.0}, "b": {}, "c": {}}), TODAY).moves == ()


@pytest.mark.parametrize(
    "numbers", [{"peak": 1.0}, {"window": 0}, {"coverage": 1.1}, {"stay": -1}, {"floor": 0.0}]
)
def test_numbers_that_mean_nothing_are_refused(numbers: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="balance"):
        BalanceRule(**numbers)


loads = st.lists(st.floats(0, 20_000), min_size=0, max_size=6)
fleets = st.lists(loads, min_size=2, max_size=6)


@given(fleets, st.sampled_from([1.1, 1.3, 2.0]))
def test_no_proposal_harms(homes: list[list[float]], peak: float) -> None:
    """No target above its limit, a database in one move at most, the fuller of the two less full than before."""
    named = {f"d{n}": {f"t{n}.{m}": load for m, load in enumerate(one)} for n, one in enumerate(homes)}
    found = propose(BalanceRule(peak=peak, floor=1.0), *fleet(named), TODAY)
    touched = [name for _, *names in moves(found) for name in names]
    assert len(touched) == len(set(touched))
    for move in found.moves:
        assert move.target_load[1] <= peak + 1e-9
        assert max(move.source_load[1], move.target_load[1]) < move.source_load[0]
        assert move.source_load[0] > peak - 1e-9


@given(fleets, st.data())
def test_losing_knowledge_never_makes_a_move(homes: list[list[float]], data: st.DataObject) -> None:
    named = {f"d{n}": {f"t{n}.{m}": load for m, load in enumerate(one)} for n, one in enumerate(homes)}
    hostings, hosted = fleet(named)
    whole = propose(RULE, hostings, hosted, TODAY)
    keep = st.sets(st.sampled_from(DAYS), min_size=1)
    kept = [data.draw(keep) for _ in hostings]
    less = [one._replace(days={d: one.days[d] for d in some}) for one, some in zip(hostings, kept, strict=True)]
    found = propose(RULE, less, hosted, TODAY)
    assert set(moves(found)) <= set(moves(whole))
    assert not found.moves or not found.unknown


@pytest.mark.parametrize("seed", range(3))
def test_twelve_databases_with_zipf_load_even_out_and_stay_so(seed: int) -> None:
    """Ninety days, from twice the mean: 1.3 times it at most, a move a week per database, nobody to and fro."""
    dice = random.Random(seed)
    base = {f"t{n}": 60_000 / (n + 10) for n in range(1, 600)}
    homes = {tenant: f"d{int(12 * dice.random() ** 1.15)}" for tenant in base}
    since = dict.fromkeys(base, date(2025, 1, 1))
    left: dict[str, set[str]] = {tenant: set() for tenant in base}
    came: dict[str, date] = {}
    used: dict[date, dict[str, float]] = {}
    total: dict[date, dict[str, float]] = {}
    log: list[tuple[date, str, str, str]] = []
    first = date(2026, 1, 1)
    for number in range(97):
        today = first + timedelta(days=number)
        if number >= 7:
            hostings = [
                Hosting(
                    f"d{n}", {day: total[day][f"d{n}"] for day in window(RULE, today)}, moved=came.get(f"d{n}")
                )
                for n in range(12)
            ]
            known = window(RULE, today)
            hosted = [
                Hosted(one, homes[one], {day: used[day][one] for day in known}, since[one], left[one])
                for one in base
            ]
            for tenant, source, target in moves(propose(RULE, hostings, hosted, today)):
                homes[tenant], since[tenant] = target, today
                left[tenant].add(source)
                came[source] = came[target] = today
                log.append((today, tenant, source, target))
        used[today] = {tenant: load * dice.uniform(0.8, 1.2) for tenant, load in base.items()}
        total[today] = {f"d{n}": 0.0 for n in range(12)}
        for tenant, load in used[today].items():
            total[today][homes[tenant]] += load
    last = total[first + timedelta(days=96)]
    assert max(last.values()) <= 1.3 * sum(last.values()) / 12
    for name in last:
        days = [day for day, _, *names in log if name in names]
        assert all((later - earlier).days >= 7 for earlier, later in pairwise(days))
    gone: set[tuple[str, str]] = set()
    for _, tenant, source, target in log:
        assert (tenant, target) not in gone, "nobody goes to and fro"
        gone.add((tenant, source))
