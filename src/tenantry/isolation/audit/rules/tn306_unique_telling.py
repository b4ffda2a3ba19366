"""A unique key without the tenant column, over values that people choose."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject
from tenantry.isolation.audit.fixes import unique_per_tenant

RULE = Rule(
    "TN306",
    "unique-telling",
    Severity.NOTICE,
    ("The error tells a tenant that another one uses the value, and takes the value away from everybody else."),
)


def check(subject: Subject) -> Iterator[Found]:
    """Unique indexes over chosen values; generated ids and references to tenants' rows are fine."""
    for relation, column in subject.tenant_tables:
        for index in subject.leaking_unique(relation.oid):
            yield Found(
                f"{relation.key}.{index.name}",
                "is unique over all tenants together",
                unique_per_tenant(subject, relation, column, index),
            )
