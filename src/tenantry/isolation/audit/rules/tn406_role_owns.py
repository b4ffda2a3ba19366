"""An application role that owns tenant tables."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject
from tenantry.isolation.policy import grant_sql
from tenantry.runtime.sqltext import identifier

RULE = Rule(
    "TN406",
    "role-owns",
    Severity.WARNING,
    (
        "FORCE holds an owner, but an owner can switch it off: SQL injected into the application can end"
        " the isolation."
    ),
)


def check(subject: Subject) -> Iterator[Found]:
    """Tenant tables owned by the role, or by one that it can become."""
    if subject.role is None or subject.bypasses(subject.role):
        return
    mine = subject.catalog.acts_as(subject.role)
    for relation, _ in subject.tenant_tables:
        if relation.owner in mine:
            yield Found(
                relation.key,
                f"the application can alter it as its owner {relation.owner}",
                (
                    f"ALTER TABLE {relation.sql} OWNER TO {identifier(subject.catalog.user)}",
                    grant_sql(relation.schema, relation.name, subject.role),
                ),
            )
