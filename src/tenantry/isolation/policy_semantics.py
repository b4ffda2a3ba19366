"""What a policy expression means for isolation. Pure: expressions and a catalog in, verdicts out.

The question is never whether a policy looks like ours, but whether every row that it lets through
is tied to something that the session is bound to. Where that can't be told the verdict says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

from tenantry.catalog.tenancy import Tenancy
from tenantry.catalog.values import Catalog, Function
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
    parse,
    parse_body,
    walk,
)

USER = "the role"
"""The source of what CURRENT_USER and its kin say."""

_USERS = frozenset({"CURRENT_USER", "SESSION_USER", "CURRENT_ROLE", "USER"})
_USERS_TEXT = re.compile(r"\b(current_user|session_user|current_role)\b", re.IGNORECASE)
_SETTING_TEXT = re.compile(r"current_setting\s*\(\s*'([^']+)'", re.IGNORECASE)
_FROM_TEXT = re.compile(r"\b(?:FROM|JOIN)\s+\(*\s*((?:\"[^\"]+\"|\w+)(?:\.(?:\"[^\"]+\"|\w+))?)")
_DEPTH = 5
_TIES = frozenset({"=", "IS NOT DISTINCT FROM", "= ANY", "IN"})
_LOOSE = frozenset({"<>", "<", ">", "<=", ">=", "IS DISTINCT FROM"})


class Verdict(IntEnum):
    """How much an expression lets through; AND takes the highest, OR the lowest."""

    OPEN = 0
    """Rows that have nothing to do with what the session is bound to."""
    GATED = 1
    """Every row, once the session meets a condition: a staff flag, a role."""
    UNKNOWN = 2
    """It depends on the row and on something that can't be read here."""
    TIED = 3
    """Only rows tied to what the session is bound to."""


@dataclass(frozen=True)
class Semantics:
    """Reads expressions against one catalog."""

    catalog: Catalog
    tenancy: Tenancy

    @cached_property
    def _functions(self) -> dict[str, Function]:
        found: dict[str, Function] = {}
        for function in self.catalog.functions.values():
            found.setdefault(function.name, function)
            found[f"{function.schema}.{function.name}"] = function
        return found

    @cached_property
    def _columns(self) -> dict[int, frozenset[str]]:
        return {oid: frozenset(column.name for column in columns) for oid, columns in self.catalog.columns.items()}

    def function(self, call: Call) -> Function | None:
        """The product's function that a call means, or None for the system's."""
        return self._functions.get(".".join(call.name))

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
                function = self._functions.get(word)
                if function is not None and function.source != text:
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

    def verdict(self, text: str | None, relation: int, protected: Iterable[int], *, writes: bool) -> Verdict:
        """What an expression on `relation` lets through.

        Args:
            protected: relations that isolate their readers by policies of their own, so that a
                sub-select on them sees the tenant's rows only.
            writes: True for rows to be changed: rows of nobody (NULL in the tenant column) then
                count as shared property.
        """
        if text is None:
            return Verdict.TIED  # neither USING nor WITH CHECK: nothing gets through
        return _Judge(self, relation, frozenset(protected), writes).judge(parse(text))

    def inlined(self, call: Call) -> Node | None:
        """The body of a helper function without arguments, when it is one expression."""
        function = self.function(call)
        if function is None or call.args or function.language not in ("sql", "plpgsql"):
            return None
        body = parse_body(function.source)
        return None if isinstance(body, Opaque) else body


@dataclass(frozen=True)
class _Judge:
    """The verdict on one table's expressions."""

    semantics: Semantics
    relation: int
    protected: frozenset[int]
    writes: bool

    def judge(self, node: Node) -> Verdict:
        match node:
            case Const(value=value):
                return Verdict.OPEN if value is True else Verdict.TIED
            case Op(name="AND", args=args):
                return max(self.judge(arg) for arg in args)
            case Op(name="OR", args=args):
                return min(self.judge(arg) for arg in args)
            case Call(name=("coalesce" | "COALESCE",), args=args):
                return min(self.judge(arg) for arg in args)
            case Cast(arg=arg):
                return self.judge(arg)
            case Case(whens=whens, default=default):
                branches = [max(self.judge(when), self.judge(then)) for when, then in whens]
                return min(*branches, self.judge(default))
            case Op(name="NOT", args=(Op(name="<>", args=args),)):
                return self.judge(Op("=", args))
            case Op(name="EXISTS", args=(Select() as select,)):
                return self._reached(select, tied=self.semantics.correlated(select, self.relation))
            case Op(name="IS NULL", args=(Name(path=path),)):
                shared = path[-1] in self.semantics.columns(node, self.relation)
                return Verdict.TIED if shared and not self.writes else Verdict.OPEN
        return self._condition(node)

    def _condition(self, node: Node) -> Verdict:
        columns = self.semantics.columns(node, self.relation)
        sources = self.semantics.sources(node)
        if not columns:
            return self._session(node, sources)
        if isinstance(node, Op) and node.name in _TIES:
            selects = [part for part in walk(node) if isinstance(part, Select)]
            for select in selects:
                if select.value is None:
                    return self._reached(select, tied=True)
        if isinstance(node, Op) and (node.name in _LOOSE or node.name.startswith("IS ")):
            return Verdict.TIED if node.name == "IS NOT DISTINCT FROM" and sources else Verdict.OPEN
        if sources:
            return Verdict.UNKNOWN if isinstance(node, Op) and node.name == "NOT" else Verdict.TIED
        calls = (part for part in walk(node) if isinstance(part, Call))
        if isinstance(node, Opaque) or any(self.semantics.function(call) for call in calls):
            return Verdict.UNKNOWN
        return Verdict.OPEN

    def _session(self, node: Node, sources: frozenset[str]) -> Verdict:
        """A condition on the session alone: a gate, unless every bound session passes it."""
        if isinstance(node, Opaque) and not node.args:
            return Verdict.UNKNOWN
        if isinstance(node, Select) and node.value is None:
            return self._reached(node, tied=False)
        constant = all(isinstance(part, Const | Cast | Op) for part in walk(node))
        if constant:
            return Verdict.OPEN
        if isinstance(node, Select) and node.value is not None:
            return self.judge(node.value)
        if isinstance(node, Call) and self.semantics.function(node) is not None:
            return Verdict.GATED
        equals = isinstance(node, Op) and node.name == "="
        bound = sources == {self.semantics.tenancy.setting}
        if bound and isinstance(node, Op) and (node.name == "IS NULL" or Const("") in node.args):
            return Verdict.TIED  # no bound session passes it; `unset` looks at the others
        return Verdict.OPEN if bound and not equals else Verdict.GATED

    def _reached(self, select: Select, *, tied: bool) -> Verdict:
        """Through other tables: tied when they, or a condition on them, are tied to the session."""
        if self.semantics.text_sources(select.text):
            return Verdict.TIED if tied else Verdict.GATED
        if any(table in self.protected for table in self.semantics.tables_read(select.text)):
            return Verdict.TIED if tied else Verdict.GATED
        return Verdict.OPEN
