"""A foreign key between tenant tables that does not compare the tenants."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject
from tenantry.isolation.plan.references import fix

RULE = Rule(
    "TN305",
    "foreign-key-crossing",
    Severity.WARNING,
    (
        "Foreign keys are checked without row-level security: a row can refer to another tenant's row, "
        "and the answer tells whether that row exists."
    ),
)


def check(subject: Subject) -> Iterator[Found]:
    """Foreign keys without the tenant column on both sides."""
    for relation, _ in subject.tenant_tables:
        for key in subject.crossing(relation.oid):
            target = subject.catalog.relations[key.target]
            yield Found(
                f"{relation.key}.{key.name}",
                f"refers to {target.key} without the tenant",
                tuple(statement for step in fix(subject, relation, key) for statement in step.statements),
            )
