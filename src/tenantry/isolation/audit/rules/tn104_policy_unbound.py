"""A table whose policies do not depend on the bound tenant."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject
from tenantry.isolation.audit.openings import opened

RULE = Rule(
    "TN104",
    "policy-unbound",
    Severity.ERROR,
    "Row-level security is on and looks right in every list, and lets every row through.",
)


def check(subject: Subject) -> Iterator[Found]:
    """Permissive policies that nothing ties to the session, on tables with no policy that is tied."""
    for relation, column, policy, actions in opened(subject, beside=False):
        yield Found(
            f"{relation.key}.{policy.name}",
            f"lets every tenant's rows through ({', '.join(actions)})",
            subject.rewritten(relation, column, policy),
        )
