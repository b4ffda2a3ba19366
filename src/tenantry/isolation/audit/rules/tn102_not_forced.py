"""A tenant table whose owner is not held by its policies."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject

RULE = Rule(
    "TN102",
    "not-forced",
    Severity.ERROR,
    ("The owner reads every tenant, and applications connect as the owner more often than anybody planned."),
)


def check(subject: Subject) -> Iterator[Found]:
    """Tables with row-level security on, not forced."""
    for relation, _ in subject.tops:
        if relation.rls and not relation.forced:
            yield Found(
                relation.key,
                f"its owner {relation.owner} is not held by its policies",
                (f"ALTER TABLE {relation.sql} FORCE ROW LEVEL SECURITY",),
            )
