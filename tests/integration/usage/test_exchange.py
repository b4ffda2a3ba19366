"""History as CSV: what goes in is judged like our own, and never mixes with it."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import date, timedelta

import asyncpg
import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.ids import IdType
from tenantry.promotion import BucketStatus, Candidacy, PromotionRule, judge, reasons
from tenantry.schema import migrations
from tenantry.usage import exchange, shares, upkeep
from tenantry.usage.exchange import BadHistory, HistoryRow
from tenantry.usage.ledger import to_datetime
from tenantry.usage.meter import DAY
from tests.integration.usage.conftest import Pool
from tests.integration.usage.test_shares import MIDNIGHT, TODAY, enter, live

FORTNIGHT = [TODAY - timedelta(days=number) for number in range(14, 0, -1)]


def history(share: float = 0.5) -> list[HistoryRow]:
    return [
        row
        for day in FORTNIGHT
        for row in (
            HistoryRow(day, "shared", "heavy", share * 9000, 9000.0),
            HistoryRow(day, "shared", "light", 10.0, 9000.0),
        )
    ]


async def test_imported_history_is_judged_and_labelled(control: Pool) -> None:
    await enter(control, "heavy", "light", days_ago=0)

    done = await exchange.put(control, history(), "simulated")

    assert done == (28, 14, 2)
    found = await shares.load(control, FORTNIGHT[0], TODAY)
    verdict = judge(PromotionRule(), found.history("heavy"), TODAY)
    assert verdict.state is Candidacy.CANDIDATE
    assert verdict.sources == ("simulated",)
    assert reasons(verdict)[-1] == "leans on imported history: simulated"


async def test_importing_a_history_again_changes_nothing_and_a_correction_replaces_it(control: Pool) -> None:
    await exchange.put(control, history(), "simulated")
    await exchange.put(control, history(), "simulated")
    before = [row async for row in exchange.get(control, FORTNIGHT[0], TODAY)]
    await exchange.put(control, [HistoryRow(FORTNIGHT[0], "shared", "heavy", 1.0, 9.0)], "simulated")
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


async def exported(control: Pool) -> str:
    file = io.StringIO()
    out = exchange.CsvWriter(file)
    async for row in exchange.get(control, FORTNIGHT[0] - timedelta(days=1), TODAY + timedelta(days=1)):
        out.row(row)
    return file.getvalue()


async def test_measured_history_that_is_exported_is_judged_the_same_where_it_is_imported(
    pg: EmbeddedServer, make_database: Callable[[EmbeddedServer], str], control: Pool
) -> None:
    """Delays that are taken off, days of which too little is known, idle days and the day that is not over."""
    await enter(control, "heavy", "light")
    await live(control, 14, {"heavy": 30.0, "light": 70.0}, total=60.0, server_without_hours=range(24, 72))
    yesterday = to_datetime(MIDNIGHT - DAY)
    await control.execute("UPDATE tenantry.usage SET statements = CASE tenant WHEN 'light' THEN 9 ELSE 1 END")
    await control.execute("DELETE FROM tenantry.usage WHERE hour >= $1", yesterday)  # nobody did anything
    await control.execute("INSERT INTO tenantry.usage VALUES ($1, 'shared', 'heavy', 0.1)", to_datetime(MIDNIGHT))
    await upkeep.close_days(control, MIDNIGHT + 60)
    text = await exported(control)

    elsewhere = make_database(pg)
    for step in migrations("control"):
        pg.psql(step.text, elsewhere)
    async with asyncpg.create_pool(pg.dsn(elsewhere), min_size=0) as other:
        await enter(other, "heavy", "light")
        await exchange.put(other, exchange.parse(io.StringIO(text), IdType.TEXT), "there")
        again = await exported(other)
        for tenant in ("heavy", "light"):
            mine, theirs = [
                judge(PromotionRule(), (await shares.load(pool, FORTNIGHT[0], TODAY)).history(tenant), TODAY)
                for pool in (control, other)
            ]
            marks = [bucket.status for bucket in mine.buckets]
            assert [bucket.status for bucket in theirs.buckets] == marks
            assert [bucket.share for bucket in theirs.buckets] == pytest.approx([b.share for b in mine.buckets])
            assert theirs.state is mine.state
            assert theirs.coverage == pytest.approx(mine.coverage)
            assert {BucketStatus.MISSING, BucketStatus.UNMET} <= set(marks)
    assert again == text.replace("measured", "there")


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
        (HEADER + "2026-11-01,sha\0red,a,1,2,1\n", 2, "NUL"),
        (HEADER + "2026-11-01,shared,,1,2,1\n", 2, "empty"),
        (HEADER + "2026-11-01,shared\n", 2, "fewer fields"),
        # A decimal comma, and the last line of a file that was cut off.
        (HEADER + "2026-11-01,shared,a,1,5,100,1\n", 2, "more fields"),
        (HEADER + "2026-11-01,shared,a,1,2,1\n2026-11-01,shared,b\n", 3, "fewer fields"),
        (HEADER + "2026-11-01,shared,a,,2,1\n", 2, "busy_seconds is empty"),
        (HEADER + '2026-11-01,shared,"a,1,2,1\n2026-11-01,shared,b,1,2,1\n', 3, "end of data"),
        (HEADER + f"2026-11-01,shared,{'a' * 200_000},1,2,1\n", 2, "field limit"),
        (HEADER.strip() + ",busy_seconds\n", 1, "busy_seconds twice"),
        (HEADER.strip() + ",commits\n2026-11-01,shared,a,1,2,1,1.5\n", 2, "whole number"),
        (HEADER + "2026-11-01,shared,a,1e308,1e308,1\n", 2, "between 0 and"),
        (HEADER + "2026-11-01,shared,a,inf,inf,1\n", 2, "between 0 and"),
        ("", 1, "the header lacks day"),
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
        ([], "a\0b", "label"),
        ([HistoryRow(TODAY, "s", "a", 1, 2), HistoryRow(TODAY, "s", "a", 1, 2)], "x", "two rows"),
        ([HistoryRow(TODAY, "s", "a", 1, 2), HistoryRow(TODAY, "s", "b", 1, 3)], "x", "two different totals"),
        ([HistoryRow(TODAY, "s", "a", 1, None)], "x", "no total"),
    ],
)
async def test_history_that_contradicts_itself_is_refused_whole(
    control: Pool, rows: list[HistoryRow], label: str, why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        await exchange.put(control, rows, label)

    assert await control.fetchval("SELECT count(*) FROM tenantry.usage_day") == 0


def test_the_dates_of_an_exported_history_are_utc_days() -> None:
    (row,) = exchange.parse(io.StringIO(HEADER + "2026-11-01,shared,a,1,2,\n"), IdType.TEXT)

    assert (row.day, row.coverage) == (date(2026, 11, 1), 1.0)
