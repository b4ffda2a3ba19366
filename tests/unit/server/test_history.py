"""Shares by hour and day, and the charts of them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime

import pytest

from tenantry.ids import Kind
from tenantry.server.console import charts
from tenantry.server.console.history import day_slots, hour_slot, largest, together
from tenantry.server.console.values import Slot
from tenantry.usage.shares import Shares, Total, Used

AT = datetime(2026, 11, 27, tzinfo=UTC)


def row(tenant: str | None, busy: float) -> dict[str, object]:
    return {"tenant": tenant, "busy": busy, "waited": 1.0, "transactions": 10, "errors": 1}


def test_an_hours_parts_others_and_nobodys_are_the_whole() -> None:
    slot = hour_slot(AT, [row("a", 40.0), row("b", 10.0), row(None, 20.0)], (100.0, 3600.0), 3600.0)
    assert slot.parts == {"a": 0.4, "b": 0.1}
    assert slot.others == pytest.approx(0.2)
    assert slot.nobodys == pytest.approx(0.3)
    assert (slot.transactions, slot.errors, slot.wait) == (30, 3, 0.1)


def test_tenants_seconds_beyond_the_servers_are_the_whole() -> None:
    slot = hour_slot(AT, [row("a", 150.0), row(None, 50.0)], (100.0, 3600.0), 3600.0)
    assert slot.parts == {"a": 0.75}
    assert slot.nobodys == 0.0


def test_an_hour_of_which_too_little_is_known_has_no_shares() -> None:
    for total in (None, (100.0, 60.0)):
        slot = hour_slot(AT, [row("a", 40.0)], total, 3600.0)
        assert slot.busy is None
        assert slot.parts == {}
    assert hour_slot(AT, [row("a", 4.0)], (10.0, 60.0), 60.0).busy == 10.0  # it has only begun


def test_days_have_the_shares_that_the_rule_judges() -> None:
    first, until = date(2026, 11, 25), date(2026, 11, 28)
    use = Used(60.0, 0.0, 0.0, 1, 0, 0, 1)
    loaded = Shares(
        first,
        until,
        {
            ("shared", date(2026, 11, 25)): Total(100.0, 1.0, 1.0, "measured", attributed=80.0),
            ("shared", date(2026, 11, 26)): Total(100.0, 0.5, 1.0, "measured", attributed=80.0),
        },
        {("a", "shared", day, "measured"): use for day in (date(2026, 11, 25), date(2026, 11, 26))},
        {},
        {"shared": Kind.SHARED},
    )
    whole, half, none = day_slots(loaded)["shared"]
    assert whole.parts == {"a": 0.6}
    assert whole.nobodys == pytest.approx(0.2)
    assert whole.others == pytest.approx(0.2)
    assert half.busy is None
    assert none.busy is None


def test_slots_together_weigh_by_how_busy_they_were() -> None:
    busy, idle = Slot(AT, {"a": 1.0}, 0, 0, 300.0), Slot(AT, {}, 0, 1.0, 100.0)
    both = together([busy, idle, Slot(AT, {}, 0, 0, None)])
    assert both is not None
    assert both.parts == {"a": 0.75}
    assert both.nobodys == 0.25
    assert together([Slot(AT, {}, 0, 0, None)]) is None
    assert largest([busy, idle]) == ["a"]


def test_a_chart_stays_in_its_frame_and_names_are_text() -> None:
    slots = [Slot(AT, {"<b>": 0.7, "b": 0.6}, 0.5, 0.2, 10.0), Slot(AT, {}, 0, 0, None)]
    svg = str(charts.columns(slots, ["<b>", "b"], threshold=0.4, title="<b> & co", label="%H:%M"))
    assert "<b>" not in svg
    assert " style=" not in svg
    assert 'class="limit"' in svg
    assert 'class="unknown"' in svg
    for y, height in re.findall(r'<rect class="t\d" x="[^"]+" y="([^"]+)" width="[^"]+" height="([^"]+)"', svg):
        assert float(height) <= charts.HEIGHT
        assert float(y) <= charts.HEIGHT
    assert "nothing is known" in charts.summary([])
