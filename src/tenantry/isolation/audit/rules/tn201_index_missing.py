"""A tenant table without any index that holds the tenant column."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject
from tenantry.isolation.audit.fixes import tenant_index

RULE = Rule(
    "TN201",
    "index-missing",
    Severity.WARNING,
    "Every query of every tenant scans the rows of all tenants.",
)


def check(subject: Subject) -> Iterator[Found]:
    """Tables that hold rows and have no index with the tenant column."""
    named: set[int] = set()
    for relation, column in subject.tenant_tables:
        indexes = subject.catalog.indexes.get(relation.oid, ())
        if subject.leaf(relation) and not any(column.number in index.keys for index in indexes):
            top = subject.planned(relation)
            if top.oid not in named:
                named.add(top.oid)
                fix = tenant_index(relation, column) if top == relation else subject.steps(top, "index")
                yield Found(top.key, f"no index holds {column.name!r}", fix)
