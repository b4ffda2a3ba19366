"""An application role that row-level security does not hold."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.catalog.ways import problem
from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject

RULE = Rule(
    "TN405",
    "role-bypasses",
    Severity.ERROR,
    "No policy exists for such a role: every query sees every tenant.",
)


_WAYS = ("superuser", "bypassrls", "replication", "createrole", "files", "everything")


def check(subject: Subject) -> Iterator[Found]:
    """The role itself, and what it can become: attributes, and membership of predefined roles."""
    for statement, way in subject.ways(*_WAYS).items():
        if way.through is None:
            yield Found(f"{way.role} {statement.rpartition(' ')[2]}", problem(way), (statement,))
        else:
            yield Found(f"{way.role} in {way.through}", problem(way), (statement,))
