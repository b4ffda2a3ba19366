"""History as CSV: what goes in is judged like our own, and never mixes with it."""

from __future__ import annotations

import io
from datetime import date, timedelta

import pytest

from tenantry.promotion import Rule, State, judge, reasons
from tenantry.tenant import IdType
from tenantry.usage import exchange, shares, upkeep
from tenantry.usage.exchange import BadHistory, Row
from tests.integration.usage.conftest import Pool
from tests.integration.usage.test_shares import MIDNIGHT, TODAY, enter, live

FORTNIGHT = [TODAY - timedelta(days=number) for number in range(14, 0, -1)]


def history(share: float = 0.5) -> list[Row]:
    return [
        row
        for day in FORTNIGHT
        for row in (
            Row(day, "shared", "heavy", share * 9000, 9000.0),
            Row(day, "shared", "light", 10.0, 9000.0),
        )
    ]


async def test_imported_history_is_judged_and_labelled(control: Pool) -> None:
    await enter(control, "heavy", "light", days_ago=0)

    done = await exchange.put(control, history(), "simulated")

    assert done == (28, 14, 2)
    found = await shares.load(control, FORTNIGHT[0], TODAY)
    verdict = judge(Rule(), found.history("heavy"), TODAY)
    assert verdict.state is State.CANDIDATE
    assert verdict.sources == ("simulated",)
    assert reasons(verdict)[-1] == "leans on imported history: simulated"


async def test_importing_again_changes_nothing_and_a_correction_replaces(control: Pool) -> None:
    await exchange.put(control, history(), "simulated")
    await exchange.put(control, history(), "simulated")
    before = [row async for row in exchange.get(control, FORTNIGHT[0], TODAY)]
    await exchange.put(control, [Row(FORTNIGHT[0], "shared", "heavy", 1.0, 9.0)], "simulated")
    after = [row async for row in exchange.get(control, FORTNIGHT[0], TODAY)]

    assert len(before) == 28
    assert len(after) == 27  # the day of that label is what the newer file says
    assert after[0].busy_seconds == 1.0
    assert after[0].total_seconds == 9.0


async def test_imported_history_never_mixes_with_what_was_measured(control: Pool) -> None:
    await enter(control, "heavy", "light")
    await live(control, 3, {"heavy": 10.0})

    await exchange.put(control, history(0.9), "simulated")
    await upkeep.close_days(control, MIDNIGHT + 60)
    found = await shares.load(control, FORTNIGHT[0], TODAY)
    days = found.history("heavy").days

    assert [days[day].source for day in FORTNIGHT] == ["simulated"] * 11 + ["measured"] * 3
    assert days[FORTNIGHT[-1]].busy == 240.0
    assert await control.fetchval("SELECT sum(busy_seconds) FROM tenantry.usage") == pytest.approx(720.0)


async def test_what_is_exported_can_be_imported(control: Pool) -> None:
    await exchange.put(control, history(), "old billing")
    file = io.StringIO()
    out = exchange.CsvWriter(file)
    async for row in exchange.get(control, FORTNIGHT[0], TODAY):
        out.row(row)
    file.seek(0)

    rows = list(exchange.parse(file, IdType.TEXT))

    assert [row[:6] for row in rows] == [row[:6] for row in sorted(history())]
    assert (await exchange.put(control, rows, "again")).rows == 28


HEADER = "day,database,tenant,busy_seconds,total_seconds,coverage\n"


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("day,tenant\n", 1, "the header lacks database, busy_seconds, total_seconds"),
        (HEADER + "2026-13-01,shared,a,1,2,1\n", 2, "month"),
        (HEADER + "2026-11-01,shared,a,1,2,1\n2026-11-01,shared,b,x,2,1\n", 3, "float"),
        (HEADER + "2026-11-01,shared,a,-1,2,1\n", 2, "between 0 and"),
        (HEADER + "2026-11-01,shared,a,nan,2,1\n", 2, "between 0 and"),
        (HEADER + "2026-11-01,shared,a,3,2,1\n", 2, "exceed"),
        (HEADER + "2026-11-01,shared,a,1,2,1.1\n", 2, "coverage"),
        (HEADER + "2026-11-01,,a,1,2,1\n", 2, "database is empty"),
        (HEADER + "2026-11-01,shared,,1,2,1\n", 2, "empty"),
        (HEADER + "2026-11-01,shared\n", 2, "empty"),
    ],
)
def test_a_bad_line_is_named(text: str, line: int, why: str) -> None:
    with pytest.raises(BadHistory, match=why) as caught:
        list(exchange.parse(io.StringIO(text), IdType.TEXT))

    assert caught.value.line == line


@pytest.mark.parametrize(
    ("rows", "label", "why"),
    [
        ([], "measured", "label"),
        ([], "", "label"),
        ([Row(TODAY, "s", "a", 1, 2), Row(TODAY, "s", "a", 1, 2)], "x", "two rows"),
        ([Row(TODAY, "s", "a", 1, 2), Row(TODAY, "s", "b", 1, 3)], "x", "two different totals"),
    ],
)
async def test_history_that_contradicts_itself_is_refused_whole(
    control: Pool, rows: list[Row], label: str, why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        await exchange.put(control, rows, label)

    assert await control.fetchval("SELECT count(*) FROM tenantry.usage_day") == 0


def test_dates_are_utc_days() -> None:
    (row,) = exchange.parse(io.StringIO(HEADER + "2026-11-01,shared,a,1,2,\n"), IdType.TEXT)

    assert (row.day, row.coverage) == (date(2026, 11, 1), 1.0)
