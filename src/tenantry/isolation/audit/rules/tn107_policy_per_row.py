"""A policy that runs a sub-query or a function for every row."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject
from tenantry.isolation.audit.per_row import per_row, wrapped

RULE = Rule(
    "TN107",
    "policy-per-row",
    Severity.NOTICE,
    "It turns a scan of a table into as many calls: hundreds of thousands of rows then take seconds.",
)


def check(subject: Subject) -> Iterator[Found]:
    """Correlated sub-selects, and bare calls of functions that PostgreSQL can't inline."""
    for relation, column, policy in subject.policies():
        for text in dict.fromkeys((policy.using, policy.check)):
            if text is None:
                continue
            cost = per_row(subject, relation.oid, text)
            if cost is not None:
                yield Found(
                    f"{relation.key}.{policy.name}",
                    f"runs {cost} for every row",
                    wrapped(subject, relation, policy) or subject.rewritten(relation, column, policy),
                )
                break
