"""A tenant table with row-level security on and no permissive policy: nobody sees a row."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject

RULE = Rule(
    "TN103",
    "no-policy",
    Severity.ERROR,
    "Everything returns zero rows without an error, which people debug for days.",
)


def check(subject: Subject) -> Iterator[Found]:
    """Tables that deny everything; a table that denies some commands only is no fault."""
    for relation, _ in subject.tops:
        policies = subject.catalog.policies.get(relation.oid, ())
        if relation.rls and not any(policy.permissive for policy in policies):
            yield Found(
                relation.key,
                "row-level security is on and no permissive policy lets anybody in",
                subject.steps(relation, "policy"),
            )
