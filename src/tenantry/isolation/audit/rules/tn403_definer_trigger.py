"""A trigger on a tenant table that runs as an owner whom no policy holds."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject
from tenantry.isolation.audit.functions import altered, free

RULE = Rule(
    "TN403",
    "definer-trigger",
    Severity.ERROR,
    "What the trigger reads and writes is not kept apart by tenant, whoever fires it.",
)


def check(subject: Subject) -> Iterator[Found]:
    """Enabled triggers on tenant tables with a definer function of a bypassing owner."""
    for relation, _ in subject.tenant_tables:
        for trigger in subject.catalog.triggers.get(relation.oid, ()):
            function = subject.catalog.functions.get(trigger.function)
            if function is None or not trigger.enabled or not function.definer:
                continue
            acting = free(subject, function)
            if acting is not None:
                yield Found(
                    f"{relation.key}.{trigger.name}",
                    f"runs {acting.key} as {acting.owner}, whom no policy holds",
                    (f"{altered(acting)} SECURITY INVOKER",),
                )
