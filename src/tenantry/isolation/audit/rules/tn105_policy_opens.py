"""A permissive policy beside the tenant policy that lets every row through."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject
from tenantry.isolation.audit.openings import opened
from tenantry.runtime.sqltext import identifier

RULE = Rule(
    "TN105",
    "policy-opens",
    Severity.ERROR,
    "Permissive policies are OR-ed: one that is always true undoes all the others.",
)


def check(subject: Subject) -> Iterator[Found]:
    """Permissive policies that nothing ties, beside one that is tied; restrictive companions count."""
    for relation, _, policy, actions in opened(subject, beside=True):
        yield Found(
            f"{relation.key}.{policy.name}",
            f"undoes the table's tenant policy ({', '.join(actions)})",
            (f"DROP POLICY {identifier(policy.name)} ON {relation.sql}",),
        )
