"""What a plan is made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from tenantry.catalog.tables import Undecided
from tenantry.isolation.facts import Facts


class PolicyMode(StrEnum):
    """What the policies do."""

    OBSERVE = "observe"
    """Allow everything and record what would have been refused."""
    ENFORCE = "enforce"


class PlanStep(NamedTuple):
    """One thing to do, complete in itself: after any step the database is in working order."""

    object: str
    """`schema.name` of what it changes."""
    kind: str
    """index, not null, default, identity, foreign key, grant, policy, view."""
    statements: tuple[str, ...]
    """In one transaction, or each on its own when `alone`."""
    why: str
    alone: bool = False
    """True for what PostgreSQL refuses inside a transaction: CREATE INDEX CONCURRENTLY and its kin.
    """
    patient: bool = False
    """True for what may run long and blocks nobody: it gets no lock timeout."""
    sweep: str | None = None
    """What to run before a retry of a step that failed half-way: dropping an invalid index."""


@dataclass(frozen=True)
class Plan:
    """What to do, what to decide, and what was left alone."""

    steps: tuple[PlanStep, ...]
    undecided: tuple[Undecided, ...]
    kept: tuple[str, ...]
    """Tables whose own policies isolate already."""

    def sql(self) -> str:
        """The plan as a script for psql."""
        lines = [f"-- {len(self.steps)} steps, {len(self.undecided)} decisions left to you"]
        lines += [f"-- {line}" if line else "" for line in self.decisions().splitlines()]
        for step in self.steps:
            lines.append(f"\n-- {step.object}: {step.why}")
            body = [f"{statement};" for statement in step.statements]
            lines.extend(body if step.alone else ["BEGIN;", *body, "COMMIT;"])
        return "\n".join(lines) + "\n"

    def decisions(self) -> str:
        """What is left to people: each question with its choices beneath it, a statement to a line."""
        lines = []
        for item in self.undecided:
            lines += ["", f"DECIDE {item.object}: {_oneline(item.problem)}"]
            lines += [f"    {line}" for text in item.choices for line in text.splitlines()]
        return "\n".join(lines)


@dataclass(frozen=True)
class PlanContext:
    """What the phases of a plan look at."""

    facts: Facts
    nulls: frozenset[int]
    foreign_keys: bool
    not_null: bool = True
    """False: whether rows without a tenant are meant is asked, even where there is none."""

    def kept(self) -> tuple[str, ...]:
        """Tables whose own policies isolate already."""
        facts = self.facts
        return tuple(
            relation.key
            for relation, _ in facts.tenant_tables
            if facts.own_policy(relation.oid) is None and facts.isolates(relation.oid)
        )


def choice(what: str, statements: Iterable[str]) -> str:
    """A choice that is made by running statements: one to a line, beneath what they do."""
    return "\n".join(
        [f"{what}:", *(f"    {statement.replace(chr(10) + '    ', ' ')};" for statement in statements)]
    )


def _oneline(text: str) -> str:
    return " ".join(text.split())
