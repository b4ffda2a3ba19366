"""Policies that fail or open when no tenant is bound."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject
from tenantry.isolation.policy_set import ACTIONS
from tenantry.isolation.unbound import Unbound

RULE = Rule(
    "TN106",
    "setting-unset",
    Severity.ERROR,
    (
        "An unset setting reads as NULL at first and as an empty string ever after on the same "
        "connection: a policy that fails on either breaks at random, and one that opens on it shows "
        "everybody everything."
    ),
)


def check(subject: Subject) -> Iterator[Found]:
    """What a table's policies do together on an unset and on an empty setting."""
    for relation, column in subject.guarded:
        found = subject.unbound(relation.oid)
        if found is None or subject.observing(relation.oid) is not None:
            continue
        worst, policy = found
        if worst is Unbound.OPEN and any(subject.policy_set.openings(relation.oid, action) for action in ACTIONS):
            continue  # it opens with a tenant bound, too: TN104, TN105 or TN108
        yield Found(
            f"{relation.key}.{policy.name}",
            f"without a bound tenant it {worst.value}",
            subject.rewritten(relation, column, policy),
        )
