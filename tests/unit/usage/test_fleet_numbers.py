"""What `tenantry serve` exports of the verdicts: a bounded number of series."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from tenantry.config import Config
from tenantry.ids import Kind
from tenantry.promotion import Candidacy, PromotionRule, judge
from tenantry.server.fleet import FleetReader
from tenantry.usage.values import Day, History

TODAY = date(2026, 11, 21)


def reader(*histories: History) -> FleetReader:
    """One that has judged these."""
    sections = {"shared": {"kind": "shared", "dsn": "postgresql://h/d"}}
    config = Config.model_validate({"control": {"dsn": "postgresql://h/c"}, "databases": sections})
    store: Any = None  # nothing is read
    made = FleetReader(store, config)
    judged = tuple(judge(PromotionRule(), one, TODAY) for one in histories)
    made._judged = (judged, {(v.tenant, v.database): v.share for v in judged if v.share is not None})
    return made


def history(tenant: str, *shares: float | None) -> History:
    """Of the newest days, the last one yesterday; None: the total is not known."""
    days = {}
    for ago, share in enumerate(reversed(shares), 1):
        day = TODAY - timedelta(days=ago)
        days[day] = Day(day, 1000.0 * (share or 0.0), None if share is None else 1000.0, 1.0)
    return History(tenant, "shared", Kind.SHARED, None, days)


def test_tenants_of_whom_nothing_is_known_have_no_series_however_many_there_are() -> None:
    """Twenty other leaders on each of 14 days, of which no total was taken: 280 unknown verdicts."""
    unknown = [history(f"t{number}", *[None] * 14) for number in range(280)]
    fleet = reader(*unknown, history("rising", 0.1, 0.5), history("gone", 0.5, 0.1))

    numbers = fleet._numbers((), ())

    assert {verdict.state for verdict in fleet._judged[0]} >= {Candidacy.UNKNOWN}
    assert numbers.streaks == {"rising": 1}
    assert numbers.shares == {("rising", "shared"): 0.5}
