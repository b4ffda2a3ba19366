"""The policy that tenantry made is no longer what the template says."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject
from tenantry.isolation.policy_set import ACTIONS

RULE = Rule(
    "TN110",
    "policy-drift",
    Severity.WARNING,
    ("Somebody changed it by hand, or the tenancy was configured anew: what was tested is not what runs."),
)


def check(subject: Subject) -> Iterator[Found]:
    """Changed template policies, unless another rule says worse of them."""
    for relation, column in subject.guarded:
        own = subject.own_policy(relation.oid)
        if own is None or not subject.drifted(own, column):
            continue
        if subject.upgradable(own, column) and subject.guard_held(relation.oid) is None:
            continue  # TN116, whose fix brings both up to date
        worse = any(
            opening.policy.name == own.name
            for action in ACTIONS
            for opening in subject.policy_set.openings(relation.oid, action)
        )
        if not worse and subject.unbound(relation.oid) is None:
            yield Found(
                f"{relation.key}.{own.name}",
                "differs from the template",
                subject.steps(relation, "policy"),
            )
