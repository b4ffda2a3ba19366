"""A policy that asks a table which the application role may write freely."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject, grantees
from tenantry.isolation.audit.per_row import asked

RULE = Rule(
    "TN113",
    "policy-trusts-writable",
    Severity.WARNING,
    "Whoever can insert a membership row lets itself in.",
)


def check(subject: Subject) -> Iterator[Found]:
    """Sub-selects on tables that are not isolated themselves and that the role may change."""
    for relation, _, policy in subject.policies():
        for oid in sorted(asked(subject, policy)):
            table = subject.catalog.relations[oid]
            who = subject.reached("relation", oid, table.owner, "INSERT", "UPDATE")
            if who and oid not in subject.policy_set.protected:
                yield Found(
                    f"{relation.key}.{policy.name}",
                    f"asks {table.key}, which {', '.join(sorted(who))} may write",
                    (f"REVOKE INSERT, UPDATE, DELETE ON {table.sql} FROM {grantees(who)}",),
                )
