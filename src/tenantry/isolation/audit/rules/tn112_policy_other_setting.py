"""A policy bound to another setting than the configured one."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject

RULE = Rule(
    "TN112",
    "policy-other-setting",
    Severity.ERROR,
    ("The router sets its own setting, so the table shows nothing, or whatever the other setting says."),
)


def check(subject: Subject) -> Iterator[Found]:
    """Permissive policies that read settings, and not ours."""
    for relation, column, policy in subject.policies():
        others = subject.foreign_settings(policy) if policy.permissive else frozenset()
        if others and not subject.reads_claims(policy):
            yield Found(
                f"{relation.key}.{policy.name}",
                f"reads {', '.join(sorted(others))}; the router sets {subject.tenancy.setting}",
                subject.rewritten(relation, column, policy),
            )
