"""Views over tenant tables run as whoever asks, not as their owner."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.catalog.tables import Undecided
from tenantry.catalog.values import PUBLIC, Relation
from tenantry.isolation.facts import Facts
from tenantry.isolation.plan.step import PlanContext, PlanStep, choice
from tenantry.runtime.sqltext import identifier

_INVOKER_SINCE = 150000


def steps(context: PlanContext) -> Iterator[PlanStep | Undecided]:
    """`security_invoker` for views; materialized views are asked about."""
    facts = context.facts
    for view in facts.views:
        if view.kind == "m":
            if facts.role is not None and readable(facts, view):
                yield Undecided(
                    view.key,
                    "a materialized view holds every tenant's rows and takes no policy, and the "
                    "application role may read it",
                    (
                        choice("take it from who has it", [_revoke(facts, view)]),
                        "make it a table with the tenant column, filled by the operator's role",
                    ),
                    "view",
                )
        elif not invoker(view):
            yield _invoke(facts, view)


def invoker(view: Relation) -> bool:
    """True for a view that runs as whoever asks."""
    return any(
        option.lower() in ("security_invoker=true", "security_invoker=on", "security_invoker=1")
        for option in view.options
    )


def readable(facts: Facts, view: Relation) -> bool:
    """True when the application role may read a relation, in whole or by column."""
    assert facts.role is not None
    allowed = facts.catalog.allowed(facts.role, "relation", view.oid)
    columns = facts.catalog.allowed(facts.role, "column", view.oid)
    return "SELECT" in allowed | columns


def _revoke(facts: Facts, view: Relation) -> str:
    """From whoever holds the privilege: the role itself, a group of its, or everybody."""
    assert facts.role is not None
    who = {PUBLIC, *facts.catalog.acts_as(facts.role)} - {view.owner}
    held = {
        name
        for kind in ("relation", "column")
        for name, what in facts.catalog.privileges.get((kind, view.oid), {}).items()
        if what and name in who
    }
    names = ", ".join("PUBLIC" if name == PUBLIC else identifier(name) for name in sorted(held))
    return f"REVOKE ALL ON {view.sql} FROM {names}"


def _invoke(facts: Facts, view: Relation) -> PlanStep | Undecided:
    if facts.catalog.version < _INVOKER_SINCE:
        return Undecided(
            view.key,
            "this server has no security_invoker (PostgreSQL 15 and later have it)",
            ("give the view to an owner that row-level security holds", "upgrade the server"),
            "view",
        )
    unreachable = _unreachable(facts, view)
    if unreachable:
        return Undecided(
            view.key,
            f"as an invoker's view it would read {', '.join(r.key for r in unreachable)}, "
            "which the application role may not",
            (
                *(f"GRANT SELECT ON {r.sql} TO {identifier(facts.role or '')}" for r in unreachable),
                "take the view from the application role",
            ),
            "view",
        )
    return PlanStep(
        view.key,
        "view",
        (f"ALTER VIEW {view.sql} SET (security_invoker = true)",),
        "it reads as whoever asks, so the policies below it hold",
    )


def _unreachable(facts: Facts, view: Relation) -> list[Relation]:
    if facts.role is None or not readable(facts, view):
        return []
    found = []
    for oid in facts.catalog.reads.get(view.oid, ()):
        relation = facts.catalog.relations.get(oid)
        if relation is None or oid in facts.tables.tenants or readable(facts, relation):
            continue
        found.append(relation)
    return found
