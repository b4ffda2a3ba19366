"""The product's SECURITY DEFINER functions and what they touch."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tenantry.catalog.values import Function
from tenantry.isolation.audit.finding import Subject


def definers(subject: Subject) -> Iterator[Function]:
    """SECURITY DEFINER functions, ours left out."""
    for function in subject.catalog.functions.values():
        if function.definer and function.schema != "tenantry":
            yield function


def touches(subject: Subject, function: Function) -> bool:
    """True when the body names a tenant table or a view over one, or can't be told."""
    if function.language not in ("sql", "plpgsql"):
        return True
    if re.search(r"\bexecute\b", function.source, re.IGNORECASE):
        return True
    words = {word.lower() for word in re.findall(r'\w+|"[^"]+"', function.source)}
    names = {relation.name.lower() for relation, _ in subject.tenant_tables}
    names |= {view.name.lower() for view in subject.views}
    return any(name in words or f'"{name}"' in words for name in names)


def is_trigger(subject: Subject, function: Function) -> bool:
    """True for a trigger's function: nobody can call it, and TN403 looks at it."""
    return function.result in ("trigger", "event_trigger")
