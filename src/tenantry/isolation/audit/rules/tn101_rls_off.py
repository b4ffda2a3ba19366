"""A tenant table with row-level security switched off; its policies, if any, do nothing."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject

RULE = Rule(
    "TN101",
    "rls-off",
    Severity.ERROR,
    "Every query without a WHERE on the tenant reads and changes the rows of all tenants.",
)


def check(subject: Subject) -> Iterator[Found]:
    """Tenant tables that are nobody's partition, with row-level security off."""
    for relation, _ in subject.tops:
        if not relation.rls:
            yield Found(
                relation.key,
                "row-level security is off",
                subject.steps(relation, "policy") or (f"ALTER TABLE {relation.sql} ENABLE ROW LEVEL SECURITY",),
            )
