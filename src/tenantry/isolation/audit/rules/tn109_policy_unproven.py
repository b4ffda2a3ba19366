"""A policy of which it can't be proven that only the bound tenant's rows pass."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject
from tenantry.isolation.audit.openings import unproven

RULE = Rule(
    "TN109",
    "policy-unproven",
    Severity.WARNING,
    "It may be right, and it may show a tenant the rows of others: nobody can tell by reading it.",
)


def check(subject: Subject) -> Iterator[Found]:
    """Permissive policies for which no proof was found, and that no restrictive policy holds."""
    for relation, column, policy, actions in unproven(subject):
        yield Found(
            f"{relation.key}.{policy.name}",
            f"not proven to keep to the bound tenant ({', '.join(actions)}); `tenantry rls probe` attacks it",
            subject.held(relation, column, policy),
        )
