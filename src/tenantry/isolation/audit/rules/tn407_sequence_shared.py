"""A sequence of a tenant table that the application role may read or set."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject, grantees

RULE = Rule(
    "TN407",
    "sequence-shared",
    Severity.NOTICE,
    (
        "Sequences are shared by all tenants: the last value tells how much the others write, and setval"
        " breaks their inserts."
    ),
)


def check(subject: Subject) -> Iterator[Found]:
    """SELECT or UPDATE on sequences of tenant tables; USAGE is what inserts need."""
    for sequence in subject.catalog.relations.values():
        if sequence.kind != "S" or sequence.owned_by not in subject.tables.tenants:
            continue
        who = subject.reached("relation", sequence.oid, sequence.owner, "SELECT", "UPDATE")
        if who - {sequence.owner}:
            names = grantees(who - {sequence.owner})
            yield Found(
                sequence.key,
                f"{names} may read or set what all tenants share",
                (
                    f"GRANT USAGE ON SEQUENCE {sequence.sql} TO {names}",
                    f"REVOKE SELECT, UPDATE ON SEQUENCE {sequence.sql} FROM {names}",
                ),
            )
