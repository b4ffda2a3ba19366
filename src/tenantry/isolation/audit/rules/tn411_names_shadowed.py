"""A schema of the search_path in which the application role may create objects."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.catalog.ways import problem
from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject

RULE = Rule(
    "TN411",
    "names-shadowed",
    Severity.ERROR,
    "A function with the name of a better-known one runs in its place, for other tenants too.",
)


def check(subject: Subject) -> Iterator[Found]:
    """CREATE on or ownership of schemas where names are looked up, and of the database."""
    for statement, way in subject.ways("shadow", "database").items():
        yield Found(f"{way.role} {way.privilege} {way.object}", problem(way), (statement,))
