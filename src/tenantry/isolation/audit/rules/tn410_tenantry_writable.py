"""A privilege of the application role on what the policies lean on."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.catalog.ways import problem
from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject

RULE = Rule(
    "TN410",
    "tenantry-writable",
    Severity.ERROR,
    "Whoever writes placements decides who is let in, and whoever reads the secret makes proofs.",
)


def check(subject: Subject) -> Iterator[Found]:
    """Privileges on tenantry's tables, ownership of its objects, CREATE in its schema."""
    for statement, way in subject.ways("secret", "placement", "ours").items():
        yield Found(f"{way.role} {way.privilege} {way.object}", problem(way), (statement,))
