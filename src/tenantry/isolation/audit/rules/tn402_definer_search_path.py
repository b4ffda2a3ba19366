"""A SECURITY DEFINER function without a search_path of its own."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject
from tenantry.isolation.audit.functions import altered, definers, is_trigger
from tenantry.runtime.sqltext import identifier

RULE = Rule(
    "TN402",
    "definer-search-path",
    Severity.WARNING,
    (
        "Its names are looked up in the caller's path, so the caller can put its own tables and "
        "functions under them."
    ),
)


def check(subject: Subject) -> Iterator[Found]:
    """Definer functions that somebody else may call."""
    for function in definers(subject):
        fixed = any(entry.startswith("search_path=") for entry in function.config)
        who = subject.reached("function", function.oid, function.owner, "EXECUTE")
        if not fixed and (who or is_trigger(subject, function)):
            path = f"pg_catalog, {identifier(function.schema)}, pg_temp"
            yield Found(
                function.key,
                "looks its names up in its caller's search_path",
                (f"{altered(function)} SET search_path = {path}",),
            )
