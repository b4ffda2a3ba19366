"""What a policy evaluates for every row, and which tables it asks."""

from __future__ import annotations

from tenantry.catalog.values import Policy, Relation
from tenantry.isolation.audit.finding import Subject
from tenantry.isolation.expression import Call, Name, Select, bare, parse, walk
from tenantry.runtime.sqltext import identifier


def per_row(subject: Subject, relation: int, text: str) -> str | None:
    """What runs once for each row: a correlated sub-select, or a function that can't be inlined."""
    node = parse(text)
    for part in walk(node):
        if not isinstance(part, Select) or part.value is not None:
            continue
        if subject.policy_set.semantics.correlated(part, relation):
            return "a sub-query"
    calls = _costly(subject, text)
    return f"{'.'.join(calls[0].name)}()" if calls else None


def wrapped(subject: Subject, relation: Relation, policy: Policy) -> tuple[str, ...]:
    """The policy with its costly calls in sub-selects; empty where that can't be done."""
    clauses = []
    for word, text in (("USING", policy.using), ("WITH CHECK", policy.check)):
        if text is None:
            continue
        for call in reversed(_costly(subject, text)):
            if any(isinstance(part, Name) for arg in call.args for part in walk(arg)):
                return ()
            inner = text[call.start : call.end]
            text = f"{text[: call.start]}(SELECT {inner}){text[call.end :]}"
        if per_row(subject, relation.oid, text) is not None:
            return ()
        clauses.append(f"{word} ({text})")
    return (f"ALTER POLICY {identifier(policy.name)} ON {relation.sql} {' '.join(clauses)}",)


def asked(subject: Subject, policy: Policy) -> frozenset[int]:
    """The product's tables that a policy's sub-selects read, its own table left out."""
    found: set[int] = set()
    for text in (policy.using, policy.check):
        for part in walk(parse(text)) if text is not None else ():
            if isinstance(part, Select) and part.value is None:
                found.update(subject.policy_set.semantics.tables_read(part.text))
    return frozenset(found - {policy.relation})


def _costly(subject: Subject, text: str) -> list[Call]:
    """Bare calls of the product's functions that run as their owner or are VOLATILE, in their
    order.
    """
    found = []
    for part in bare(parse(text)):
        if isinstance(part, Call):
            function = subject.policy_set.semantics.function(part)
            if function is not None and (function.definer or function.volatility == "v"):
                found.append(part)
    return sorted(found, key=lambda call: call.start)
