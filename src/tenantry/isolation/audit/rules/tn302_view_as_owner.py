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
    """Views without security_invoker whose owner bypasses, or owns a table that is not forced."""
    for view in subject.views:
        if view.kind != "v" or invoker(view) or not _free(subject, view):
            continue
        if subject.reached("relation", view.oid, view.owner, "SELECT"):
            yield Found(
                view.key,
                f"runs as {view.owner}, whom the policies below it do not hold",
                (f"ALTER VIEW {view.sql} SET (security_invoker = true)",),
            )


def _free(subject: Subject, view: Relation) -> bool:
    if subject.bypasses(view.owner):
        return True
    read = (subject.catalog.relations.get(oid) for oid in subject.catalog.reads.get(view.oid, ()))
    return any(
        table is not None and table.is_table and table.owner == view.owner and not table.forced for table in read
    )
