"""From scopes to a verdict: the ledger's days, their totals and coverage, and the rule over them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import date, timedelta
from uuid import uuid4

import pytest

from tenantry.events import ScopeEnded
from tenantry.ids import Kind
from tenantry.promotion import Action, BucketStatus, Candidacy, PromotionRule, Verdict, judge, verdicts
from tenantry.usage import shares, upkeep
from tenantry.usage.ledger import Ledger, to_datetime
from tenantry.usage.meter import DAY, HOUR, Meter
from tests.integration.usage.conftest import Clock, Pool

TODAY = date(2026, 11, 21)
MIDNIGHT = 1_795_219_200.0  # TODAY at 00:00 UTC


async def enter(control: Pool, *tenants: str, days_ago: int = 100) -> None:
    """Put databases and tenants into the directory."""
    await control.execute(
        "INSERT INTO tenantry.database (name, kind, dsn) VALUES ('shared', 'shared', 'config'), "
        "('own', 'dedicated', 'config') ON CONFLICT DO NOTHING"
    )
    at = to_datetime(MIDNIGHT - days_ago * DAY)
    await control.executemany(
        "INSERT INTO tenantry.tenant (id, database, created_at, placed_at) VALUES ($1, 'shared', $2, $2)",
        [(tenant, at) for tenant in tenants],
    )


async def live(
    control: Pool,
    days: int,
    busy: dict[str, float],
    *,
    total: float = 100.0,
    without_hours: Sequence[int] = (),
    server_without_hours: Sequence[int] = (),
) -> None:
    """Days of life up to midnight: one router, an hour at a time, with those seconds per hour."""
    clock = Clock(MIDNIGHT - days * DAY)
    meter = Meter(clock=clock.time)
    pen = Ledger(meter, control, uuid4(), clock=clock.time, monotonic=clock.monotonic)
    for hour in range(days * 24):
        for tenant, seconds in busy.items():
            meter(ScopeEnded(tenant, "shared", "commit", seconds, seconds, 0.0, 1))
        clock.pass_(HOUR)
        if hour in without_hours:
            meter.take()
            pen._mark = clock.steady
        else:
            await pen.flush()
    first = int(MIDNIGHT) - days * DAY
    hours = [first + n * HOUR for n in range(days * 24) if n not in server_without_hours]
    await control.executemany(
        "INSERT INTO tenantry.database_usage VALUES ($1, 'shared', $2, 3600)",
        [(to_datetime(hour), total) for hour in hours],
    )
    await pen.close()


async def verdict(control: Pool, tenant: str = "heavy", now: float = MIDNIGHT + 60) -> Candidacy:
    await upkeep.close_days(control, now)
    found = await shares.load(control, TODAY - timedelta(days=14), TODAY)
    return judge(PromotionRule(), found.history(tenant), TODAY).state


async def test_a_fortnight_above_the_threshold_makes_a_candidate(control: Pool) -> None:
    await enter(control, "heavy", "light")
    await live(control, 14, {"heavy": 41.0, "light": 9.0})

    assert await verdict(control) is Candidacy.CANDIDATE
    assert await verdict(control, "light") is Candidacy.NOT_CANDIDATE
    found = await shares.load(control, TODAY - timedelta(days=14), TODAY)
    total = found.totals["shared", TODAY - timedelta(days=1)]
    assert total.attributed == pytest.approx(50 * 24)
    assert total.nobodys == pytest.approx(0.5)


async def test_load_from_outside_the_router_lowers_the_share(control: Pool) -> None:
    await enter(control, "heavy")
    await live(control, 14, {"heavy": 41.0}, total=110.0)

    assert await verdict(control) is Candidacy.NOT_CANDIDATE


async def hour_of(control: Pool, used: dict[str, tuple[float, int]], server: float, covered: float = 3600) -> None:
    """One hour of yesterday: busy seconds and statements by tenant, and the server's own figure."""
    hour = to_datetime(MIDNIGHT - 3 * HOUR)
    await control.executemany(
        "INSERT INTO tenantry.usage (hour, database, tenant, busy_seconds, statements) "
        "VALUES ($1, 'shared', $2, $3, $4)",
        [(hour, tenant, busy, statements) for tenant, (busy, statements) in used.items()],
    )
    await control.execute(
        "INSERT INTO tenantry.database_usage VALUES ($1, 'shared', $2, $3)", hour, server, covered
    )


