"""A materialized view over tenant tables that the application role may read."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject, grantees

RULE = Rule(
    "TN303",
    "materialized-view",
    Severity.ERROR,
    "It holds the rows of all tenants and takes no policy.",
)


def check(subject: Subject) -> Iterator[Found]:
    """Granted materialized views."""
    for view in subject.views:
        who = subject.reached("relation", view.oid, view.owner, "SELECT")
        if view.kind == "m" and who:
            yield Found(
                view.key,
                f"{', '.join(sorted(who))} may read all tenants' rows in it",
                (f"REVOKE ALL ON {view.sql} FROM {grantees(who)}",),
            )
