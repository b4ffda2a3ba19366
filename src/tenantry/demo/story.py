"""The story's parts: each says what is claimed, what was done, and what was seen; promises are checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, NamedTuple

from tenantry.demo.teller import Bar, Teller


class Check(NamedTuple):
    """A promise, and whether it held in this run."""

    section: str
    promise: str
    held: bool


@dataclass
class Story:
    """All sections so far: what `--json` prints."""

    teller: Teller
    sections: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Facts by section, every one measured in this run."""
    checks: list[Check] = field(default_factory=list)

    def section(self, key: str, title: str) -> Section:
        """Begin a section. `key` is its name in the summary."""
        self.teller.heading(f"{len(self.sections) + 1}. {title}")
        self.sections[key] = {}
        return Section(self, key, perf_counter())

    @property
    def broken(self) -> list[Check]:
        """Promises that did not hold."""
        return [check for check in self.checks if not check.held]


@dataclass(frozen=True, slots=True)
class Section:
    """One section."""

    story: Story
    key: str
    began: float

    def claim(self, text: str) -> None:
        """What is promised."""
        self.story.teller.labelled("claim", text)

    def did(self, text: str) -> None:
        """What was done to see whether it is true."""
        self.story.teller.labelled("did", text)

    def saw(self, text: str) -> None:
        """What was seen."""
        self.story.teller.labelled("saw", text)

    def quote(self, text: str) -> None:
        """Words of PostgreSQL's, SQL, or metrics, as they are."""
        self.story.teller.verbatim(text)

    def bars(self, bars: list[Bar]) -> None:
        """A bar chart."""
        self.story.teller.bars(bars)

    def check(self, held: bool, promise: str) -> None:
        """A promise that the demo fails by when it does not hold."""
        self.story.checks.append(Check(self.key, promise, bool(held)))
        self.story.teller.verdict(bool(held), promise)

    def facts(self, **facts: Any) -> None:
        """Numbers for the summary."""
        self.story.sections[self.key].update(facts)
