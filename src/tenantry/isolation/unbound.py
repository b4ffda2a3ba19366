"""What a policy does when nobody is bound: the setting was never set, or reads as an empty string.
Pure.

A small evaluator with four kinds of answer: a known value, an error, "depends on the row", and
"some rows": an equality between a column and a known value.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from tenantry.isolation.expression import Call, Case, Cast, Const, Name, Node, Op, Select, parse
from tenantry.isolation.policy_semantics import Semantics

_DEPTH = 5
_STRICT_TYPES = ("uuid", "bigint", "integer", "smallint", "numeric", "json", "jsonb", "boolean")


class Unbound(Enum):
    """What an expression does without a bound tenant."""

    CLOSED = "lets nothing through"
    ERROR = "raises an error"
    ROWS = "lets some tenant's rows through"
    OPEN = "lets every row through"
    DEPENDS = "depends on the row"


class _Value(NamedTuple):
    value: str | bool | None


_NULL = _Value(None)
#: What ours answer while no tenant is set, in every form of the schema.
_OURS = {
    ("tenantry", "admitted"): _Value(False),
    ("tenantry", "admitted_tenant"): _NULL,
    ("tenantry", "current_tenant"): _NULL,
}
_Result = _Value | Unbound


def unbound(text: str | None, semantics: Semantics, relation: int, setting: str | None) -> Unbound:
    """What the expression does when the tenant setting reads as `setting` (None: never set)."""
    if text is None:
        return Unbound.CLOSED
    found = _Evaluator(semantics, relation, setting).run(parse(text), 0)
    if isinstance(found, _Value):
        return Unbound.OPEN if found.value is True else Unbound.CLOSED
    return found


def together(
    permissive: list[str | None],
    restrictive: list[str | None],
    semantics: Semantics,
    relation: int,
    setting: str | None,
) -> Unbound:
    """The same for a table's policies: one permissive must pass, and every restrictive."""
    evaluator = _Evaluator(semantics, relation, setting)

    def run(text: str | None) -> _Result:
        return _Value(False) if text is None else evaluator.run(parse(text), 0)

    found = _all([_any([run(text) for text in permissive]), *(run(text) for text in restrictive)])
    if isinstance(found, _Value):
        return Unbound.OPEN if found.value is True else Unbound.CLOSED
    return found


def fails_on_empty(text: str | None, semantics: Semantics, relation: int, prefix: str) -> bool:
    """True when the expression raises an error where a tenant is bound, and settings whose names begin so read as
    an empty text: they were once set on the connection, and are not now.
    """
    if text is None:
        return False
    return _Evaluator(semantics, relation, None, prefix).run(parse(text), 0) is Unbound.ERROR


