"""What policy expressions read: the product's functions, settings and relations behind their names. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from tenantry.catalog.tenancy import Tenancy
from tenantry.catalog.values import Catalog, Column, Function
from tenantry.ids import IdType
from tenantry.isolation.expression import (
    Call,
    Case,
    Cast,
    Const,
    Name,
    Node,
    Op,
    Opaque,
    Select,
    parse_body,
    substituted,
    walk,
)

USER = "the role"
"""The source of what CURRENT_USER and its kin say."""

_USERS = frozenset({"CURRENT_USER", "SESSION_USER", "CURRENT_ROLE", "USER"})
_USERS_TEXT = re.compile(r"\b(current_user|session_user|current_role)\b", re.IGNORECASE)
_SETTING_TEXT = re.compile(r"current_setting\s*\(\s*'([^']+)'", re.IGNORECASE)
_FROM_TEXT = re.compile(r"\b(?:FROM|JOIN)\s+\(*\s*((?:\"[^\"]+\"|\w+)(?:\.(?:\"[^\"]+\"|\w+))?)")
_TYPE_WORDS = frozenset({"character", "double", "timestamp", "time", "bit", "national"})
_DEPTH = 5
EXACT_TYPES = frozenset({"uuid", "bigint", "integer", "smallint", "text", "character varying"})
"""Types to which an id can be cast without becoming another's, or equal to another's."""


class Source(NamedTuple):
    """What a value is, when it is not NULL."""

    name: str
    """The setting that it is the value of, or `USER`; empty for NULL itself."""
    sure: bool
    """True when it is not NULL as long as a tenant is bound."""


@dataclass(frozen=True)
class Semantics:
    """Reads expressions against one catalog."""

    catalog: Catalog
    tenancy: Tenancy

    tenants: Mapping[int, Column] = field(default_factory=dict)
    """The tenant tables' tenant columns."""

    @cached_property
    def _functions(self) -> dict[str, list[Function]]:
        found: dict[str, list[Function]] = {}
        for function in self.catalog.functions.values():
            found.setdefault(function.name, []).append(function)
            found.setdefault(f"{function.schema}.{function.name}", []).append(function)
        return found

    @cached_property
    def _columns(self) -> dict[int, frozenset[str]]:
        return {oid: frozenset(column.name for column in columns) for oid, columns in self.catalog.columns.items()}

    def function(self, call: Call) -> Function | None:
        """The product's function that a call means, or None for the system's."""
        found = self._functions.get(".".join(call.name), [])
        fitting = [function for function in found if function.inputs == len(call.args)]
        return next(iter(fitting or found), None)

    def tenant_column(self, relation: int) -> str | None:
        """The column that tells whose a row is; of relations that are no tenant tables, by its name."""
        column = self.tenants.get(relation) or self.catalog.column(relation, self.tenancy.column)
        return column.name if column is not None and column.deterministic else None

    def columns(self, node: Node, relation: int) -> frozenset[str]:
        """The columns of `relation` that an expression reads, sub-selects left out."""
        known = self._columns.get(relation, frozenset())
        return frozenset(part.path[-1] for part in walk(node) if isinstance(part, Name) and part.path[-1] in known)

    def sources(self, node: Node, depth: int = 0) -> frozenset[str]:
        """What of the session an expression reads: names of settings, and `USER`."""
        found: set[str] = set()
        for part in walk(node):
            if isinstance(part, Name) and part.path[-1].upper() in _USERS:
                found.add(USER)
            elif isinstance(part, Call):
                found |= self._called(part, depth)
            elif isinstance(part, Select | Opaque):
                found |= self.text_sources(part.text, depth)
        return frozenset(found)

    def _called(self, call: Call, depth: int) -> frozenset[str]:
        if call.name[-1] == "current_setting" and call.args and isinstance(call.args[0], Cast):
            name = call.args[0].arg
            return frozenset({str(name.value)} if isinstance(name, Const) else ())
        if call.name[-1] == "current_setting" and call.args and isinstance(call.args[0], Const):
            return frozenset({str(call.args[0].value)})
        if call.name[-1] == "pg_has_role":
            return frozenset({USER})
        function = self.function(call)
        return frozenset() if function is None else self.function_sources(function, depth)

    def function_sources(self, function: Function, depth: int = 0) -> frozenset[str]:
        """What of the session a function reads, through the functions that it calls too."""
        if function.schema == "tenantry":
            return frozenset({self.tenancy.setting})
        return self.text_sources(function.source, depth)

    def text_sources(self, text: str, depth: int = 0) -> frozenset[str]:
        """The same for text that can't be parsed."""
        found = set(_SETTING_TEXT.findall(text))
        if _USERS_TEXT.search(text):
            found.add(USER)
        if depth < _DEPTH:
            for word in set(re.findall(r"([\w.]+)\s*\(", text)):
                for function in self._functions.get(word, ()):
                    if function.source != text:
                        found |= self.function_sources(function, depth + 1)
        return frozenset(found)

    def tables_read(self, text: str) -> tuple[int, ...]:
        """The relations that a sub-select reads."""
        found = []
        for name in _FROM_TEXT.findall(text):
            plain = name.replace('"', "")
            relation = self.catalog.by_key.get(plain) or self.catalog.by_key.get(f"public.{plain}")
            if relation is not None:
                found.append(relation.oid)
        return tuple(found)

    def correlated(self, select: Select, relation: int) -> bool:
        """True when a sub-select refers to the row outside: it then runs for every row."""
        name = re.escape(self.catalog.relations[relation].name)
        return re.search(rf'(?<![\w.])"?{name}"?\.', select.text) is not None

    def inlined(self, call: Call) -> Node | None:
        """The body of a helper function with the call's arguments in it, when it is one expression that
        means the same there.
        """
        found = self._functions.get(".".join(call.name), [])
        fitting = [function for function in found if function.inputs == len(call.args)]
        if len(fitting) != 1 or fitting[0].language not in ("sql", "plpgsql"):
            return None
        (function,) = fitting
        reads = self.function_sources(function)
        # An IMMUTABLE one is computed when a statement is planned, and a kept plan keeps its answer.
        frozen = function.volatility == "i" and bool(reads)
        settles = any(not entry.startswith("search_path=") for entry in function.config)
        if frozen or settles or function.returns_set or (function.definer and USER in reads):
            return None
        body = parse_body(function.source)
        below = function.definer and any(isinstance(part, Select) and part.value is None for part in walk(body))
        if isinstance(body, Opaque) or below:  # a sub-select of a definer's is held by other policies
            return None
        if any(isinstance(part, Name) and len(part.path) > 1 for part in walk(body)):
            return None  # a part of a parameter, whatever it is called: no row of the policy's table
        values = {f"${number}": arg for number, arg in enumerate(call.args, 1)}
        values |= dict(zip(_parameters(function), call.args, strict=False))
        return substituted(body, values)

    def source(self, node: Node, depth: int = 0) -> Source | None:
        """What of the session a value is; None where it may be anything else."""
        match node:
            case Const(value=None):
                return Source("", False)
            case Name(path=(name,)) if name.upper() in _USERS:
                return Source(USER, True)
            case Select(value=value) if value is not None:
                return self.source(value, depth)
            case Cast(arg=arg, type=kind):
                return self._cast(self.source(arg, depth), kind)
            case Case(whens=whens, default=default):
                return _one_of([self.source(part, depth) for part in (*(then for _, then in whens), default)])
            case Op(name="->" | "->>" | "#>" | "#>>", args=(document, Const() | Cast())):
                found = self.source(document, depth)
                return found if found is not None and self._foreign(found) else None
            case Call():
                return self._call_source(node, depth)
        return None

    def _call_source(self, call: Call, depth: int) -> Source | None:
        if call.name in (("current_setting",), ("pg_catalog", "current_setting")):
            name = call.args[0].arg if isinstance(call.args[0], Cast) else call.args[0]
            if not isinstance(name, Const) or not isinstance(name.value, str):
                return None
            ours = name.value.lower() == self.tenancy.setting.lower()
            return Source(self.tenancy.setting if ours else name.value.lower(), ours)
        if call.name in (("tenantry", "current_tenant"), ("tenantry", "admitted_tenant")):
            return Source(self.tenancy.setting, True)
        word = call.name[0].lower() if len(call.name) == 1 else ""
        if word == "nullif" and len(call.args) == 2:
            found = self.source(call.args[0], depth)
            other = call.args[1].arg if isinstance(call.args[1], Cast) else call.args[1]
            return None if found is None else found._replace(sure=found.sure and other == Const(""))
        if word == "coalesce":
            return self._first_of(call.args, depth)
        if word in ("lower", "upper", "btrim") and self.tenancy.id_type is not IdType.TEXT:
            return self.source(call.args[0], depth)  # no two ids of the type differ in it alone
        body = self.inlined(call) if depth < _DEPTH else None
        return None if body is None else self.source(body, depth + 1)

    def _cast(self, found: Source | None, kind: str) -> Source | None:
        if found is None or kind in EXACT_TYPES:
            return found
        fits = (kind == "name" and found.name == USER) or (kind in ("json", "jsonb") and self._foreign(found))
        return found if fits else None

    def _first_of(self, args: tuple[Node, ...], depth: int) -> Source | None:
        """COALESCE: what stands behind a value that is never NULL does not matter."""
        parts: list[Source | None] = []
        for arg in args:
            parts.append(self.source(arg, depth))
            if parts[-1] is not None and parts[-1].sure:
                break
        found = _one_of(parts)
        return None if found is None else found._replace(sure=parts[-1] is not None and parts[-1].sure)

    def _foreign(self, found: Source) -> bool:
        return found.name not in ("", USER, self.tenancy.setting)


def _one_of(parts: list[Source | None]) -> Source | None:
    """One of several values; None where they come from several sources."""
    known = [part for part in parts if part is not None]
    names = {part.name for part in known if part.name}
    if len(known) != len(parts) or len(names) > 1:
        return None
    return Source(next(iter(names), ""), all(part.sure for part in known))


def _parameters(function: Function) -> list[str]:
    """The names of the parameters that have one, in their order; '' for others."""
    found = []
    for part in function.arguments.split(", ") if function.arguments else ():
        words = part.split(" ")
        named = len(words) > 1 and words[0] not in _TYPE_WORDS
        found.append(words[0].strip('"') if named else "")
    return found
