"""The one renderer: data to stdout, prose, progress and questions to stderr.

A table on a terminal, aligned plain text when piped, JSON when asked. JSON keys are the columns' keys.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from itertools import islice
from typing import Any, Final, NamedTuple, TextIO

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tenantry.errors import ConfigError

#: Rows that are looked at before the widths of the columns are decided: what a long list keeps in memory.
PAGE: Final = 500
#: Characters of a column below which its values can't be read, unless they are that short.
_READABLE: Final = 9
Row = Mapping[str, Any]


class OutputColumn(NamedTuple):
    """One column of a table."""

    key: str
    """Its key in JSON; stable."""
    title: str | None = None
    """What people read; None: the key, in capitals."""
    right: bool = False
    """Numbers stand on the right."""
    text: Callable[[Any], str] | None = None
    """How a value is written for people; None: `plain`."""
    style: str = ""
    """rich's, on a terminal only."""
    whole: bool = False
    """Ids: never broken over lines, so that they can be read and copied."""

    @property
    def heading(self) -> str:
        """The title."""
        return self.title or self.key.replace("_", " ").upper()

    def cell(self, row: Row) -> str:
        """One value as people read it."""
        return (self.text or plain)(row.get(self.key))


def plain(value: Any) -> str:
    """A value as people read it: nothing is a dash, a time is UTC to the second."""
    if value is None or value == "" or value == {} or value == []:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={plain(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(plain(inner) for inner in value)
    # A name from the database must not move the cursor or colour the terminal.
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in str(value))


def nowhere() -> TextIO:
    """Where output goes whose reader has gone."""
    return open(os.devnull, "w", encoding="utf-8")  # open until the interpreter's end, which flushes it


class _Prose(Console):
    """Sentences for people: that nobody reads them any more stops no work, and changes no exit code."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        sys.stderr = nowhere()


class ProgressStep:
    """Told how far a piece of work has come."""

    def __init__(self, tell: Callable[[int, int | None, str | None], None]) -> None:
        self._tell = tell

    def __call__(self, done: int = 0, *, total: int | None = None, what: str | None = None) -> None:
        """`done` more; `total`, where it is known now; `what` is being done."""
        self._tell(done, total, what)


class Renderer:
    """Writes what a command has to say."""

    # Mutable state: secrets, added to as DSNs become known; _out, as long as somebody reads it.

    def __init__(
        self, *, as_json: bool, out: TextIO | None = None, err: TextIO | None = None, colour: bool | None = None
    ) -> None:
        """Args:
        colour: as on a terminal; None: when stdout is one.
        """
        self.as_json = as_json
        self.secrets: set[str] = set()
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self._terminal = self._out.isatty() if colour is None else colour
        self.console = Console(file=self._out, force_terminal=self._terminal or None, highlight=False)
        self.errors: Console = _Prose(file=self._err, highlight=False)

    # -- data --------------------------------------------------------------------------------------

    def rows(self, columns: Sequence[OutputColumn], rows: Iterable[Row], *, empty: str = "none") -> int:
        """A table; in JSON a list of objects with the columns' keys. Returns the number of rows.

        Args:
            empty: said (to stderr) when there are no rows.
        """
        pages = _pages(iter(rows))
        table = self._table(columns, empty)
        for page in pages:
            table.send(page)
        return _end(table)

    async def stream(
        self, columns: Sequence[OutputColumn], rows: AsyncIterable[Row], *, empty: str = "none"
    ) -> int:
        """The same for rows that are still being read; keeps a page of them in memory."""
        table = self._table(columns, empty)
        async for page in _async_pages(rows):
            table.send(page)
        return _end(table)

    def facts(self, facts: Row, *, titles: Mapping[str, str] | None = None) -> None:
        """What is known of one thing, a line each; in JSON an object."""
        if self.as_json:
            self.tree(facts)
            return
        names = {key: (titles or {}).get(key, key.replace("_", " ")) for key in facts}
        width = max(map(len, names.values()), default=0)
        for key, value in facts.items():
            self._line(Text.assemble((f"{names[key]:<{width}}  ", "bold"), plain(value)))

    def tree(self, value: Any) -> None:
        """Any value as JSON."""
        with self.unless_unread():
            print(json.dumps(value, indent=2, default=_jsonable, ensure_ascii=False), file=self._out)

    def line(self, value: Row | Sequence[Row]) -> None:
        """One object, or list of them, of a stream of JSON: on a line of its own, at once."""
        print(json.dumps(value, default=_jsonable, ensure_ascii=False), file=self._out, flush=True)

    def event(self, value: Row) -> None:
        """A line of work that goes on when nobody reads of it any more."""
        with self.unless_unread():
            self.line(value)

    @contextmanager
    def unless_unread(self) -> Iterator[None]:
        """While the body writes: that nobody reads it any more changes neither the work nor its exit code."""
        try:
            yield
        except BrokenPipeError:
            self._out = sys.stdout = nowhere()

    def text(self, text: str) -> None:
        """Data that is text by nature: SQL, metrics. As it is, to stdout."""
        print(text, file=self._out)

    def _line(self, text: Text) -> None:
        if self._terminal:
            self.console.print(text, soft_wrap=True)  # what is copied from it stays in one piece
        else:
            print(text.plain.rstrip(), file=self._out)

    def _table(self, columns: Sequence[OutputColumn], empty: str) -> _Table:
        if self.as_json:
            return _start(_json_table(self._out, columns))
        if self._terminal:
            return _start(_rich_table(self.console, columns, self._nothing(empty)))
        return _start(_plain_table(self._out, columns, self._nothing(empty)))

    def _nothing(self, empty: str) -> Callable[[], None]:
        return lambda: self.say(empty)

    # -- prose -------------------------------------------------------------------------------------

    def scrubbed(self, text: str) -> str:
        """The text without what must not be shown."""
        from tenantry.config import secrets  # with all of the configuration, which `--help` does without

        return secrets.scrub(text, self.secrets)

    def say(self, text: str, *, style: str = "") -> None:
        """A sentence for people, on stderr. No secret passes."""
        self.errors.print(Text(self.scrubbed(text), style=style), soft_wrap=True)

    def warn(self, text: str) -> None:
        """A sentence that wants attention."""
        self.say(f"warning: {text}", style="yellow")

    def error(self, text: str) -> None:
        """Why the command ends."""
        self.say(f"error: {text}", style="red")

    def show_cursor(self) -> None:
        """Give the terminal its cursor back, before a process ends without clearing up."""
        self.errors.show_cursor(True)

    def confirm(self, question: str, *, yes: bool) -> None:
        """Go on only with `--yes` or a "y" at the terminal.

        Raises:
            ConfigError: there is nobody to ask.
            typer.Abort: the answer is no.
        """
        if yes:
            return
        if not sys.stdin.isatty():
            raise ConfigError(f"{question} There is no terminal to ask at: pass --yes")
        typer.confirm(self.scrubbed(question), abort=True, err=True)

    def ask(self, question: str) -> str:
        """What is typed at the terminal.

        Raises:
            ConfigError: there is nobody to ask.
        """
        if not sys.stdin.isatty():
            raise ConfigError(f"{question}. There is no terminal to ask at: pass --confirm ID")
        return str(typer.prompt(self.scrubbed(question), err=True))

    @contextmanager
    def progress(self, what: str, total: int | None = None) -> Iterator[ProgressStep]:
        """A progress bar on stderr while the block runs; without a terminal one line at the end."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.errors,
            disable=not self.errors.is_terminal,
        )
        task = bar.add_task(what, total=total)
        done = 0

        def tell(more: int, of: int | None, now: str | None) -> None:
            nonlocal done
            done += more
            changes = {key: value for key, value in (("total", of), ("description", now)) if value is not None}
            bar.update(task, advance=more, **changes)  # type: ignore[arg-type]

        with bar:
            yield ProgressStep(tell)
        if not self.errors.is_terminal:
            self.say(f"{what}: {done}")


