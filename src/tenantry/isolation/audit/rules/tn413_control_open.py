"""A privilege of the application role on the tables of a control database."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.catalog.ways import problem
from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject

RULE = Rule(
    "TN413",
    "control-open",
    Severity.ERROR,
    "Any scope lists every tenant, suspends it, or sends its requests to another database.",
)


def check(subject: Subject) -> Iterator[Found]:
    """Privileges on the directory, the ledger and the journal, where they stand in the audited database."""
    for statement, way in subject.ways("directory").items():
        yield Found(f"{way.role} as {way.holder}", problem(way), (statement,))
