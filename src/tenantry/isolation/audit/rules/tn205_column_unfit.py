"""A tenant column that can not be compared with tenant ids safely."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject
from tenantry.isolation.audit.fixes import retyped

RULE = Rule(
    "TN205",
    "column-unfit",
    Severity.ERROR,
    "Padding, case folding or a cast can make two tenants equal, or fail for some of them.",
)


def check(subject: Subject) -> Iterator[Found]:
    """Columns of a type or collation that does not tell all ids apart, or two columns for one."""
    for item in subject.tables.undecided:
        if item.topic == "column":
            relation = subject.catalog.by_key[item.object]
            yield Found(item.object, item.problem, retyped(subject, relation))