_Table = Any  # a generator that is sent pages, then None, and returns the number of rows


def _start(table: _Table) -> _Table:
    next(table)
    return table


def _end(table: _Table) -> int:
    try:
        table.send(None)
    except StopIteration as stop:
        return int(stop.value)
    raise AssertionError("a table goes on after its end")


def _json_table(out: TextIO, columns: Sequence[OutputColumn]) -> Any:
    count, keys = 0, [column.key for column in columns]
    encode = json.JSONEncoder(default=_jsonable, ensure_ascii=False).encode  # `dumps` would make one for each row
    out.write("[")
    while (page := (yield)) is not None:
        for row in page:
            out.write(("," if count else "") + "\n  " + encode({key: row.get(key) for key in keys}))
            count += 1
    out.write("\n]\n" if count else "]\n")
    return count


def _plain_table(out: TextIO, columns: Sequence[OutputColumn], nothing: Callable[[], None]) -> Any:
    count, widths = 0, None
    while (page := (yield)) is not None:
        cells = [[column.cell(row) for column in columns] for row in page]
        if widths is None:
            heads = [column.heading for column in columns]
            widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
            print(_aligned(columns, heads, widths), file=out)
        for line in cells:
            print(_aligned(columns, line, widths), file=out)
        count += len(cells)
    if not count:
        nothing()
    return count


