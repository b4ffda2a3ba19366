"""A view over tenant tables that runs as an owner whom no policy holds."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.catalog.values import Relation
from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject
from tenantry.isolation.plan.views import invoker

RULE = Rule(
    "TN302",
    "view-as-owner",
    Severity.ERROR,
    "The view reads with its owner's rights, so it shows every tenant's rows.",
)


def check(subject: Subject) -> Iterator[Found]:
    """Views without security_invoker whose owner, or that of a view below, bypasses or owns what is not forced."""
    for view in subject.views:
        if view.kind != "v" or not subject.reached("relation", view.oid, view.owner, "SELECT"):
            continue
        acting = _free(subject, view)
        if acting is not None:
            how = "runs" if acting == view else f"reads {acting.key}, which runs"
            yield Found(
                view.key,
                f"{how} as {acting.owner}, whom the policies below it do not hold",
                (f"ALTER VIEW {acting.sql} SET (security_invoker = true)",),
            )


def _free(subject: Subject, view: Relation) -> Relation | None:
    """The view, itself or one that it reads, that reads tables past their policies.

    A view below that is security_invoker reads as whoever reads it; below a view that runs as its owner, that is
    the owner.
    """
    if invoker(view):
        return None  # a view below is read with the caller's own rights, and found by its own name
    todo, seen = [(view, view)], set[tuple[int, int]]()
    while todo:
        read, acting = todo.pop(0)
        if (read.oid, acting.oid) in seen:
            continue
        seen.add((read.oid, acting.oid))
        for oid in subject.catalog.reads.get(read.oid, ()):
            below = subject.catalog.relations.get(oid)
            if below is not None and below.kind == "v":
                todo.append((below, acting if invoker(below) else below))
            elif below is not None and oid in subject.tables.tenants and _past(subject, acting, below):
                return acting
    return None


def _past(subject: Subject, acting: Relation, table: Relation) -> bool:
    return subject.bypasses(acting.owner) or (table.owner == acting.owner and not table.forced)
