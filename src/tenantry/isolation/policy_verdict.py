"""Whether a policy expression provably lets only the bound tenant's rows through. Pure.

The question is never whether a policy looks like ours, but what every row that passes must be. The proof knows a
small set of shapes: the tenant column equal to a value that is the bound tenant or NULL, alone or joined by AND,
OR, NOT, CASE and COALESCE, through helper functions and sub-selects that can be read. Whatever else an expression
is, it is not proven, however right it may be.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum

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
    Query,
    Select,
    parse,
    parse_query,
    walk,
)
from tenantry.isolation.policy_semantics import EXACT_TYPES, USER, Semantics, Source

_DEPTH = 5
_MARKS = tuple(map(Const, ",;|/"))
_ARRAYS = frozenset(f"{kind}[]" for kind in EXACT_TYPES)


class ExpressionVerdict(IntEnum):
    """How much an expression lets through; AND takes the highest, OR the lowest."""

    OPEN = 0
    """Rows that have nothing to do with what the session is bound to."""
    GATED = 1
    """Every row, once the session meets a condition: a staff flag, a role."""
    UNPROVEN = 2
    """It may be right, but no proof was found."""
    FOREIGN = 3
    """Only rows tied to another setting than ours."""
    TIED = 4
    """Only rows of the bound tenant, proven; for reading also rows of nobody."""


def verdict(
    semantics: Semantics, text: str | None, relation: int, protected: Iterable[int], *, writes: bool
) -> ExpressionVerdict:
    """What an expression on `relation` lets through.

    Args:
        protected: relations that isolate their readers by policies of their own, so that a
            sub-select on them sees the tenant's rows only.
        writes: True for rows to be changed: rows of nobody (NULL in the tenant column) then
            count as shared property.
    """
    if text is None:
        return ExpressionVerdict.TIED  # neither USING nor WITH CHECK: nothing gets through
    return _judge_of(semantics, relation, frozenset(protected), writes).judge(parse(text))


def hides_own(semantics: Semantics, text: str, relation: int) -> bool:
    """True when no row of the bound tenant passes, whatever else is in it; False where that is not certain."""
    return _judge_of(semantics, relation, frozenset(), False).never(parse(text))


def _judge_of(semantics: Semantics, relation: int, protected: frozenset[int], writes: bool) -> _Judge:
    known = semantics.catalog.relations.get(relation)
    names = frozenset(() if known is None else (known.name,))
    return _Judge(semantics, relation, protected, writes, semantics.tenant_column(relation), names)


@dataclass(frozen=True)
class _Judge:
    """The verdict on one relation's expressions."""

    semantics: Semantics
    relation: int
    protected: frozenset[int]
    writes: bool
    column: str | None
    """The tenant column."""
    names: frozenset[str]
    """What the relation is called in the expression."""
    depth: int = 0

    def judge(self, node: Node) -> ExpressionVerdict:
        match node:
            case Const(value=value):
                return ExpressionVerdict.OPEN if value is True else ExpressionVerdict.TIED
            case Op(name="AND", args=args):
                return max(self.judge(arg) for arg in args)
            case Op(name="OR", args=args):
                return min(self.judge(arg) for arg in args)
            case Op(name="NOT", args=(arg,)):
                return self._not(arg)
            case Op(name="IS TRUE", args=(arg,)) | Op(name="=", args=(arg, Const(value=True))):
                return self.judge(arg)
            case Cast(arg=arg, type="boolean"):
                return self.judge(arg)
            case Call(name=("coalesce" | "COALESCE",), args=args):
                return min(self.judge(arg) for arg in args)
            case Case(whens=whens, default=default):
                branches = [max(self.judge(when), self.judge(then)) for when, then in whens]
                return min(*branches, self.judge(default))
            case Select(value=value) if value is not None:
                return self.judge(value)
            case Op(name="EXISTS", args=(Select() as select,)):
                return self._exists(select)
            case Op(name="IS NULL", args=(arg,)):
                return self._is_null(node, arg)
            case Op(name="=" | "IS NOT DISTINCT FROM", args=(left, right)):
                return self._equal(node, left, right)
            case Op(name="= ANY" | "IN", args=(left, right)) if self._is_tenant(left):
                return self._one_of(node, left, right)
            case Call():
                return self._called(node)
        return self._other(node)

    def _not(self, node: Node) -> ExpressionVerdict:
        """NOT, driven inwards: it is not passed by NULL either."""
        match node:
            case Const(value=value):
                return self.judge(Const(not value if isinstance(value, bool) else None))
            case Op(name="NOT", args=(arg,)):
                return self.judge(arg)
            case Op(name="AND", args=args):
                return min(self._not(arg) for arg in args)
            case Op(name="OR", args=args):
                return max(self._not(arg) for arg in args)
            case Op(name=name, args=args) if name in _OPPOSITES:
                return self.judge(Op(_OPPOSITES[name], args))
        found = self._other(node)
        return (
            ExpressionVerdict.UNPROVEN
            if found is ExpressionVerdict.TIED or self.semantics.sources(node)
            else found
        )

    def _is_null(self, node: Node, arg: Node) -> ExpressionVerdict:
        if self._is_tenant(arg):
            return ExpressionVerdict.OPEN if self.writes else ExpressionVerdict.TIED
        if self._is_bound(arg):
            return ExpressionVerdict.TIED  # no bound session passes it; `unbound` looks at the others
        return self._other(node)

    def _equal(self, node: Op, left: Node, right: Node) -> ExpressionVerdict:
        rows = (left, right)
        if all(isinstance(part, Opaque) and part.text == "()" for part in rows):
            pairs = zip(left.args, right.args, strict=False)  # type: ignore[union-attr]  # both are Opaque
            return max(self._equal(Op(node.name, pair), *pair) for pair in pairs)
        for column, value in (rows, rows[::-1]):
            if not self._is_tenant(column):
                continue
            if isinstance(value, Select) and value.value is None:
                return self._selected(value)
            found = self.semantics.source(value)
            if found is not None:
                null = node.name != "=" and self.writes and not found.sure  # it then takes rows of nobody
                return ExpressionVerdict.UNPROVEN if null else self._tied_to(found)
        if self._is_bound(left) and _uncast(right) == Const(""):
            return ExpressionVerdict.TIED  # no bound session passes it
        return self._other(node)

    def _one_of(self, node: Node, left: Node, right: Node) -> ExpressionVerdict:
        match right:
            case Cast(arg=arg, type=kind) if kind in _ARRAYS:
                return self._one_of(node, left, arg)
            case Opaque(text="ARRAY" | "()", args=args) if args:
                found = [self.semantics.source(arg) for arg in args]
                return min(ExpressionVerdict.UNPROVEN if one is None else self._tied_to(one) for one in found)
            case Select(value=None):
                return self._selected(right)
            case Select(value=value) if value is not None:
                return self._one_of(node, left, value)
            case Call(name=("string_to_array",), args=(whole, mark)):
                mark = mark.arg if isinstance(mark, Cast) else mark
                source = self.semantics.source(whole)
                whole_ids = self.semantics.tenancy.id_type is not IdType.TEXT and mark in _MARKS
                if source is not None and whole_ids:
                    return self._tied_to(source)
        source = self.semantics.source(right)
        if isinstance(node, Op) and node.name == "IN" and source is not None:
            return self._tied_to(source)
        return self._other(node)

    def _tied_to(self, found: Source) -> ExpressionVerdict:
        ours = found.name in ("", USER, self.semantics.tenancy.setting)
        return ExpressionVerdict.TIED if ours else ExpressionVerdict.FOREIGN

    def _called(self, call: Call) -> ExpressionVerdict:
        body = self.semantics.inlined(call) if self.depth < _DEPTH else None
        return self._other(call) if body is None else replace(self, depth=self.depth + 1).judge(body)

    def _is_tenant(self, node: Node) -> bool:
        """True for the tenant column, cast at most to a type in which no two ids are equal."""
        if isinstance(node, Cast):
            return node.type in EXACT_TYPES and self._is_tenant(node.arg)
        if not isinstance(node, Name) or self.column is None or node.path[-1] != self.column:
            return False
        return len(node.path) == 1 or node.path[-2] in self.names

    # --- the tenant's own rows ------------------------------------------------------------------

    def never(self, node: Node) -> bool:
        """True when the expression is never true of a row of the bound tenant."""
        match node:
            case Const(value=value):
                return value is not True
            case Op(name="AND", args=args):
                return any(self.never(arg) for arg in args)
            case Op(name="OR", args=args) | Call(name=("coalesce" | "COALESCE",), args=args):
                return all(self.never(arg) for arg in args)
            case Cast(arg=arg) | Op(name="IS TRUE", args=(arg,)):
                return self.never(arg)
            case Select(value=value) if value is not None:
                return self.never(value)
            case Case(whens=whens, default=default):
                return all(self.never(when) or self.never(then) for when, then in whens) and self.never(default)
            case Op(name="NOT", args=(Op(name=name, args=args),)) if name in _OPPOSITES:
                return self.never(Op(_OPPOSITES[name], args))
            case Op(name="IS NULL", args=(arg,)):
                return self._is_tenant(arg) or self._is_bound(arg)
            case Op(name="=", args=(left, right)) if self._is_bound(left):
                return _uncast(right) == Const("")
            case Op(name="=" | "IS NOT DISTINCT FROM", args=(left, right)) if self._is_tenant(left):
                found = self.semantics.source(right)
                return found is not None and found.name in ("", USER)
            case Op(name="<>" | "IS DISTINCT FROM", args=(left, right)) if self._is_tenant(left):
                return self._is_bound(right)
            case Call():
                body = self.semantics.inlined(node) if self.depth < _DEPTH else None
                return body is not None and replace(self, depth=self.depth + 1).never(body)
        return False

    def _is_bound(self, node: Node) -> bool:
        found = self.semantics.source(node)
        return found is not None and found.sure and found.name == self.semantics.tenancy.setting

    # --- sub-selects ----------------------------------------------------------------------------

    def _selected(self, select: Select) -> ExpressionVerdict:
        """The tenant column is one of the values of a sub-select."""
        query = parse_query(select.text)
        column = query.shown.path[-1] if query is not None and isinstance(query.shown, Name) else None
        found = ExpressionVerdict.UNPROVEN if query is None or column is None else self._tied_below(query, column)
        return found if found > ExpressionVerdict.UNPROVEN else self._loosely(select)

    def _exists(self, select: Select) -> ExpressionVerdict:
        query = parse_query(select.text)
        correlated = self.semantics.correlated(select, self.relation)
        if query is not None and query.where is not None and correlated:
            parts = (
                query.where.args if isinstance(query.where, Op) and query.where.name == "AND" else (query.where,)
            )
            for part in parts:
                pair = part.args if isinstance(part, Op) and part.name == "=" else ()
                for outer, inner in (pair, pair[::-1]) if len(pair) == 2 else ():
                    qualified = isinstance(outer, Name) and len(outer.path) > 1 and query.alias not in outer.path
                    if qualified and self._is_tenant(outer) and isinstance(inner, Name):
                        found = self._tied_below(query, inner.path[-1])
                        if found > ExpressionVerdict.UNPROVEN:
                            return found
        if correlated:
            return self._loosely(select)
        return (
            ExpressionVerdict.GATED
            if self._loosely(select) is ExpressionVerdict.UNPROVEN
            else ExpressionVerdict.OPEN
        )

    def _tied_below(self, query: Query, column: str) -> ExpressionVerdict:
        """Whether every row of the sub-select has the bound tenant in `column`."""
        catalog = self.semantics.catalog
        relation = catalog.by_key.get(query.relation) or catalog.by_key.get(f"public.{query.relation}")
        if relation is None or catalog.column(relation.oid, column) is None:
            return ExpressionVerdict.UNPROVEN
        if relation.oid in self.protected and column == self.semantics.tenant_column(relation.oid):
            return ExpressionVerdict.TIED
        if query.where is None:
            return ExpressionVerdict.UNPROVEN
        names = frozenset({query.alias})
        inner = replace(self, relation=relation.oid, writes=False, column=column, names=names)
        return max(inner.judge(query.where), ExpressionVerdict.UNPROVEN)

    def _loosely(self, select: Select) -> ExpressionVerdict:
        """Through other tables, without a proof: open where nothing of the session is asked at all."""
        asks = self.semantics.text_sources(select.text)
        held = any(table in self.protected for table in self.semantics.tables_read(select.text))
        return (
            ExpressionVerdict.UNPROVEN
            if asks or held or parse_query(select.text) is None
            else ExpressionVerdict.OPEN
        )

    # --- whatever is no proof -------------------------------------------------------------------

    def _other(self, node: Node) -> ExpressionVerdict:
        columns = self.semantics.columns(node, self.relation)
        sources = self.semantics.sources(node)
        if not columns:
            return self._session(node, sources)
        differs = isinstance(node, Op) and node.name in ("<>", "IS DISTINCT FROM", "IS NOT NULL")
        if isinstance(node, Op) and differs and any(isinstance(_uncast(arg), Name) for arg in node.args):
            return ExpressionVerdict.OPEN
        parts = [*walk(node)]
        calls = (part for part in parts if isinstance(part, Call))
        ordered = isinstance(node, Op) and node.name in ("<", ">", "<=", ">=") and self.column in columns
        if sources or ordered or any(isinstance(part, Opaque | Select) for part in parts):
            return ExpressionVerdict.UNPROVEN
        return (
            ExpressionVerdict.UNPROVEN
            if any(self.semantics.function(call) for call in calls)
            else ExpressionVerdict.OPEN
        )

    def _session(self, node: Node, sources: frozenset[str]) -> ExpressionVerdict:
        """A condition on the session alone: a gate, unless every bound session passes it."""
        if isinstance(node, Opaque) and not node.args:
            return ExpressionVerdict.UNPROVEN
        if isinstance(node, Select):
            return (
                ExpressionVerdict.GATED
                if self._loosely(node) is ExpressionVerdict.UNPROVEN
                else ExpressionVerdict.OPEN
            )
        if all(isinstance(part, Const | Cast | Op) for part in walk(node)):
            same = isinstance(node, Op) and node.name == "=" and len({*map(_uncast, node.args)}) == 1
            return ExpressionVerdict.OPEN if same else ExpressionVerdict.UNPROVEN
        if isinstance(node, Call) and node.name[0] == "tenantry":
            return ExpressionVerdict.OPEN  # every bound session passes
        differs = isinstance(node, Op) and (
            node.name == "IS NOT NULL" or (node.name == "<>" and Const("") in map(_uncast, node.args))
        )
        bound = sources == {self.semantics.tenancy.setting}
        return ExpressionVerdict.OPEN if bound and differs else ExpressionVerdict.GATED


_PAIRS = (("=", "<>"), ("IS DISTINCT FROM", "IS NOT DISTINCT FROM"), ("IS NULL", "IS NOT NULL"))
_OPPOSITES = {**dict(_PAIRS), **{other: one for one, other in _PAIRS}}


def _uncast(node: Node) -> Node:
    while isinstance(node, Cast):
        node = node.arg
    return node
