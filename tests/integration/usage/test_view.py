"""What a scrape shows: few series, stable for an hour, counters that only grow, and all of the use."""

from __future__ import annotations

import random
from collections import Counter
from uuid import uuid4

import pytest

from tenantry.events import ScopeEnded
from tenantry.usage.ledger import Ledger, to_datetime
from tenantry.usage.meter import HOUR, Meter
from tenantry.usage.view import OTHER, FleetView
from tests.integration.usage.conftest import NOON, Clock, Pool


async def test_the_series_are_few_and_hold_for_an_hour_while_leaders_churn(
    control: Pool, meter: Meter, clock: Clock
) -> None:
    chance = random.Random(7)
    pen = Ledger(meter, control, uuid4(), clock=clock.time, monotonic=clock.monotonic)
    view = FleetView(top=20)
    await view.refresh(control, clock.wall)
    assert view.tenants() == {}
    sets: dict[int, set[frozenset[str]]] = {}
    spent = 0.0
    last: dict[tuple[str, str], float] = {}
    other = 0.0
    for _ in range(36):  # six hours, ten minutes at a time
        for tenant in chance.sample(range(3000), 300):  # new leaders each time
            busy = float(chance.randint(1, 100))
            meter(ScopeEnded(tenant, f"db{tenant % 2}", "commit", busy, busy, 0.0, 1))
            spent += busy
        await pen.flush()
        await view.refresh(control, clock.wall)
        counts = view.tenants()
        assert len(counts) <= 2 * (2 * 20 + 1)
        sets.setdefault(int(clock.wall // HOUR), set()).add(view.labels)
        for key, count in counts.items():
            if key[0] == OTHER:
                assert count.busy >= last.get(key, 0.0)
            last[key] = count.busy
        clock.pass_(600)
    other = sum(count.busy for key, count in view.tenants().items() if key[0] == OTHER)

    # In the first hour there was no hour before to choose by.
    assert all(len(labels) == 1 for hour, labels in sets.items() if hour > NOON // HOUR)
    assert len(frozenset[frozenset[str]]().union(*sets.values())) >= 5
    assert spent * 0.9 < other <= spent


async def test_nothing_is_lost_or_counted_twice_while_tenants_stay_on_top(
    control: Pool, meter: Meter, clock: Clock
) -> None:
    pen = Ledger(meter, control, uuid4(), clock=clock.time, monotonic=clock.monotonic)
    view = FleetView(top=2)
    await view.refresh(control, clock.wall)
    for _ in range(40):
        for tenant, busy in (("a", 5.0), ("b", 3.0), ("c", 1.0), ("d", 1.0)):
            meter(ScopeEnded(tenant, "shared", "commit", busy, busy, 0.5, 1))
        meter(ScopeEnded("a", "shared", "rollback", 0.0, 0.0, 0.0, 1))
        await pen.flush()
        await view.refresh(control, clock.wall)
        clock.pass_(600)

    counts = view.tenants()
    assert counts["a", "shared"] == (200.0, 20.0, 40, 40, 0)
    assert counts["b", "shared"] == (120.0, 20.0, 40, 0, 0)
    assert counts[OTHER, "shared"] == (80.0, 40.0, 80, 0, 0)


async def test_use_that_arrives_within_the_hour_after_is_counted(
    control: Pool, meter: Meter, clock: Clock
) -> None:
    pen = Ledger(meter, control, uuid4(), clock=clock.time, monotonic=clock.monotonic)
    view = FleetView(top=2)
    await view.refresh(control, clock.wall)
    meter(ScopeEnded("a", "shared", "commit", 5.0, 5.0, 0.0, 1))
    clock.pass_(HOUR)
    await view.refresh(control, clock.wall)
    await pen.flush()
    await view.refresh(control, clock.wall)

    assert sum(count.busy for count in view.tenants().values()) == 5.0
    assert view.coverage == pytest.approx(1.0)


async def test_the_databases_totals_only_grow(control: Pool, clock: Clock) -> None:
    view = FleetView()
    await view.refresh(control, clock.wall)
    seen = []
    for _ in range(12):
        await control.execute(
            "INSERT INTO tenantry.database_usage AS d VALUES ($1, 'shared', 10, 600) "
            "ON CONFLICT (hour, database) DO UPDATE SET busy_seconds = d.busy_seconds + 10",
            to_datetime(clock.wall // HOUR * HOUR),
        )
        await view.refresh(control, clock.wall)
        seen.append(view.databases()["shared"])
        clock.pass_(900)

    assert seen == [10.0 * number for number in range(1, 13)]


async def test_a_view_that_is_made_anew_counts_nothing_a_second_time(
    control: Pool, meter: Meter, clock: Clock
) -> None:
    """A counter that is smaller than before was reset, to Prometheus: what it shows then happened since."""
    pen = Ledger(meter, control, uuid4(), clock=clock.time, monotonic=clock.monotonic)
    total = Tally()
    for _ in range(6):
        view = FleetView(top=2)
        await view.refresh(control, clock.wall)
        for _ in range(5):
            total.scrape(view)
            for tenant in ("a", "b", "c"):
                meter(ScopeEnded(tenant, "shared", "commit", 1.0, 1.0, 0.0, 1))
            await pen.flush()
            await control.execute(
                "INSERT INTO tenantry.database_usage AS d VALUES ($1, 'shared', 10, 600) "
                "ON CONFLICT (hour, database) DO UPDATE SET busy_seconds = d.busy_seconds + 10",
                to_datetime(clock.wall // HOUR * HOUR),
            )
            await view.refresh(control, clock.wall)
            clock.pass_(700)
        total.scrape(view)

    assert total.increase["tenants"] == 6 * 5 * 3.0
    assert total.increase["databases"] == 6 * 5 * 10.0


class Tally:
    """What Prometheus adds up of counters, over their resets."""

    def __init__(self) -> None:
        self.increase: Counter[str] = Counter()
        self._last: dict[str, float] = {}

    def scrape(self, view: FleetView) -> None:
        tenants, databases = view.tenants(), view.databases()
        for key, name, value in [
            *(("tenants", f"{label}", count.busy) for label, count in tenants.items()),
            *(("databases", name, busy) for name, busy in databases.items()),
        ]:
            last = self._last.get(name, 0.0)
            self.increase[key] += value - last if value >= last else value  # type: ignore[assignment]
            self._last[name] = value


async def test_a_total_that_a_collector_makes_up_for_hours_later_is_counted(control: Pool, clock: Clock) -> None:
    view = FleetView()
    await view.refresh(control, clock.wall)
    clock.pass_(6 * HOUR)
    await view.refresh(control, clock.wall)
    for ago in range(6):
        hour = to_datetime(clock.wall // HOUR * HOUR - ago * HOUR)
        await control.execute("INSERT INTO tenantry.database_usage VALUES ($1, 'shared', 100, 3600)", hour)
    await view.refresh(control, clock.wall)
    clock.pass_(72 * HOUR)
    await view.refresh(control, clock.wall)

    assert view.databases() == {"shared": 600.0}


async def test_reading_the_view_takes_no_query(control: Pool, meter: Meter, clock: Clock) -> None:
    pen = Ledger(meter, control, uuid4(), clock=clock.time, monotonic=clock.monotonic)
    for tenant in range(20_000):
        meter(ScopeEnded(tenant, "shared", "commit", 1.0, 1.0, 0.0, 1))
    await pen.flush()
    view = FleetView(top=20)
    await view.refresh(control, clock.wall)

    counts, databases = view.tenants(), view.databases()

    assert len(counts) == 21
    assert databases == {}
