"""A SECURITY DEFINER function on tenant tables whose owner bypasses row-level security."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject
from tenantry.isolation.audit.functions import altered, definers, free, is_trigger

RULE = Rule(
    "TN401",
    "definer-function",
    Severity.ERROR,
    "Whoever may call it reads as its owner: every tenant.",
)


def check(subject: Subject) -> Iterator[Found]:
    """Callable definer functions that touch tenant tables as a bypassing owner, or call one that does."""
    for function in definers(subject):
        who = subject.reached("function", function.oid, function.owner, "EXECUTE")
        acting = free(subject, function) if who and not is_trigger(subject, function) else None
        if acting is None:
            continue
        if acting == function:
            how = "runs"
        elif subject.reached("function", acting.oid, acting.owner, "EXECUTE"):
            continue  # found by its own name
        else:
            how = f"calls {acting.key}, which runs"
        yield Found(
            function.key,
            f"{how} as {acting.owner}, whom no policy holds, for {', '.join(sorted(who))}",
            (f"{altered(acting)} SECURITY INVOKER",),
        )