class _Evaluator:
    def __init__(self, semantics: Semantics, relation: int, setting: str | None, empty: str | None = None) -> None:
        """Args:
        setting: what the tenant setting reads as; None: never set.
        empty: how the names of settings begin that read as an empty text; a tenant is bound then.
        """
        self.semantics = semantics
        self.relation = relation
        self.setting = setting
        self.empty = empty

    def run(self, node: Node, depth: int) -> _Result:
        match node:
            case Const(value=value):
                return _Value(value)
            case Cast(arg=arg, type=kind):
                return self._cast(self.run(arg, depth), kind)
            case Call():
                return self._call(node, depth)
            case Select(value=value) if value is not None:
                return self.run(value, depth)
            case Op(name="AND", args=args):
                return _all([self.run(arg, depth) for arg in args])
            case Op(name="OR", args=args):
                return _any([self.run(arg, depth) for arg in args])
            case Op(name="NOT", args=(arg,)):
                return _not(self.run(arg, depth))
            case Case():
                return self._case(node, depth)
            case Op():
                return self._operator(node, depth)
            case Name():
                return Unbound.DEPENDS
        return Unbound.DEPENDS

    def _cast(self, value: _Result, kind: str) -> _Result:
        if isinstance(value, _Value) and value.value == "" and kind.startswith(_STRICT_TYPES):
            return Unbound.ERROR
        return value

    def _call(self, call: Call, depth: int) -> _Result:
        args = [self.run(arg, depth) for arg in call.args]
        name = call.name[-1].lower()
        if call.name in _OURS:
            if self.empty is not None:
                return Unbound.DEPENDS
            return _OURS[call.name]
        if name == "current_setting":
            return self._setting(args)
        if name == "coalesce":
            return next((arg for arg in args if arg != _NULL), _NULL)
        if Unbound.ERROR in args:
            return Unbound.ERROR
        if name == "nullif" and all(isinstance(arg, _Value) for arg in args):
            return _NULL if args[0] == args[1] else args[0]
        if name in ("btrim", "lower", "upper") and args and isinstance(args[0], _Value):
            return args[0]
        body = self.semantics.inlined(call) if depth < _DEPTH else None
        if body is not None:
            return self.run(body, depth + 1)
        return Unbound.DEPENDS

    def _setting(self, args: list[_Result]) -> _Result:
        if self.empty is not None:
            name = args[0].value if args and isinstance(args[0], _Value) else None
            emptied = isinstance(name, str) and name.lower().startswith(self.empty)
            return _Value("") if emptied else Unbound.DEPENDS
        if not args or args[0] != _Value(self.semantics.tenancy.setting):
            # Another setting: taken as never set, which may raise but proves nothing else.
            forgiving = len(args) > 1 and args[1] == _Value(True)
            return _NULL if forgiving else Unbound.DEPENDS
        if self.setting is not None:
            return _Value(self.setting)
        return _NULL if len(args) > 1 and args[1] == _Value(True) else Unbound.ERROR

    def _case(self, node: Case, depth: int) -> _Result:
        for condition, result in node.whens:
            met = self.run(condition, depth)
            if isinstance(met, Unbound):
                return Unbound.ERROR if met is Unbound.ERROR else Unbound.DEPENDS
            if met.value is True:
                return self.run(result, depth)
        return self.run(node.default, depth)

    def _operator(self, node: Op, depth: int) -> _Result:
        args = [self.run(arg, depth) for arg in node.args]
        if Unbound.ERROR in args:
            return Unbound.ERROR
        if node.name in ("IS NULL", "IS NOT NULL") and isinstance(args[0], _Value):
            return _Value((args[0].value is None) == (node.name == "IS NULL"))
        if node.name in ("IS NULL", "IS NOT NULL") or node.name.startswith("IS "):
            return Unbound.DEPENDS
        if _NULL in args:
            return _NULL
        if node.name == "=" and len(args) == 2:
            return _equal(args[0], args[1], self.semantics.columns(node, self.relation))
        if node.name == "<>" and all(isinstance(arg, _Value) for arg in args):
            return _Value(args[0] != args[1])
        return Unbound.DEPENDS


def _equal(left: _Result, right: _Result, columns: frozenset[str]) -> _Result:
    if isinstance(left, _Value) and isinstance(right, _Value):
        return _Value(left == right)
    # The empty string is no tenant's id, so a text column that equals it holds nobody's row.
    known = left if isinstance(left, _Value) else right
    if isinstance(known, _Value) and columns:
        return Unbound.ROWS if known.value != "" else _Value(False)
    return Unbound.DEPENDS


def _all(parts: list[_Result]) -> _Result:
    """AND. An error counts unless a known FALSE may stand before it in evaluation."""
    known = [part.value for part in parts if isinstance(part, _Value)]
    if Unbound.ERROR in parts:
        return Unbound.ERROR
    if any(value is not True for value in known):
        return _Value(False)
    rest = [part for part in parts if isinstance(part, Unbound)]
    if not rest:
        return _Value(True)
    return Unbound.DEPENDS if Unbound.DEPENDS in rest else Unbound.ROWS


def _any(parts: list[_Result]) -> _Result:
    if any(part == _Value(True) for part in parts):
        return _Value(True)
    for state in (Unbound.ERROR, Unbound.ROWS, Unbound.DEPENDS):
        if state in parts:
            return state
    return _Value(False)


def _not(part: _Result) -> _Result:
    if isinstance(part, _Value):
        return part if part.value is None else _Value(not part.value)
    return part if part is Unbound.ERROR else Unbound.DEPENDS
