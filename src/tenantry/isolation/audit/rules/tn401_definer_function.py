"""A SECURITY DEFINER function on tenant tables whose owner bypasses row-level security."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject
from tenantry.isolation.audit.functions import definers, is_trigger, touches

RULE = Rule(
    "TN401",
    "definer-function",
    Severity.ERROR,
    "Whoever may call it reads as its owner: every tenant.",
)


def check(subject: Subject) -> Iterator[Found]:
    """Callable definer functions of bypassing owners that touch tenant tables."""
    for function in definers(subject):
        if subject.bypasses(function.owner) and touches(subject, function):
            who = subject.reached("function", function.oid, function.owner, "EXECUTE")
            if who and not is_trigger(subject, function):
                yield Found(
                    function.key,
                    f"runs as {function.owner}, whom no policy holds, for {', '.join(sorted(who))}",
                    (f"ALTER FUNCTION {function.sql} SECURITY INVOKER",),
                )
