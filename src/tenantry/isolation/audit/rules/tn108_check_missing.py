"""A policy that hides the rows of other tenants but lets rows be written for them."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject
from tenantry.isolation.audit.openings import opened_for_writing
from tenantry.isolation.equality import standard
from tenantry.runtime.sqltext import identifier

RULE = Rule(
    "TN108",
    "check-missing",
    Severity.ERROR,
    "A tenant can plant rows into another tenant, or give its own rows away.",
)


def check(subject: Subject) -> Iterator[Found]:
    """Policies tied in USING whose check is not (a check left out is the USING, and is fine)."""
    for relation, column, policy, actions in opened_for_writing(subject):
        text = standard(column.name, subject.tenancy, column.type)
        yield Found(
            f"{relation.key}.{policy.name}",
            f"rows can be written for other tenants ({', '.join(actions)})",
            (f"ALTER POLICY {identifier(policy.name)} ON {relation.sql} WITH CHECK ({text})",),
        )