async def charges(control: Pool) -> dict[str, float]:
    """What each tenant is charged of yesterday."""
    await upkeep.close_days(control, MIDNIGHT + 60)
    day = TODAY - timedelta(days=1)
    found = await shares.load(control, day, TODAY)
    total = found.totals["shared", day]
    return {tenant: total.charged(used) for (tenant, *_), used in found.used.items()} | {"": total.executing}


async def test_time_that_every_statement_spends_on_the_way_is_nobodys_share(control: Pool) -> None:
    # The server executed 60 s for one tenant and 40 s for the other; each of their statements took 3 ms more.
    await hour_of(control, {"long": (60.0 + 3.0, 1_000), "short": (40.0 + 60.0, 20_000)}, server=100.0)

    found = await charges(control)

    assert found == pytest.approx({"long": 60.0, "short": 40.0, "": 100.0})


async def test_below_the_servers_own_figure_nothing_is_taken_off(control: Pool) -> None:
    await hour_of(control, {"a": (30.0, 1_000), "b": (50.0, 20_000)}, server=100.0)

    assert await charges(control) == pytest.approx({"a": 30.0, "b": 50.0, "": 100.0})


async def test_where_the_servers_figure_is_known_in_part_it_is_no_measure_of_the_way(control: Pool) -> None:
    await hour_of(control, {"a": (30.0, 1_000), "b": (50.0, 20_000)}, server=10.0, covered=600)

    assert await charges(control) == pytest.approx({"a": 30.0, "b": 50.0, "": 80.0})


async def test_nobody_is_charged_less_than_nothing_or_more_than_the_whole(control: Pool) -> None:
    await hour_of(control, {"tiny": (1.0, 100_000), "large": (150.0, 10)}, server=100.0)

    assert await charges(control) == pytest.approx({"tiny": 0.0, "large": 100.0, "": 100.0}, abs=0.01)


@pytest.mark.parametrize("guessed", [False, True])
async def test_an_hour_that_the_server_tells_nothing_of_is_presumed_like_the_rest_of_its_day(
    control: Pool, guessed: bool
) -> None:
    """Each day 23 hours are known: 0.958. Of the other one there is nothing, or a guess that a gap left."""
    await enter(control, "heavy", "light")
    unknown = range(3, 14 * 24, 24)
    busy = {"heavy": 41.0, "light": 59.0}
    await live(control, 14, busy, server_without_hours=() if guessed else unknown)
    if guessed:
        hours = [to_datetime(MIDNIGHT - 14 * DAY + hour * HOUR) for hour in unknown]
        await control.execute("UPDATE tenantry.database_usage SET covered_seconds = 0 WHERE hour = ANY($1)", hours)

    # Presumed, and told as a share; but whoever was busy in that hour, it may have been the others.
    assert await verdict(control) is Candidacy.UNKNOWN
    assert await verdict(control, "light") is Candidacy.UNKNOWN
    found = await shares.load(control, TODAY - timedelta(days=14), TODAY)
    day = found.history("heavy").days[TODAY - timedelta(days=1)]
    assert [day.total, day.coverage, day.unseen] == pytest.approx([2400.0, 23 / 24, 3600.0])


async def test_who_is_above_by_the_servers_clock_alone_is_found_among_those_near_the_rule(control: Pool) -> None:
    """Many short statements: routers saw three times what the server did, and the long ones' tenant in a tenth."""
    await enter(control, "heavy", *(f"short-{number}" for number in range(10)))
    hour = to_datetime(MIDNIGHT - 3 * HOUR)
    for day in range(14):
        at = hour - timedelta(days=day)
        await control.execute(
            "INSERT INTO tenantry.usage (hour, database, tenant, busy_seconds, statements) "
            "SELECT $1::timestamptz, 'shared', 'short-' || n, 700, 100000 FROM generate_series(0, 9) AS n "
            "UNION ALL SELECT $1, 'shared', 'heavy', 650, 10",
            at,
        )
        await control.execute(
            "INSERT INTO tenantry.database_usage SELECT date_trunc('day', $1::timestamptz, 'UTC') + n * interval "
            "'1 hour', 'shared', CASE n WHEN 21 THEN 1400 ELSE 0 END, 3600 FROM generate_series(0, 23) AS n",
            at,
        )
        await control.execute(
            "INSERT INTO tenantry.reported SELECT hour, gen_random_uuid(), 3600 FROM tenantry.database_usage "
            "ON CONFLICT DO NOTHING"
        )
    await upkeep.close_days(control, MIDNIGHT + 60)

    for rolled in (False, True):
        if rolled:
            await upkeep.keep_up(control, MIDNIGHT + 60, upkeep.Retention(hours=0))
        found = await shares.load(control, TODAY - timedelta(days=14), TODAY, near=0.2, top=1)
        assert found.history("heavy").days[TODAY - timedelta(days=1)].busy / 1400 > 0.46
        assert "heavy" in found.homes


