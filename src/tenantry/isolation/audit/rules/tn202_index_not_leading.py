"""A tenant table whose indexes hold the tenant column in a way that does not serve."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.catalog.values import Index
from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject
from tenantry.isolation.audit.fixes import tenant_index

RULE = Rule(
    "TN202",
    "index-not-leading",
    Severity.WARNING,
    (
        "A partial index serves only queries that repeat its condition, an invalid one serves nobody, "
        "and an index that is led by another column is read from end to end."
    ),
)


def check(subject: Subject) -> Iterator[Found]:
    """Tables with the tenant column in some index, but leading no whole and valid one."""
    named: set[int] = set()
    for relation, column in subject.tenant_tables:
        if not subject.leaf(relation) or subject.has_index(relation.oid, column):
            continue
        holding = [index for index in subject.catalog.indexes.get(relation.oid, ()) if column.number in index.keys]
        if holding:
            told = ", ".join(f"{index.name} {_why(index)}" for index in holding)
            top = subject.planned(relation)
            if top.oid not in named:
                named.add(top.oid)
                fix = tenant_index(relation, column, holding) if top == relation else subject.steps(top, "index")
                yield Found(top.key, f"no index serves the policy: {told}", fix)


def _why(index: Index) -> str:
    if not index.valid:
        return "is invalid"
    if index.predicate is not None:
        return "is partial"
    return "is not led by the tenant"
