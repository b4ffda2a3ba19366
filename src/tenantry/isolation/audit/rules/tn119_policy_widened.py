"""A restrictive policy on a table that Citus distributes."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject
from tenantry.runtime.sqltext import identifier

RULE = Rule(
    "TN119",
    "policy-widened",
    Severity.ERROR,
    (
        "Citus makes it on the shards without the word RESTRICTIVE, so it is permissive there: what it was to "
        "keep out beyond the other policies, it lets in beside them."
    ),
)


def check(subject: Subject) -> Iterator[Found]:
    """Restrictive policies of distributed tables, of ours and of the product's own."""
    for relation, _, policy in subject.policies():
        if policy.widened:
            yield Found(
                f"{relation.key}.{policy.name}",
                "is restrictive, and on Citus's shards it is permissive",
                (f"DROP POLICY {identifier(policy.name)} ON {relation.sql}",),
            )
