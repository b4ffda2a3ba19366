"""What a probe says."""

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
    """It could not be tried, or proved nothing."""


class Attempt(NamedTuple):
    """One attack on one object."""

    object: str
    """`schema.name`."""
    attack: str
    outcome: Outcome
    detail: str
    """What happened, or why it could not be tried."""


class ProbeReport(NamedTuple):
    """Everything that was tried, and what could not be."""

    attempts: tuple[Attempt, ...]
    tables: tuple[str, ...]
    """The tenant tables that there are."""

    @property
    def broken(self) -> tuple[Attempt, ...]:
        """The attacks that reached another tenant."""
        return tuple(a for a in self.attempts if a.outcome is Outcome.BROKEN)

    @property
    def untried(self) -> tuple[Attempt, ...]:
        """The attacks that could not be tried."""
        return tuple(a for a in self.attempts if a.outcome is Outcome.UNTRIED)

    @property
    def unproven(self) -> tuple[str, ...]:
        """Tables on which no attack at all could be tried."""
        tried = {a.object for a in self.attempts if a.outcome is not Outcome.UNTRIED}
        return tuple(table for table in self.tables if table not in tried)

    @property
    def passed(self) -> bool:
        """True when there are tables, each was attacked, and nothing gave way."""
        return bool(self.tables) and not self.broken and not self.unproven
