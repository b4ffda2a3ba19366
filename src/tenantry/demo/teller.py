"""Tells the demo's story to people, as plain lines; a screen may do it more prettily (tenantry.cli)."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final, NamedTuple, TextIO

_WIDEST: Final = 100
_NARROWEST: Final = 32
_INDENT: Final = 10


class Bar(NamedTuple):
    """One line of a bar chart."""

    label: str
    value: float
    words: str
    """What stands behind the bar."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One look at the load while it runs."""

    title: str
    elapsed: float
    """Seconds."""
    seconds: float | None
    """How long it will run; None: until something else is done."""
    rate: float
    """Requests a second since the last frame."""
    p99: float
    """Seconds, since the last frame."""
    requests: int
    failures: int
    bars: tuple[Bar, ...]
    """Each customer's part of the requests so far."""
    pools: tuple[str, ...]
    """One line a database."""


class Teller:
    """Writes plain lines. Mutable state: `_said`, when the last frame was told."""

    def __init__(self, out: TextIO, *, width: int | None = None) -> None:
        """Args:
        out: where to.
        width: columns; None: the terminal's.
        """
        self.out = out
        columns = width or shutil.get_terminal_size((80, 24)).columns
        self.width = max(_NARROWEST, min(_WIDEST, columns))
        self.yes, self.no, self.full = ("✓", "✗", "█") if self._can("✓✗█") else ("ok", "NO", "#")
        self._said = float("-inf")

    def title(self, text: str) -> None:
        """The first line."""
        self._wrapped("", text, "title", indent=0)
        self.line("")

    def heading(self, text: str) -> None:
        """Begins a section."""
        self.line("")
        self._wrapped("", text, "heading", indent=0)

    def labelled(self, label: str, text: str) -> None:
        """A paragraph with a word before it."""
        self._wrapped(f"  {label:<{_INDENT - 2}}", text, label)

    def verdict(self, held: bool, text: str) -> None:
        """Whether a promise held."""
        self._wrapped(f"  {self.yes if held else self.no:<{_INDENT - 2}}", text, "held" if held else "broken")

    def verbatim(self, text: str) -> None:
        """Something that is quoted as it is; lines that are too long go on below, further in."""
        for line in text.splitlines():
            for part in textwrap.wrap(
                line,
                self.width - 1,
                initial_indent=" " * _INDENT,
                subsequent_indent=" " * (_INDENT + 4),
                break_on_hyphens=False,
                drop_whitespace=True,
            ):
                self.line(part, "verbatim")

    def bars(self, bars: Sequence[Bar]) -> None:
        """A bar chart; the longest bar stands for the largest value."""
        for text in self.drawn(bars):
            self.line(text, "bar")

    def say(self, text: str) -> None:
        """A sentence of its own."""
        self._wrapped("", text, "", indent=0)

    def line(self, text: str, style: str = "") -> None:
        """One line. `style` is a word for tellers with colours."""
        self.out.write(text + "\n")
        self.out.flush()

    def live(self) -> AbstractContextManager[object]:
        """While this is open, `frame` may be told."""
        self._said = float("-inf")
        return nullcontext()

    def frame(self, frame: Frame) -> None:
        """The load as it is now. Told every two seconds here."""
        if frame.elapsed - self._said < 2:
            return
        self._said = frame.elapsed
        of = "" if frame.seconds is None else f" of {frame.seconds:.0f}"
        words = f"{frame.rate:6,.0f} requests/s  p99 {frame.p99 * 1000:.1f} ms  {frame.failures} failures"
        self._wrapped("", f"    {frame.elapsed:5.1f}{of} s  {words}", "frame", indent=0)

    def drawn(self, bars: Sequence[Bar]) -> list[str]:
        """The lines of a bar chart."""
        if not bars:
            return []
        names = max(len(bar.label) for bar in bars)
        words = max(len(bar.words) for bar in bars)
        room = max(4, self.width - _INDENT - names - words - 4)
        most = max(bar.value for bar in bars) or 1.0
        margin = " " * _INDENT
        drawn = [self.full * round(room * bar.value / most) for bar in bars]
        return [
            f"{margin}{bar.label:<{names}}  {bulk:<{room}}  {bar.words}"
            for bar, bulk in zip(bars, drawn, strict=True)
        ]

    def _wrapped(self, before: str, text: str, style: str, *, indent: int = _INDENT) -> None:
        lines = textwrap.wrap(text, max(20, self.width - indent - 1), break_on_hyphens=False) or [""]
        self.line(before + lines[0], style)
        for line in lines[1:]:
            self.line(" " * indent + line, style)

    def _can(self, characters: str) -> bool:
        try:
            characters.encode(getattr(self.out, "encoding", None) or "utf-8")
        except (UnicodeEncodeError, LookupError):
            return False
        return True
