"""A tenant column that takes NULL."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject

RULE = Rule(
    "TN203",
    "column-nullable",
    Severity.WARNING,
    "A row without a tenant is seen by nobody and missed by everybody.",
)


def check(subject: Subject) -> Iterator[Found]:
    """Nullable tenant columns; a child is named only where its parents are not at fault."""
    tenants = subject.tables.tenants
    for relation, column in subject.tenant_tables:
        above = [tenants[a] for a in subject.catalog.ancestors(relation.oid) if a in tenants]
        if not column.not_null and all(parent.not_null for parent in above):
            yield Found(
                relation.key,
                f"{column.name!r} takes NULL",
                subject.steps(relation, "not null"),
            )