def _aligned(columns: Sequence[OutputColumn], cells: Sequence[str], widths: Sequence[int]) -> str:
    parts = zip(columns, cells, widths, strict=True)
    return "  ".join(cell.rjust(w) if column.right else cell.ljust(w) for column, cell, w in parts).rstrip()


def _rich_table(console: Console, columns: Sequence[OutputColumn], nothing: Callable[[], None]) -> Any:
    count, show = 0, _as_table
    while (page := (yield)) is not None:
        if not count and not _fits(console.width, columns, page):
            show = _as_records
        show(console, columns, page, not count)
        count += len(page)
    if not count:
        nothing()
    return count


def _fits(width: int, columns: Sequence[OutputColumn], page: Sequence[Row]) -> bool:
    """Whether a table leaves each column room in which it can be read."""
    least = (
        min(_widest(column, page), _widest(column, page) if column.whole else _READABLE) for column in columns
    )
    return sum(least) + 2 * (len(columns) - 1) <= width


def _widest(column: OutputColumn, page: Sequence[Row]) -> int:
    return max(len(column.heading), *(len(column.cell(row)) for row in page))


def _as_table(console: Console, columns: Sequence[OutputColumn], page: Sequence[Row], first: bool) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=first)
    for column in columns:
        side: Any = "right" if column.right else "left"
        least = _widest(column, page) if column.whole else None
        table.add_column(column.heading, justify=side, style=column.style, overflow="fold", min_width=least)
    for row in page:
        table.add_row(*(Text(column.cell(row)) for column in columns))
    console.print(table)


def _as_records(console: Console, columns: Sequence[OutputColumn], page: Sequence[Row], first: bool) -> None:
    """A value a line, an empty line between two rows: what a narrow terminal has room for."""
    for number, row in enumerate(page):
        if number or not first:
            console.print()
        for column in columns:
            line = Text.assemble((column.heading, "bold"), " ", (column.cell(row), column.style))
            console.print(line, soft_wrap=True)


def _pages(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while page := list(islice(rows, PAGE)):
        yield page


async def _async_pages(rows: AsyncIterable[Row]) -> AsyncIterator[list[Row]]:
    page: list[Row] = []
    async for row in rows:
        page.append(row)
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page


def _jsonable(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, set | frozenset):
        return sorted(value)
    return str(value)
