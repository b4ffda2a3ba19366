"""What the attacks found. Values, no I/O."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Outcome(StrEnum):
    """How an attack ended."""

    HELD = "held"
    """It was refused, or found nothing."""
    BROKEN = "broken"
    """It reached another tenant."""
    UNTRIED = "untried"
    """It could not be tried, or would have proved nothing."""


class Attempt(NamedTuple):
    """One attack on one object."""

    object: str
    """`schema.name` of the table, view or function."""
    attack: str
    outcome: Outcome
    detail: str = ""
    """What happened, or why it could not be tried."""

    def __str__(self) -> str:
        return f"{self.object}: {self.attack}" + (f": {self.detail}" if self.detail else "")


class Report(NamedTuple):
    """Everything that was tried, and what keeps it from proving anything."""

    attempts: tuple[Attempt, ...] = ()
    problems: tuple[str, ...] = ()
    """Why it proves nothing: no tenant tables, tables without rows to attack, tables that nobody placed."""

    def _with(self, outcome: Outcome) -> tuple[Attempt, ...]:
        return tuple(attempt for attempt in self.attempts if attempt.outcome is outcome)

    @property
    def broken(self) -> tuple[Attempt, ...]:
        """The attacks that reached another tenant."""
        return self._with(Outcome.BROKEN)

    @property
    def untried(self) -> tuple[Attempt, ...]:
        """The attacks that could not be tried, with the reason."""
        return self._with(Outcome.UNTRIED)

    @property
    def held(self) -> tuple[Attempt, ...]:
        """The attacks that were tried and came to nothing."""
        return self._with(Outcome.HELD)

    @property
    def passed(self) -> bool:
        """True when something was tried, everything that was tried held, and nothing makes that worthless."""
        return bool(self.held) and not self.broken and not self.problems

    def plus(self, other: Report) -> Report:
        """Both reports; a problem that both have is said once."""
        return Report(self.attempts + other.attempts, tuple(dict.fromkeys(self.problems + other.problems)))

    def __str__(self) -> str:
        counts = f"{len(self.held)} attacks held, {len(self.broken)} broke through, {len(self.untried)} not tried"
        return "\n".join(
            [
                counts,
                *(f"  BROKEN {attempt}" for attempt in self.broken),
                *(f"  PROVES NOTHING {problem}" for problem in self.problems),
                *(f"  not tried: {attempt}" for attempt in self.untried),
            ]
        )
