"""A partition or child table that can be read past its parent's policy."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject

RULE = Rule(
    "TN301",
    "partition-open",
    Severity.ERROR,
    "A parent's policies hold for queries on the parent only.",
)


def check(subject: Subject) -> Iterator[Found]:
    """Partitions and children with grants and without a forced policy of their own."""
    tops = {relation.oid for relation, _ in subject.tops}
    for relation, _ in subject.tenant_tables:
        closed = relation.rls and relation.forced
        closed = closed and bool(subject.catalog.policies.get(relation.oid))
        who = subject.reached("relation", relation.oid, relation.owner, "SELECT", "INSERT", "UPDATE", "DELETE")
        if relation.oid not in tops and not closed and who:
            yield Found(
                relation.key,
                f"{', '.join(sorted(who))} can reach it past its parent's policy",
                subject.steps(relation, "policy"),
            )
