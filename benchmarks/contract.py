"""What a benchmark script gets, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Verdict = Literal["met", "missed", "shown"]


@dataclass(frozen=True, slots=True)
class Options:
    """How to run."""

    quick: bool = False
    """Seconds instead of minutes: shows that the script works, its figures mean little."""
    version: int = 18
    """Major version of the embedded PostgreSQL."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table in docs/explanation/benchmarks.md."""

    claim: str
    """What is measured, in the reader's words."""
    measured: str
    """With its unit."""
    bound: str
    """What was to be reached; "" when the figure is only shown."""
    verdict: Verdict
    """"met" or "missed" the bound; "shown" where there is none."""
    beside: str = ""
    """The same of the others, measured in the same run."""
    note: str = ""
    """How it was measured, and what limits it."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """The numbers behind the words, for programs; the unit is the end of each name."""

    def as_json(self) -> dict[str, Any]:
        """For `json.dumps`."""
        return asdict(self)


def verdict(met: bool) -> Verdict:
    """In a word."""
    return "met" if met else "missed"
