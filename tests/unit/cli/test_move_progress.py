"""How far a move is, as people read it: on a wide and a narrow terminal, and in a log."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from tenantry.cli.move_progress import EVERY, Bars, Lines, progress_bars, shown
from tenantry.cli.render import Renderer
from tenantry.ids import Kind
from tenantry.move import (
    Compared,
    CopyProgressed,
    Deleted,
    FenceTried,
    Following,
    MovePlan,
    Progress,
    Retrying,
    StepEnded,
    StepStarted,
)
from tenantry.move.plan import Mechanism, TablePlan

ENTRY = '"public"."entry"'


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def copied(rows: int | None, seconds: float, *, complete: bool = False) -> CopyProgressed:
    return CopyProgressed("m1", ENTRY, 5_000, 10_000, rows, seconds, 1_000, complete)


@pytest.fixture
def plan() -> MovePlan:
    entry = TablePlan("public", "entry", "tenant_id", ("tenant_id", "id"), ("id",), None, True, 1_000, 10_000)
    return MovePlan(
        id="m1", tenant="t", source="shared", target="acme", source_kind=Kind.SHARED, target_kind=Kind.DEDICATED,
        mechanism=Mechanism.REPLICATION, epoch=1, setting="app.t", id_type="text", tables=(entry,), references=(),
        sequences=(), load_schema=True, shape="", storage="", pause=0.8, findings=(),
    )  # fmt: skip


def test_a_log_has_the_same_table_no_more_often_than_it_can_be_read(plan: MovePlan) -> None:
    clock, said = Clock(), list[str]()
    lines = Lines(said.append, plan, clock)
    lines.tell(copied(None, 0.1))  # not counted yet
    for _ in range(10):
        lines.tell(copied(100, 1.0))
    clock.now += EVERY / 2
    lines.tell(copied(200, 2.0))
    clock.now += EVERY / 2
    lines.tell(copied(500, 5.0))
    lines.tell(copied(600, 6.0))
    lines.tell(copied(1_003, 8.0, complete=True))
    lines.tell(StepEnded("m1", "copy", 8.0))
    assert said == [
        "copy public.entry: 500 of about 1,000 rows, 100 rows/s, 5 s left",
        "copy public.entry: 1,003 rows, 125 rows/s",
        "copy: done in 8.0 s",
    ]


def test_a_log_has_phases_lag_fences_and_troubles(plan: MovePlan) -> None:
    clock, said = Clock(), list[str]()
    lines = Lines(said.append, plan, clock)
    events: list[Progress] = [
        StepStarted("m1", "catch_up"),
        Following("m1", 12_345_678, None),
        Following("m1", 90, 0.012),
        StepEnded("m1", "catch_up", 1.25),
        Retrying("m1", "flip", "ConnectionError: gone", 0.2),
        FenceTried("m1", 1, False, 0.31, "the tenant's lock was held"),
        FenceTried("m1", 2, True, 0.076, None),
    ]
    for event in events:
        lines.tell(event)
    assert said == [
        "catch_up: done in 1.2 s",
        "flip: ConnectionError: gone; again in 0.2 s",
        "fence 1: missed after 310 ms: the tenant's lock was held",
        "fence 2: flipped, the tenant paused for 76 ms",
    ]


def test_comparing_and_deleting_have_a_rate_and_the_time_left(plan: MovePlan) -> None:
    clock, said = Clock(), list[str]()
    lines = Lines(said.append, plan, clock)
    table = plan.tables[0].quoted
    for kind in (Compared, Deleted):
        lines.tell(kind("m1", table, 0))
        clock.now += EVERY
        lines.tell(kind("m1", table, 500))
        lines.tell(kind("m1", table, 900))
        lines.tell(StepEnded("m1", kind.__name__, EVERY))
    name = table.replace('"', "")
    assert said == [
        f"compare {name}: 500 of about 1,000 rows, 100 rows/s, 5 s left",
        f"compare {name}: 900 rows, 180 rows/s",
        "Compared: done in 5.0 s",
        f"delete {name}: 500 of about 1,000 rows, 100 rows/s, 5 s left",
        f"delete {name}: 900 rows, 180 rows/s",
        "Deleted: done in 5.0 s",
    ]


def test_lag_is_told_of_while_it_lasts(plan: MovePlan) -> None:
    clock, said = Clock(), list[str]()
    lines = Lines(said.append, plan, clock)
    for lag in (99_000_000, 50_000_000, 12_345_678):
        lines.tell(Following("m1", lag, None))
        clock.now += EVERY / 2
    lines.tell(Following("m1", 90, 0.012))
    assert said == ["catch_up: 11.8 MB behind"]


def drawn(plan: MovePlan, width: int) -> str:
    """What a terminal shows in the middle of a copy."""
    out = Renderer(as_json=False, out=StringIO(), err=StringIO())
    out.errors = Console(file=StringIO(), force_terminal=True, width=width, color_system=None)
    bars = progress_bars(out)
    shown = Bars(out, plan, bars, Clock())
    shown.tell(StepStarted("m1", "copy"))
    shown.tell(copied(400, 4.0))
    with out.errors.capture() as capture:
        out.errors.print(bars.get_renderable())
    return capture.get()


def test_a_wide_terminal_shows_a_bar_the_rows_the_rate_and_the_time_left(plan: MovePlan) -> None:
    line = next(line for line in drawn(plan, 120).splitlines() if "copy public.entry" in line)
    assert "━" in line
    assert "400 of about 1,000 rows" in line
    assert "100 rows/s, 6 s left" in line


@pytest.mark.parametrize("width", [20, 40, 71])
def test_a_narrow_terminal_shows_how_much_is_done_on_one_line(plan: MovePlan, width: int) -> None:
    lines = drawn(plan, width).splitlines()
    assert all(len(line) <= width for line in lines)
    (line,) = [line for line in lines if "copy pub" in line]
    assert line.startswith(" 40% copy")


def test_without_a_terminal_nothing_is_drawn(plan: MovePlan) -> None:
    err = StringIO()
    out = Renderer(as_json=False, out=StringIO(), err=err)
    with shown(out, plan) as tell:
        tell(StepStarted("m1", "copy"))
        tell(copied(1_000, 2.0, complete=True))
    assert err.getvalue() == "copy public.entry: 1,000 rows, 500 rows/s\n"
