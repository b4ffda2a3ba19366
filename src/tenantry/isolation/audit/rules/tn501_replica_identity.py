"""A replica identity without the tenant column."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject
from tenantry.isolation.plan.identity import wanted

RULE = Rule(
    "TN501",
    "replica-identity",
    Severity.WARNING,
    ("The moment a move publishes the table filtered by tenant, UPDATE and DELETE fail for every tenant at once."),
)


def check(subject: Subject) -> Iterator[Found]:
    """Logged tables that hold rows and whose identity does not hold the tenant column."""
    for relation, column in subject.tenant_tables:
        if wanted(subject, relation, column):
            yield Found(
                relation.key,
                f"its replica identity does not hold {column.name!r}",
                subject.steps(relation, "not null", "index", "identity"),
            )
