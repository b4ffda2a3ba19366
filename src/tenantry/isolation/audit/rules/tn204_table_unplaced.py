"""A table that is neither a tenant table nor said to be something else."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject
from tenantry.isolation.audit.fixes import left_without, through_parent

RULE = Rule(
    "TN204",
    "table-unplaced",
    Severity.WARNING,
    "A table that was forgotten is the one that leaks.",
)


def check(subject: Subject) -> Iterator[Found]:
    """Tables without the column and without an override."""
    for item in subject.tables.undecided:
        if item.topic == "table":
            relation = subject.catalog.by_key.get(item.object)
            left = "" if relation is None else left_without(subject, relation)
            yield Found(
                item.object,
                f"{item.problem}; choices: {' | '.join(item.choices)}" + (f"; {left}" if left else ""),
                () if relation is None else through_parent(subject, relation),
            )
