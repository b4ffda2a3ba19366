"""How far a move is: bars on a terminal, lines elsewhere, an event a line in JSON."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final, NamedTuple

from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as RichProgress

from tenantry.cli import format
from tenantry.cli.render import Renderer
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
from tenantry.move.progress import Tell

#: Where there is no terminal, the same table is told of no more often than this. Seconds.
EVERY: Final = 5.0
#: A terminal narrower than this shows no bars, only how much is done.
_NARROW: Final = 72


class Part(NamedTuple):
    """How far one table is in one phase."""

    phase: str
    table: str
    done: int
    """Rows."""
    expected: int
    """Rows, an estimate; 0: unknown."""
    rate: float | None
    """Rows a second; None: not known yet."""
    complete: bool = False

    @property
    def name(self) -> str:
        """The phase and the table, without quotes that only SQL needs."""
        return f"{self.phase} " + self.table.replace('"', "")

    @property
    def amount(self) -> str:
        """Rows done of rows expected."""
        known = self.complete or self.expected <= self.done
        return f"{self.done:,} rows" if known else f"{self.done:,} of about {self.expected:,} rows"

    @property
    def pace(self) -> str:
        """Rows a second and the time that is left."""
        if not self.rate:
            return ""
        left = max(0, self.expected - self.done) / self.rate
        return f"{self.rate:,.0f} rows/s" + (
            f", {format.duration(left)} left" if left and not self.complete else ""
        )

    @property
    def percent(self) -> int:
        """Of the expected rows."""
        return 100 if self.complete else min(99, self.done * 100 // max(1, self.expected))


class Parts:
    """Makes events into parts: knows what was expected of each table, and when it began."""

    # Mutable state: _began, when each table's phase began: when the one before was last told of (_mark).

    def __init__(self, plan: MovePlan, clock: Callable[[], float]) -> None:
        self._expected = {table.quoted: table.rows for table in (*plan.tables, *plan.references)}
        self._clock = clock
        self._began: dict[tuple[str, str], float] = {}
        self._mark = clock()

    def of(self, event: Progress) -> Part | None:
        """The part that the event tells of; None: it tells of something else, or of no rows yet."""
        match event:
            case StepStarted():
                self._began.clear()
                self._mark = self._clock()
            case CopyProgressed(table=table, rows=int() as rows, seconds=seconds):
                rate = rows / seconds if seconds else None
                return Part("copy", table, rows, event.expected_rows, rate, event.complete)
            case Compared(table=table, rows=rows):
                return self._part("compare", table, rows)
            case Deleted(table=table, rows=rows):
                return self._part("delete", table, rows)
        return None

    def _part(self, phase: str, table: str, rows: int) -> Part:
        now = self._clock()
        began = self._began.setdefault((phase, table), self._mark)
        self._mark = now
        rate = rows / (now - began) if now > began else None
        return Part(phase, table, rows, self._expected.get(table, 0), rate)


def sentence(event: Progress) -> str | None:
    """What an event that is not of one table's rows says; None: nothing to people."""
    match event:
        case StepEnded(step=step, seconds=seconds):
            return f"{step}: done in {seconds:.1f} s"
        case Following(lag=lag, latency=latency):
            probe = "" if latency is None else f", a probe took {latency * 1000:.0f} ms"
            return f"catch_up: {format.size(lag)} behind{probe}"
        case FenceTried(attempt=attempt, flipped=True, pause=pause):
            return f"fence {attempt}: flipped, the tenant paused for {pause * 1000:.0f} ms"
        case FenceTried(attempt=attempt, pause=pause, why=why):
            return f"fence {attempt}: missed after {pause * 1000:.0f} ms: {why}"
        case Retrying(step=step, error=error, wait=wait):
            return f"{step}: {error}; again in {wait:g} s"
    return None


class Lines:
    """Plain lines, for logs."""

    # Mutable state: _last, when each thing was last told of; _untold, what was not, because that was just now.

    def __init__(
        self, say: Callable[[str], None], plan: MovePlan, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say = say
        self._clock = clock
        self._parts = Parts(plan, clock)
        self._last: dict[str, float] = {}
        self._untold: dict[str, Part] = {}

    def tell(self, event: Progress) -> None:
        """Say it, unless the same was told of a moment ago; at a step's end say how far its tables came."""
        if part := self._parts.of(event):
            self._untold[part.name] = part
            if part.complete or self._due(part.name):
                self._tell_part(part)
            return
        if isinstance(event, StepEnded):
            for last in [*self._untold.values()]:
                self._tell_part(last._replace(complete=True))
        if (text := sentence(event)) and (not isinstance(event, Following) or self._due("catch_up")):
            self._say(text)

    def _tell_part(self, part: Part) -> None:
        self._untold.pop(part.name)
        self._say(", ".join(filter(None, (f"{part.name}: {part.amount}", part.pace))))

    def _due(self, what: str) -> bool:
        now = self._clock()
        due = now - self._last.setdefault(what, now) >= EVERY
        if due:
            self._last[what] = now
        return due


class Bars:
    """A bar for each table of the running phase, below the lines of what is done."""

    # Mutable state: _tasks, the bars that stand now; _phase, the line below them.

    def __init__(
        self, out: Renderer, plan: MovePlan, bars: RichProgress, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._out = out
        self._bars = bars
        self._parts = Parts(plan, clock)
        self._tasks: dict[str, TaskID] = {}
        self._phase = bars.add_task("", total=None, amount="", pace="", percent="")

    def tell(self, event: Progress) -> None:
        """Show it."""
        if part := self._parts.of(event):
            self._bar(part)
            return
        if isinstance(event, StepStarted):
            self._bars.update(self._phase, description=f"{event.step} …", amount="", pace="")
        elif isinstance(event, Following):
            self._bars.update(self._phase, amount=(sentence(event) or "").partition(": ")[2])
        elif text := sentence(event):
            self._out.say(text)
        if isinstance(event, StepEnded):
            for task in self._tasks.values():
                self._bars.remove_task(task)
            self._tasks.clear()

    def _bar(self, part: Part) -> None:
        if part.name not in self._tasks:
            self._tasks[part.name] = self._bars.add_task(part.name, amount="", pace="", percent="")
        self._bars.update(
            self._tasks[part.name],
            total=part.done if part.complete else max(part.expected, part.done, 1),
            completed=part.done,
            amount=part.amount,
            pace=part.pace,
            percent=f"{part.percent}%",
        )


@contextmanager
def shown(out: Renderer, plan: MovePlan) -> Iterator[Tell]:
    """Show what a mover tells while the body runs."""
    if out.as_json:
        yield lambda event: out.event(
            {"event": event.name, "at": datetime.now(UTC).isoformat(timespec="milliseconds")}
            | {
                key: round(value, 4) if isinstance(value, float) else value
                for key, value in event._asdict().items()
            }
        )
    elif not out.errors.is_terminal:
        yield Lines(out.say, plan).tell
    else:
        with progress_bars(out) as bars:
            yield Bars(out, plan, bars).tell


def progress_bars(out: Renderer) -> RichProgress:
    """The bars' columns, as wide as the terminal has room for."""
    name = TextColumn("{task.description}", markup=False)
    wide = (BarColumn(24), TextColumn("{task.fields[amount]}"), TextColumn("{task.fields[pace]}"))
    narrow = TextColumn("{task.fields[percent]:>4} {task.description}", markup=False)
    columns = (narrow,) if out.errors.width < _NARROW else (name, *wide)
    return RichProgress(*columns, console=out.errors, transient=True)
