"""TRUNCATE, REFERENCES or TRIGGER granted on a tenant table."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject, grantees
from tenantry.isolation.plan.grants import UNHELD

RULE = Rule(
    "TN404",
    "granted-unheld",
    Severity.ERROR,
    (
        "TRUNCATE and REFERENCES ignore row-level security; TRIGGER runs code of one role with the "
        "rights of another."
    ),
)


def check(subject: Subject) -> Iterator[Found]:
    """Who has one of these; the owner counts only when the application is the owner."""
    for relation, _ in subject.tenant_tables:
        who = subject.reached("relation", relation.oid, relation.owner, *UNHELD)
        who |= subject.reached("column", relation.oid, relation.owner, "REFERENCES")
        if subject.role is not None and subject.bypasses(subject.role):
            continue  # TN405 says worse of it
        if who - {relation.owner}:
            who -= {relation.owner}
            yield Found(
                relation.key,
                f"{', '.join(sorted(who))} may do what no policy holds",
                (f"REVOKE {', '.join(UNHELD)} ON {relation.sql} FROM {grantees(who)}",),
            )
