"""Large objects that the application role may read or write."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject
from tenantry.isolation.audit.fixes import taken

RULE = Rule(
    "TN408",
    "large-objects",
    Severity.WARNING,
    ("Large objects belong to no table and take no policy: whoever may read one reads it for every tenant."),
)


def check(subject: Subject) -> Iterator[Found]:
    """Large objects granted to the role or owned by it, or readable by everybody by compatibility."""
    if not subject.catalog.large_objects:
        return
    who = subject.reached("large object", 0, "", "SELECT", "UPDATE")
    if subject.catalog.lo_compat_privileges:
        yield Found(
            "lo_compat_privileges",
            f"everybody may read and write all {subject.catalog.large_objects} large objects",
            ("ALTER SYSTEM SET lo_compat_privileges = off", "SELECT pg_reload_conf()"),
        )
    elif who and not (subject.role is not None and subject.bypasses(subject.role)):
        names = ", ".join(sorted(who))
        yield Found("large objects", f"{names} may read or write some of them", taken(subject, who))
