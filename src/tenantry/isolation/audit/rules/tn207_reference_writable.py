"""A reference table that the application role may change."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject, grantees

RULE = Rule(
    "TN207",
    "reference-writable",
    Severity.WARNING,
    "All tenants read it, so what one of them writes all others get.",
)


def check(subject: Subject) -> Iterator[Found]:
    """Write privileges on tables that are configured as reference."""
    for oid in sorted(subject.tables.reference):
        relation = subject.catalog.relations[oid]
        who = subject.reached("relation", oid, relation.owner, "INSERT", "UPDATE", "DELETE")
        if who:
            yield Found(
                relation.key,
                f"{', '.join(sorted(who))} may write what all tenants read",
                (f"REVOKE INSERT, UPDATE, DELETE ON {relation.sql} FROM {grantees(who)}",),
            )
