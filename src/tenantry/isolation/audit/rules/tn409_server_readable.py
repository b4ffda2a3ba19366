"""A privilege with which the application role reads the server itself."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.catalog.ways import problem
from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject

RULE = Rule(
    "TN409",
    "server-readable",
    Severity.ERROR,
    "Files, password hashes and the planner's statistics hold what the policies guard.",
)


def check(subject: Subject) -> Iterator[Found]:
    """Catalogs whose contents no policy guards, and functions that read or write files."""
    for statement, way in subject.ways("statistics", "function").items():
        yield Found(f"{way.role} {way.privilege} {way.object}", problem(way), (statement,))