async def test_a_gap_in_the_routers_reports_promotes_nobody(control: Pool) -> None:
    await enter(control, "heavy")
    silent = range(5 * 24, 6 * 24 - 4)  # 20 hours of 336: coverage 0.94
    await live(control, 14, {"heavy": 90.0}, without_hours=silent)

    assert await verdict(control) is Candidacy.UNKNOWN


async def test_a_gap_in_the_servers_totals_promotes_nobody(control: Pool) -> None:
    await enter(control, "heavy")
    await live(control, 14, {"heavy": 90.0}, server_without_hours=range(7 * 24, 7 * 24 + 2))

    assert await verdict(control) is Candidacy.UNKNOWN


async def test_thirteen_days_above_the_threshold_make_no_candidate(control: Pool) -> None:
    await enter(control, "heavy", days_ago=13)
    await live(control, 13, {"heavy": 90.0})
    # The database was there a day longer.
    await control.execute(
        "INSERT INTO tenantry.database_usage SELECT hour - interval '13 days', database, busy_seconds, "
        "covered_seconds FROM tenantry.database_usage WHERE hour >= $1",
        to_datetime(MIDNIGHT - DAY),
    )

    assert await verdict(control) is Candidacy.BUILDING


async def test_a_moved_tenants_past_elsewhere_does_not_count_here(control: Pool) -> None:
    await enter(control, "heavy", days_ago=3)
    await live(control, 14, {"other": 10.0})
    await control.execute(
        "INSERT INTO tenantry.usage_day (day, database, tenant, busy_seconds) "
        "SELECT day::date, 'own', 'heavy', 9999 "
        "FROM generate_series($1::date, $2::date, interval '1 day') AS day",
        TODAY - timedelta(days=14),
        TODAY - timedelta(days=4),
    )
    found = await shares.load(control, TODAY - timedelta(days=14), TODAY, tenants=["heavy"])

    assert found.homes["heavy"].kind is Kind.SHARED
    assert sum(day.busy for day in found.history("heavy").days.values()) == 0


async def days_of(control: Pool, database: str, tenant: str | None, busy: float, ago: range) -> None:
    """Complete days so many days ago: what the tenant used, and the same as the whole of the database."""
    days = [TODAY - timedelta(days=number) for number in ago]
    if tenant is not None:
        await control.execute(
            "INSERT INTO tenantry.usage_day (day, database, tenant, busy_seconds) "
            "SELECT day, $2, $3, $4 FROM unnest($1::date[]) AS day",
            days,
            database,
            tenant,
            busy,
        )
    await control.execute(
        "INSERT INTO tenantry.database_usage_day (day, database, busy_seconds, covered, reported) "
        "SELECT day, $2, $3, 1, 1 FROM unnest($1::date[]) AS day",
        days,
        database,
        busy,
    )


async def verdict_on_return(control: Pool) -> Verdict:
    found = await shares.load(control, TODAY - timedelta(days=14), TODAY)
    (verdict,) = [one for one in verdicts(PromotionRule(), found, TODAY) if one.tenant == "heavy"]
    assert verdict.action is Action.DEMOTE
    return verdict


async def test_a_tenants_days_elsewhere_are_no_reason_to_send_it_back(control: Pool) -> None:
    """It lived in its own database, came back, outgrew the shared one again, and left again two days ago."""
    await enter(control, "heavy", days_ago=2)
    await control.execute("UPDATE tenantry.tenant SET database = 'own'")
    await days_of(control, "own", "heavy", 100.0, range(9, 15))
    await days_of(control, "own", None, 0.0, range(3, 9))
    await days_of(control, "own", "heavy", 100.0, range(1, 3))
    await control.execute(
        "INSERT INTO tenantry.usage_day (day, database, tenant, busy_seconds) "
        "SELECT $1::date - n, 'shared', 'heavy', 9000 FROM generate_series(2, 8) AS n",
        TODAY,
    )
    await days_of(control, "shared", None, 10_000.0, range(1, 15))

    verdict = await verdict_on_return(control)

    assert [bucket.status for bucket in verdict.buckets] == [BucketStatus.ABSENT] * 13 + [BucketStatus.MET]
    assert (verdict.state, verdict.streak) == (Candidacy.BUILDING, 1)


