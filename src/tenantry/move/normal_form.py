"""Definitions as PostgreSQL prints them, in one form: two that only look different come out alike. Pure.

What a catalog stores of an expression depends on how it was typed, and a dump that is loaded elsewhere is typed
anew: `(ARRAY['a'::varchar])::text[]` becomes `ARRAY[('a'::varchar)::text]`, and `(a AND b) AND c` becomes
`a AND b AND c` (PostgreSQL's parser: transformArrayExpr, makeAndExpr). A newer server quotes names that an older
one does not. Nothing else is touched: what means something else stays another text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_TOKEN: Final = re.compile(
    r"""\s+
    | (?P<token> [Ee]'(?:[^'\\]|''|\\.)*' | [BbXxNn]?'(?:[^']|'')*' | "(?:[^"]|"")*"
    | \d+(?:\.\d*)?(?:[eE][-+]?\d+)? | \.\d+ | [^\W\d][\w$]* | :: | [-+*/<>=~!@\#%^&|`?:]+ | . )""",
    re.VERBOSE | re.DOTALL,
)
_PLAIN: Final = re.compile(r'"([a-z_][a-z0-9_$]*)"')
_PAIRS: Final = {"(": ")", "[": "]"}
#: A type's name: one or more words, each maybe with a schema before it and a modifier behind it.
_LATER_WORDS: Final = frozenset({"varying", "precision", "with", "without", "time", "zone"})


class _Group(list["str | _Group"]):
    """What stands between two brackets."""

    def __init__(self, opened: str, items: Sequence[str | _Group] = ()) -> None:
        super().__init__(items)
        self.opened = opened

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Group) and self.opened == other.opened and list(self) == list(other)

    __hash__ = None  # it is changed while it is made


def normal_form(definition: str, *, storage: bool = True) -> str:
    """The definition in the form that all its spellings have in common.

    `storage` False: without `WITH (…)`, which says of indexes and keys how they are stored.
    """
    found = _normal(_tree(definition))
    if not storage and "WITH" in found:
        at = found.index("WITH")
        del found[at : at + 2]
    return _text(found)


def _tree(definition: str) -> _Group:
    open_groups = [_Group("")]
    for match in _TOKEN.finditer(definition):
        token = match["token"]
        if token is None:
            continue
        if token in _PAIRS:
            open_groups.append(_Group(token))
        elif token in _PAIRS.values() and len(open_groups) > 1:
            closed = open_groups.pop()
            open_groups[-1].append(closed)
        else:
            open_groups[-1].append(_PLAIN.sub(r"\1", token) if token.startswith('"') else token)
    while len(open_groups) > 1:  # not as PostgreSQL prints: left as it is
        closed = open_groups.pop()
        open_groups[-1].append(closed)
    return open_groups[0]


def _normal(group: _Group) -> _Group:
    items = _Group(group.opened, [_normal(item) if isinstance(item, _Group) else item for item in group])
    items = _casts(items)
    for word in ("AND", "OR"):
        items = _flat(items, word)
    if group.opened == "(" and len(items) == 1 and isinstance(items[0], _Group) and items[0].opened == "(":
        return items[0]
    return items


def _casts(items: _Group) -> _Group:
    """Casts of arrays as casts of their elements; a varchar constant's cast to text as a text constant."""
    out, at = _Group(items.opened), 0
    while at < len(items):
        item, after = items[at], at + 1
        if isinstance(item, _Group) and item.opened == "(" and after < len(items) and items[after] == "::":
            end = _type_end(items, after + 1)
            named = list(items[after + 1 : end])
            if named == ["text"] and _is_varchar_constant(item):
                out += [item[0], "::", "text"]
                at = end
                continue
            if _is_array(item) and _Group("[") in named:
                out += _elements_cast(item[1], named)
                at = end
                continue
        out.append(item)
        at += 1
    return out


def _is_varchar_constant(group: _Group) -> bool:
    return len(group) == 4 and group[1:] == ["::", "character", "varying"] and str(group[0]).endswith("'")


def _is_array(group: _Group) -> bool:
    return len(group) == 2 and group[0] == "ARRAY" and isinstance(group[1], _Group) and group[1].opened == "["


def _elements_cast(elements: str | _Group, named: list[str | _Group]) -> list[str | _Group]:
    assert isinstance(elements, _Group)
    element_type = named[: named.index(_Group("["))]
    out = _Group("[")
    for number, element in enumerate(_split(elements, ",")):
        if number:
            out.append(",")
        part = _Group("(", element)
        if _is_array(part):  # of a further dimension, which is no part of the type's name
            out += _elements_cast(part[1], named)
        else:
            out += _casts(_Group("", [part, "::", *element_type]))
    return ["ARRAY", out]


def _type_end(items: _Group, start: int) -> int:
    """Where the name of a type that begins at `start` ends."""
    at = start + 1
    while at < len(items):
        item, before = items[at], items[at - 1]
        if isinstance(item, _Group):
            modifier = item.opened == "(" and all(isinstance(part, str) for part in item)
            if not (modifier or (item.opened == "[" and not item)):
                break
        elif not (item in _LATER_WORDS or item == "." or before == "."):
            break
        at += 1
    return at


def _flat(items: _Group, word: str) -> _Group:
    """`(a AND b) AND c` as `a AND b AND c`."""
    operands = _split(items, word)
    other = "OR" if word == "AND" else "AND"
    if len(operands) < 2 or other in items:
        return items
    out = _Group(items.opened)
    for number, operand in enumerate(operands):
        if number:
            out.append(word)
        inner = operand[0] if len(operand) == 1 else None
        alike = isinstance(inner, _Group) and inner.opened == "(" and word in inner and other not in inner
        out += inner if alike and isinstance(inner, _Group) else operand
    return out


def _split(items: _Group, separator: str) -> list[list[str | _Group]]:
    parts: list[list[str | _Group]] = [[]]
    for item in items:
        if item == separator:
            parts.append([])
        else:
            parts[-1].append(item)
    return parts if items else []


def _text(group: _Group) -> str:
    inside = " ".join(_text(item) if isinstance(item, _Group) else item for item in group)
    return f"{group.opened}{inside}{_PAIRS.get(group.opened, '')}"
