"""A preset of the setting that says who is bound."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.catalog.ways import problem
from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject

RULE = Rule(
    "TN412",
    "setting-preset",
    Severity.ERROR,
    "A connection without a tenant is meant to see nothing; with a preset it sees that tenant's rows.",
)


def check(subject: Subject) -> Iterator[Found]:
    """Presets of the tenant setting, or of tenantry's own, of the role and of the database."""
    for statement, way in subject.ways("preset").items():
        yield Found(f"{way.role} {way.privilege} {way.object}", problem(way), (statement,))