async def test_another_tenants_own_database_is_no_room_to_return_to(control: Pool) -> None:
    await enter(control, "heavy")
    await control.execute("UPDATE tenantry.tenant SET database = 'own'")
    await control.execute(
        "INSERT INTO tenantry.database (name, kind, dsn) VALUES ('large', 'dedicated', 'config')"
    )
    await days_of(control, "own", "heavy", 1000.0, range(1, 15))
    await days_of(control, "large", None, 50_000.0, range(1, 15))
    await days_of(control, "shared", None, 1000.0, range(1, 15))

    assert (await verdict_on_return(control)).state is Candidacy.NOT_CANDIDATE


async def test_a_tenant_whose_row_was_made_anew_has_lived_there_as_long_as_it_has_used_it(control: Pool) -> None:
    await enter(control, "heavy", days_ago=0)
    await control.execute("UPDATE tenantry.tenant SET database = 'own'")
    await days_of(control, "own", "heavy", 100.0, range(1, 15))
    await days_of(control, "shared", None, 10_000.0, range(1, 15))

    assert (await verdict_on_return(control)).state is Candidacy.CANDIDATE


async def sums(control: Pool) -> list[tuple[object, ...]]:
    found = await shares.load(control, TODAY - timedelta(days=20), TODAY, tenants=["heavy", "light"])
    return sorted((*key, *used) for key, used in found.used.items())


async def test_rolling_hours_into_days_changes_no_sum_however_often_it_runs(control: Pool) -> None:
    await enter(control, "heavy", "light")
    await live(control, 5, {"heavy": 41.0, "light": 0.5})
    before = await sums(control)

    done = await upkeep.keep_up(control, MIDNIGHT + 60)
    await asyncio.gather(*(upkeep.keep_up(control, MIDNIGHT + 60) for _ in range(4)))

    assert done.rolled == 3 * 24 * 2
    assert await control.fetchval("SELECT count(*) FROM tenantry.usage") == 2 * 24 * 2
    assert await sums(control) == before
    assert len(before) == 10


async def test_two_upkeeps_at_once_roll_every_row_once(control: Pool) -> None:
    await enter(control, "heavy", "light")
    await live(control, 4, {"heavy": 41.0, "light": 0.5})
    before = await sums(control)

    await asyncio.gather(*(upkeep.keep_up(control, MIDNIGHT + 60) for _ in range(6)))

    assert await sums(control) == before
    assert await control.fetchval("SELECT count(*) FROM tenantry.usage") == 2 * 24 * 2


async def test_use_that_arrives_after_its_day_was_rolled_is_added_to_it(control: Pool) -> None:
    await enter(control, "heavy")
    await live(control, 5, {"heavy": 10.0})
    await upkeep.keep_up(control, MIDNIGHT + 60)
    totals = await control.fetch("SELECT * FROM tenantry.database_usage_day ORDER BY day")
    clock = Clock(MIDNIGHT - 4 * DAY)
    meter = Meter(clock=clock.time)
    meter(ScopeEnded("heavy", "shared", "commit", 7.0, 7.0, 0.0, 1))
    late = Ledger(meter, control, uuid4(), clock=clock.time, monotonic=clock.monotonic)
    await late.flush()

    await upkeep.keep_up(control, MIDNIGHT + 60)

    day = TODAY - timedelta(days=4)
    assert {row[2]: row[4] for row in await sums(control)}[day] == 247.0
    again = await control.fetch("SELECT * FROM tenantry.database_usage_day ORDER BY day")
    assert [dict(row) for row in again[:3]] == [dict(row) for row in totals[:3]]


async def test_what_is_past_its_time_is_forgotten(control: Pool) -> None:
    await enter(control, "heavy")
    await live(control, 5, {"heavy": 10.0})

    await upkeep.keep_up(control, MIDNIGHT + 60, upkeep.Retention(hours=1, days=3, details=2))

    assert await control.fetchval("SELECT min(day) FROM tenantry.usage_day") == TODAY - timedelta(days=3)
    assert await control.fetchval("SELECT count(*) FROM tenantry.reported") == 48
    assert await control.fetchval("SELECT count(*) FROM tenantry.reporter") == 1


async def test_the_present_days_coverage_is_of_its_part_that_has_passed(control: Pool) -> None:
    await live(control, 1, {"heavy": 10.0})

    assert await upkeep.reported(control, TODAY - timedelta(days=1), 2, MIDNIGHT + 60) == [
        pytest.approx(1.0),
        pytest.approx(1.0),  # the only router said good-bye: nothing to report
    ]
    assert await upkeep.reported(control, TODAY - timedelta(days=2), 1, MIDNIGHT) == [0.0]
