"""What was tried, and what came of it. Values, no I/O."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Outcome(Enum):
    """How an attempt ended."""

    HELD = "held"
    LEAKED = "leaked"
    UNTRIED = "could not be tried"


class Attempt(NamedTuple):
    """One way in which one tenant tried to reach another's rows."""

    object: str
    """`schema.name` of the table, view or function."""
    attack: str
    outcome: Outcome
    detail: str = ""
    """Why it counts as a leak, or why it could not be tried."""

    def __str__(self) -> str:
        return f"{self.object}: {self.attack}" + (f": {self.detail}" if self.detail else "")


class Report(NamedTuple):
    """Everything that a check tried, and what kept it from proving anything."""

    attempts: tuple[Attempt, ...]
    problems: tuple[str, ...] = ()
    """What makes the check vacuous: tables without rows of both tenants, undecided tables, none at all."""

    def _with(self, outcome: Outcome) -> tuple[Attempt, ...]:
        return tuple(attempt for attempt in self.attempts if attempt.outcome is outcome)

    @property
    def leaks(self) -> tuple[Attempt, ...]:
        """Where one tenant reached another's rows."""
        return self._with(Outcome.LEAKED)

    @property
    def untried(self) -> tuple[Attempt, ...]:
        """What could not be tried, with the reason."""
        return self._with(Outcome.UNTRIED)

    @property
    def held(self) -> tuple[Attempt, ...]:
        """What was tried and came to nothing."""
        return self._with(Outcome.HELD)

    def plus(self, other: Report) -> Report:
        """Both; a problem that both have is said once."""
        problems = tuple(dict.fromkeys(self.problems + other.problems))
        return Report(self.attempts + other.attempts, problems)

    def __str__(self) -> str:
        counts = (
            f"{len(self.held)} attempts held, {len(self.leaks)} leaked, {len(self.untried)} could not be tried"
        )
        return "\n".join(
            [
                counts,
                *(f"  LEAK {attempt}" for attempt in self.leaks),
                *(f"  PROVES NOTHING {problem}" for problem in self.problems),
                *(f"  not tried: {attempt}" for attempt in self.untried),
            ]
        )


class IsolationBroken(AssertionError):
    """A tenant reached another's rows, or the check could not prove that it doesn't.

    Attributes:
        report: all that was tried.
    """

    def __init__(self, report: Report) -> None:
        self.report = report
        what = "tenants are not isolated" if report.leaks else "this check proves nothing yet"
        super().__init__(f"{what}: {report}")


def settled(report: Report) -> Report:
    """The report, if everything held and something was tried.

    Raises:
        IsolationBroken: otherwise.
    """
    if not report.attempts or not report.held:
        report = report.plus(Report((), ("nothing was tried",)))
    if report.leaks or report.problems:
        raise IsolationBroken(report)
    return report
