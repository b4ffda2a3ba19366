"""A policy that fails where a request has no claims."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tenantry.catalog.values import Policy, Relation
from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject
from tenantry.runtime.sqltext import identifier

RULE = Rule(
    "TN118",
    "claims-unset",
    Severity.WARNING,
    (
        "A setting that was once set reads as an empty text ever after on the same connection, and an empty text "
        "is no JSON: without claims the policy fails, on some connections and not on others."
    ),
)

#: As PostgreSQL prints it, where nothing makes NULL of an empty text.
_READ = re.compile(r"(?<!NULLIF\()current_setting\('request\.jwt\.[^']*'::text, true\)", re.IGNORECASE)


def check(subject: Subject) -> Iterator[Found]:
    """Policies that read `request.jwt.claims` as JSON and raise an error where it is an empty text."""
    for relation, _, policy in subject.policies():
        if subject.fails_without_claims(policy):
            yield Found(
                f"{relation.key}.{policy.name}",
                "fails where a request has no claims, on connections that have had some",
                _forgiving(subject, relation, policy),
            )


def _forgiving(subject: Subject, relation: Relation, policy: Policy) -> tuple[str, ...]:
    """The policy with NULL in the place of an empty text; nothing where a function of the product's reads it."""
    using, check = (
        None if text is None else _READ.sub(lambda found: f"NULLIF({found[0]}, ''::text)", text)
        for text in (policy.using, policy.check)
    )
    if subject.fails_without_claims(policy._replace(using=using, check=check)):
        return ()
    clauses = [f"USING ({using})"] if using is not None else []
    clauses += [f"WITH CHECK ({check})"] if check is not None else []
    return (f"ALTER POLICY {identifier(policy.name)} ON {relation.sql} {' '.join(clauses)}",)
