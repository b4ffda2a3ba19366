"""A table that is still in observe mode: its policy allows everything."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject

RULE = Rule(
    "TN114",
    "observing",
    Severity.WARNING,
    "Observe mode is for finding out; it holds nobody.",
)


def check(subject: Subject) -> Iterator[Found]:
    """Tables with the observing policy."""
    for relation, _ in subject.guarded:
        if subject.observing(relation.oid) is not None:
            yield Found(
                relation.key,
                "is in observe mode: everything is allowed, and recorded",
                subject.steps(relation, "policy"),
            )
