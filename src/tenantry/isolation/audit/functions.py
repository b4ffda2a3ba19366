"""The product's SECURITY DEFINER functions, and what they reach through the functions that they call."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tenantry.catalog.values import Function
from tenantry.isolation.audit.finding import Subject

_NAME = r'(?:\w+|"(?:[^"]|"")+")'
_DYNAMIC = re.compile(
    r"\b(?:execute|(?:query|cursor|table|schema|database)_to_xml\w*|ts_stat|ts_rewrite|dblink\w*|crosstab\w*|connectby)\b",
    re.IGNORECASE,
)
"""SQL that is put together as text: PL/pgSQL's EXECUTE, and functions that run a text that they are given."""


def definers(subject: Subject) -> Iterator[Function]:
    """SECURITY DEFINER functions, ours left out."""
    for function in subject.catalog.functions.values():
        if function.definer and function.schema != "tenantry":
            yield function


def free(subject: Subject, function: Function) -> Function | None:
    """The definer function, itself or one that it calls, that works on tenant tables as a role past the policies.

    A function runs as its owner if it is SECURITY DEFINER, else as whoever runs its caller.
    """
    seen: set[tuple[int, str]] = set()
    todo = [(function, function)]
    while todo:
        called, acting = todo.pop(0)
        if (called.oid, acting.owner) in seen or called.schema == "tenantry":
            continue
        seen.add((called.oid, acting.owner))
        if subject.bypasses(acting.owner) and touches(subject, called):
            return acting
        todo += [(inner, inner if inner.definer else acting) for inner in _calls(subject, called)]
    return None


def touches(subject: Subject, function: Function) -> bool:
    """True when the body names a tenant table or a view over one, or can't be told."""
    if function.language not in ("sql", "plpgsql"):
        return True
    if _DYNAMIC.search(function.source):
        return True
    words = {_plain(word) for word in re.findall(_NAME, function.source)}
    names = {relation.name.lower() for relation, _ in subject.tenant_tables}
    names |= {view.name.lower() for view in subject.views}
    return not names.isdisjoint(words)


def altered(function: Function) -> str:
    """The beginning of a statement that alters it."""
    return f"ALTER {'PROCEDURE' if function.kind == 'p' else 'FUNCTION'} {function.sql}"


def is_trigger(subject: Subject, function: Function) -> bool:
    """True for a trigger's function: nobody can call it, and TN403 looks at it."""
    return function.result in ("trigger", "event_trigger")


def _calls(subject: Subject, function: Function) -> list[Function]:
    """The product's functions whose names stand before a parenthesis in the body; all that share a name."""
    names = {_plain(name) for name in re.findall(rf"({_NAME})\s*\(", function.source)}
    return [one for one in subject.catalog.functions.values() if one.name.lower() in names and one != function]


def _plain(name: str) -> str:
    """A name without its quotes, in lower case: names that differ in case alone are taken for one."""
    return name.removeprefix('"').removesuffix('"').replace('""', '"').lower()
