"""A policy that depends on something that the audit can not read."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject
from tenantry.isolation.policy_semantics import Verdict

RULE = Rule(
    "TN109",
    "policy-unreadable",
    Severity.NOTICE,
    "It may be right; only a probe can tell.",
)


def check(subject: Subject) -> Iterator[Found]:
    """Permissive policies whose verdict is unknown and whom no other policy holds."""
    for relation, column, policy in subject.policies():
        if not policy.permissive:
            continue
        if subject.policy_set.verdict(policy, "select") is not Verdict.UNKNOWN:
            continue
        held = any(
            not other.permissive and subject.policy_set.verdict(other, "select") is Verdict.TIED
            for other in subject.policy_set.applicable(relation.oid, "select")
        )
        if not held:
            yield Found(
                f"{relation.key}.{policy.name}",
                "can't be read by the audit; run `tenantry rls probe`",
                subject.rewritten(relation, column, policy),
            )
