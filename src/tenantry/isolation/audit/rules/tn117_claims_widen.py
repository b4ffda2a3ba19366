"""A policy by which a request's claims let rows of other tenants through."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject
from tenantry.isolation.audit.openings import widened_by_claims

RULE = Rule(
    "TN117",
    "claims-widen",
    Severity.ERROR,
    "A claim says who asks. Here it also says whose rows they see, whichever tenant is bound.",
)


def check(subject: Subject) -> Iterator[Found]:
    """Permissive policies that read `request.jwt.claims`, are not proven to keep to the bound tenant, and that no
    restrictive policy holds.
    """
    for relation, column, policy, actions in widened_by_claims(subject):
        yield Found(
            f"{relation.key}.{policy.name}",
            f"lets claims decide about rows of other tenants ({', '.join(actions)})",
            subject.held(relation, column, policy),
        )
