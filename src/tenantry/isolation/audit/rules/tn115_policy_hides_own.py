"""Policies that show a tenant none of its own rows."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject

RULE = Rule(
    "TN115",
    "policy-hides-own",
    Severity.ERROR,
    "The table is empty for every tenant, without an error: what isolates it is that nobody can use it.",
)


def check(subject: Subject) -> Iterator[Found]:
    """Tables that may be read, and whose policies no row of the bound tenant can pass."""
    for relation, column in subject.guarded:
        policy = subject.policy_set.hiding(relation.oid)
        if policy is not None:
            yield Found(
                f"{relation.key}.{policy.name}",
                "lets no row of the bound tenant through",
                subject.rewritten(relation, column, policy),
            )
