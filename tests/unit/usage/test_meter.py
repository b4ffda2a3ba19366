"""The meter and the cutting of intervals at the hours."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from tenantry.events import ScopeEnded
from tenantry.usage.ledger import split_by_hour
from tenantry.usage.meter import Meter, uses

scopes = st.builds(
    ScopeEnded,
    tenant=st.sampled_from([UUID(int=1), UUID(int=2), UUID(int=3)]),
    database=st.sampled_from(["shared", "acme"]),
    outcome=st.sampled_from(["commit", "rollback", "error"]),
    busy=st.integers(0, 100).map(float),
    held=st.integers(0, 100).map(float),
    waited=st.integers(0, 100).map(float),
    statements=st.integers(0, 9),
)


@given(events=st.lists(st.tuples(scopes, st.integers(-7200, 7200), st.booleans())))
def test_every_scope_is_taken_exactly_once_whatever_the_clock_does(
    events: list[tuple[ScopeEnded, int, bool]],
) -> None:
    now = [1_000_000.0]
    meter = Meter(clock=lambda: now[0])
    taken = []
    wanted: dict[tuple[int, str, str], list[float]] = {}
    for event, step, take in events:
        now[0] += step
        meter(event)
        key = (int(now[0] // 3600) * 3600, event.database, str(event.tenant))
        sums = wanted.setdefault(key, [0.0] * 7)
        counts = [event.outcome == name for name in ("commit", "rollback", "error")]
        for place, value in enumerate([event.busy, event.held, event.waited, *counts, event.statements]):
            sums[place] += value
        if take:
            taken.extend(uses(meter.take()))
    taken.extend(uses(meter.take()))

    found: dict[tuple[int, str, str], list[float]] = {}
    for use in taken:
        sums = found.setdefault((use.hour, use.database, use.tenant), [0.0] * 7)
        for place, value in enumerate(use[3:]):
            sums[place] += value
    assert found == wanted
    assert len(meter) == 0


def test_what_is_taken_is_sorted_so_that_routers_can_not_deadlock() -> None:
    meter = Meter(clock=lambda: 7200.0)
    for number in (3, 1, 2):
        meter(ScopeEnded(number, "b", "commit", 1.0, 1.0, 1.0, 1))
        meter(ScopeEnded(number, "a", "commit", 1.0, 1.0, 1.0, 1))

    assert [use[:3] for use in uses(meter.take())] == [
        (7200, database, tenant) for database in "ab" for tenant in "123"
    ]


@given(end=st.floats(1e9, 2e9), seconds=st.floats(0, 1e5))
def test_an_interval_cut_at_the_hours_keeps_its_length(end: float, seconds: float) -> None:
    pieces = split_by_hour(end, seconds)

    assert abs(sum(piece for _, piece in pieces) - seconds) < 1e-3
    assert all(hour % 3600 == 0 and 0 < piece <= 3600 for hour, piece in pieces)
    assert [hour for hour, _ in pieces] == sorted({hour for hour, _ in pieces})
