"""A tenant table without the guard, or with one that this mode does not ask for."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject
from tenantry.isolation.plan.policies import guarding

RULE = Rule(
    "TN116",
    "guard-missing",
    Severity.ERROR,
    (
        "Whoever writes past the router goes on while the tenant is moved, into the home that it is leaving; and "
        "in hardened mode a policy that reads the setting believes whoever sets it."
    ),
)


def check(subject: Subject) -> Iterator[Found]:
    """Tables whose row-level security is on and whose `tenantry_guard` is missing or was changed. Whether it is
    enough beside the table's other policies is asked by the rules about these.
    """
    for relation, column in subject.guarded:
        if subject.observing(relation.oid) is not None or subject.guard_held(relation.oid) is not None:
            continue
        found = subject.guard(relation.oid)
        yield Found(
            relation.key,
            "has no guard" if found is None else "its guard is not one that this mode asks for",
            subject.steps(relation, "policy") or tuple(guarding(subject, relation, column)),
        )
