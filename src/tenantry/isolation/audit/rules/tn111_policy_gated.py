"""A policy that lets every row through once the session meets a condition."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject
from tenantry.isolation.audit.openings import gated

RULE = Rule(
    "TN111",
    "policy-gated",
    Severity.WARNING,
    (
        "Any SQL can set a custom setting, so a staff flag in a policy is a door that the application "
        "role can open."
    ),
)


def check(subject: Subject) -> Iterator[Found]:
    """Branches of a policy that depend on the session alone."""
    for relation, column, policy, actions in gated(subject):
        yield Found(
            f"{relation.key}.{policy.name}",
            f"lets every row through when the session meets a condition ({', '.join(actions)})",
            subject.held(relation, column, policy),
        )
