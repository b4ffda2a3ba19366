"""Reads policy expressions as PostgreSQL prints them, into a small tree. Pure.

Only what policies are made of is understood: AND, OR, NOT, comparisons, casts, calls, CASE,
sub-selects. Whatever else stands there becomes an `Opaque` that keeps its text and parts, so that
the audit can say "I don't know" instead of guessing. PostgreSQL prints every expression fully
parenthesised, which is what makes so small a reader enough.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple


class Const(NamedTuple):
    """A literal; None is NULL."""

    value: str | bool | None


class Name(NamedTuple):
    """A column, or a keyword such as CURRENT_USER."""

    path: tuple[str, ...]


class Call(NamedTuple):
    """A function call; `start` and `end` are its place in the text."""

    name: tuple[str, ...]
    args: tuple[Node, ...]
    start: int
    end: int


class Op(NamedTuple):
    """AND, OR, NOT, an operator, IS NULL, IS NOT NULL, IN, ANY."""

    name: str
    args: tuple[Node, ...]


class Cast(NamedTuple):
    """`arg::type`."""

    arg: Node
    type: str


class Case(NamedTuple):
    """CASE without an operand: (condition, result) pairs and the ELSE."""

    whens: tuple[tuple[Node, Node], ...]
    default: Node


class Select(NamedTuple):
    """A sub-select; `value` is its expression when it reads no table, so that it runs once."""

    text: str
    value: Node | None


class Opaque(NamedTuple):
    """Something that this reader doesn't know; `args` are the parts that it could read."""

    text: str
    args: tuple[Node, ...] = ()


Node = Const | Name | Call | Op | Cast | Case | Select | Opaque

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<string>(?:E)?'(?:[^']|'')*')
    | (?P<quoted>"(?:[^"]|"")*")
    | (?P<number>\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)
    | (?P<parameter>\$\d+)
    | (?P<word>[A-Za-z_\u0080-\uffff][\w$]*)
    | (?P<cast>::)
    | (?P<mark>[(),.\[\];])
    | (?P<op>[-+*/<>=~!@\#%^&|`?:]+)
    )""",
    re.VERBOSE,
)
_PART = r'(?:"[^"]+"|[A-Za-z_]\w*)'
_COMPARISONS = frozenset({"=", "<>", "<", ">", "<=", ">="})
_SESSION_WORDS = frozenset({"CURRENT_USER", "SESSION_USER", "CURRENT_ROLE", "USER"})
_EXACT_COLLATIONS = frozenset({'"C"', '"POSIX"', '"default"', 'pg_catalog."C"', 'pg_catalog."default"'})
_LONG_TYPES = {
    "character": ("varying",),
    "double": ("precision",),
    "bit": ("varying",),
    "timestamp": ("with", "without", "time", "zone"),
    "time": ("with", "without", "time", "zone"),
}


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int


class _Unreadable(Exception):
    pass


@lru_cache(maxsize=4096)  # the rules ask for the same few expressions again and again
def parse(text: str) -> Node:
    """Read one expression; what can't be read at all comes back as one `Opaque`."""
    try:
        reader = _Reader(text)
        node = reader.disjunction()
        reader.expect_end()
    except (_Unreadable, RecursionError):
        return Opaque(text)
    return node


@lru_cache(maxsize=4096)
def tokens_of(text: str) -> tuple[str, ...]:
    """The words and marks of an expression, for comparing two spellings of it."""
    try:
        return tuple(_plain(token) if token.kind == "quoted" else token.text for token in _tokens(text))
    except _Unreadable:
        return (text,)


def parse_body(source: str) -> Node:
    """Read a helper function's body when it is one expression (SQL or PL/pgSQL), else `Opaque`."""
    body = re.sub(r"--[^\n]*|/\*.*?\*/", " ", source, flags=re.DOTALL).strip().rstrip(";").strip()
    patterns = (r"begin\s+(?:atomic\s+select|return)\s+(.*?);?\s*end", r"return\s+(.*)", r"select\s+(.*)")
    for pattern in patterns:
        match = re.fullmatch(pattern, body, re.DOTALL | re.IGNORECASE)
        if match and ";" not in match[1]:
            return parse(re.sub(rf"\s+as\s+{_PART}$", "", match[1].strip(), flags=re.IGNORECASE))
    return Opaque(source)


class Query(NamedTuple):
    """A sub-select on one relation."""

    shown: Node | None
    """What it selects; None for nothing."""
    relation: str
    """Its name as it stands there, without quotes."""
    alias: str
    where: Node | None


_QUERY = re.compile(
    rf"SELECT(?:\s+(?P<shown>.+?))??\s+FROM\s+(?P<relation>{_PART}(?:\.{_PART})?)"
    rf"(?:\s+(?!WHERE\b)(?P<alias>{_PART}))?(?:\s+WHERE\s+(?P<where>.*))?",
    re.DOTALL,
)


@lru_cache(maxsize=4096)
def parse_query(text: str) -> Query | None:
    """Read a sub-select on one relation without anything but a WHERE; None for any other."""
    match = _QUERY.fullmatch(text)
    if match is None:
        return None
    shown = None if match["shown"] is None else parse(re.sub(rf"\s+AS\s+{_PART}$", "", match["shown"]))
    relation = match["relation"].replace('"', "")
    alias = (match["alias"] or relation.rpartition(".")[2]).replace('"', "")
    return Query(shown, relation, alias, None if match["where"] is None else parse(match["where"]))


def substituted(node: Node, values: Mapping[str, Node]) -> Node:
    """The node with parameters in place of their names."""

    def each(nodes: Iterable[Node]) -> tuple[Node, ...]:
        return tuple(substituted(one, values) for one in nodes)

    match node:
        case Name(path=(name,)):
            return values.get(name, node)
        case Call() | Op() | Opaque():
            return node._replace(args=each(node.args))
        case Cast(arg=arg):
            return node._replace(arg=substituted(arg, values))
        case Select(value=value) if value is not None:
            return node._replace(value=substituted(value, values))
        case Case(whens=whens, default=default):
            pairs = tuple((substituted(when, values), substituted(then, values)) for when, then in whens)
            return Case(pairs, substituted(default, values))
    return node


def walk(node: Node) -> Iterator[Node]:
    """The node and everything beneath it; into sub-selects that read no table too."""
    yield node
    for part in _parts(node):
        yield from walk(part)


def bare(node: Node) -> Iterator[Node]:
    """As `walk`, but not into sub-selects: what is evaluated for every row."""
    if not isinstance(node, Select):
        yield node
        for part in _parts(node):
            yield from bare(part)


def _parts(node: Node) -> tuple[Node, ...]:
    match node:
        case Call(args=args) | Op(args=args) | Opaque(args=args):
            return args
        case Cast(arg=arg):
            return (arg,)
        case Select(value=value) if value is not None:
            return (value,)
        case Case(whens=whens, default=default):
            return (*(part for pair in whens for part in pair), default)
    return ()


class _Reader:
    """Recursive descent over the tokens."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(_tokens(text))
        self.at = 0

    @property
    def token(self) -> _Token:
        return self.tokens[self.at]

    def word(self, *words: str) -> bool:
        token = self.token
        if token.kind == "word" and token.text.upper() in words:
            self.at += 1
            return True
        return False

    def mark(self, text: str) -> bool:
        if self.token.kind in ("mark", "cast") and self.token.text == text:
            self.at += 1
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.mark(text):
            raise _Unreadable(self.token)

    def expect_end(self) -> None:
        if self.token.kind != "end":
            raise _Unreadable(self.token)

    def disjunction(self) -> Node:
        parts = [self.conjunction()]
        while self.word("OR"):
            parts.append(self.conjunction())
        return parts[0] if len(parts) == 1 else Op("OR", tuple(parts))

    def conjunction(self) -> Node:
        parts = [self.negation()]
        while self.word("AND"):
            parts.append(self.negation())
        return parts[0] if len(parts) == 1 else Op("AND", tuple(parts))

    def negation(self) -> Node:
        return Op("NOT", (self.negation(),)) if self.word("NOT") else self.comparison()

    def comparison(self) -> Node:
        left = self.operators()
        while True:
            if self.word("IS"):
                left = self.is_test(left)
            elif self.token.kind == "op" and self.token.text in _COMPARISONS:
                left = self.compared(left)
            elif self.word("IN"):
                left = Op("IN", (left, self.primary()))
            elif self.token.kind == "word" and self.token.text.upper() == "NOT":
                self.at += 1
                if not self.word("IN"):
                    raise _Unreadable(self.token)
                left = Op("NOT", (Op("IN", (left, self.primary())),))
            else:
                return left

    def compared(self, left: Node) -> Node:
        name = self.token.text
        self.at += 1
        if self.word("ANY", "SOME"):
            return Op(f"{name} ANY", (left, self.primary()))
        if self.word("ALL"):
            return Op(f"{name} ALL", (left, self.primary()))
        return Op(name, (left, self.operators()))

    def is_test(self, left: Node) -> Node:
        negated = self.word("NOT")
        if self.word("DISTINCT"):
            if not self.word("FROM"):
                raise _Unreadable(self.token)
            return Op("IS NOT DISTINCT FROM" if negated else "IS DISTINCT FROM", (left, self.operators()))
        if self.token.kind != "word":
            raise _Unreadable(self.token)
        what = self.token.text.upper()
        self.at += 1
        return Op(f"IS NOT {what}" if negated else f"IS {what}", (left,))

    def operators(self) -> Node:
        left = self.casted()
        while self.token.kind == "op" and self.token.text not in _COMPARISONS:
            name = self.token.text
            self.at += 1
            left = Op(name, (left, self.casted()))
        return left

    def casted(self) -> Node:
        node = self.primary()
        while True:
            if self.mark("::"):
                node = Cast(node, self.type_name())
            elif self.word("COLLATE"):
                collation = self.type_name()
                if collation not in _EXACT_COLLATIONS:  # it may call different ids equal
                    node = Opaque("COLLATE", (node,))
            elif self.mark("["):
                node = Opaque("[]", (node, self.disjunction()))
                self.expect("]")
            elif self.mark("."):
                self.at += 1
                node = Opaque(".", (node,))
            else:
                return node

    def type_name(self) -> str:
        start = self.token.start
        first = self.token.text.lower()
        self.at += 1
        for _ in range(4):
            if self.token.kind == "word" and self.token.text in _LONG_TYPES.get(first, ()):
                self.at += 1
        while self.mark("."):
            self.at += 1
        if self.mark("("):
            while not self.mark(")"):
                self.at += 1
        while self.mark("["):
            self.expect("]")
        return self.text[start : self.tokens[self.at - 1].end].strip()

    def primary(self) -> Node:
        token = self.token
        if token.kind == "string":
            self.at += 1
            return Const(token.text.removeprefix("E")[1:-1].replace("''", "'"))
        if token.kind == "number":
            self.at += 1
            return Const(token.text)
        if token.kind == "op" and token.text in ("-", "+"):
            self.at += 1
            return Opaque(token.text, (self.casted(),))
        if self.mark("("):
            return self.parenthesis()
        if token.kind == "parameter":
            self.at += 1
            return Name((token.text,))
        if token.kind in ("word", "quoted"):
            return self.named()
        raise _Unreadable(token)

    def parenthesis(self) -> Node:
        if self.token.kind == "word" and self.token.text.upper() in ("SELECT", "WITH"):
            return self.select()
        items = [self.disjunction()]
        while self.mark(","):
            items.append(self.disjunction())
        self.expect(")")
        return items[0] if len(items) == 1 else Opaque("()", tuple(items))

    def select(self) -> Select:
        start, depth = self.token.start, 1
        while depth:
            if self.token.kind == "end":
                raise _Unreadable(self.token)
            depth += (self.token.text == "(") - (self.token.text == ")")
            self.at += 1
        text = self.text[start : self.tokens[self.at - 1].start].strip()
        inner = re.fullmatch(r"SELECT\s+(.*?)(?:\s+AS\s+(?:\w+|\"[^\"]*\"))?", text, re.DOTALL)
        value = parse(inner[1]) if inner and not re.search(r"\bFROM\b", text) else None
        return Select(text, None if isinstance(value, Opaque) else value)

    def named(self) -> Node:
        start = self.token.start
        keyword = self.token.text.upper() if self.token.kind == "word" else ""
        self.at += 1
        match keyword:
            case "TRUE" | "FALSE":
                return Const(keyword == "TRUE")
            case "NULL":
                return Const(None)
            case "CASE":
                return self.case()
            case "EXISTS":
                return Op("EXISTS", (self.primary(),))
            case "ARRAY" | "ROW" if self.token.text in ("[", "("):
                return self.listed()
        path = [_plain(self.tokens[self.at - 1])]
        if not keyword and path[0].upper() in _SESSION_WORDS:
            path.insert(0, "")  # a column of that name, and not what the word alone means
        while self.mark("."):
            path.append(_plain(self.token))
            self.at += 1
        if not self.mark("("):
            return Name(tuple(path))
        args: list[Node] = []
        while not self.mark(")"):
            args.append(self.disjunction())
            if not self.mark(",") and self.token.text != ")":
                raise _Unreadable(self.token)
        return Call(tuple(path), tuple(args), start, self.tokens[self.at - 1].end)

    def listed(self) -> Node:
        if self.mark("("):
            return self.parenthesis()
        self.expect("[")
        items: list[Node] = []
        while not self.mark("]"):
            items.append(self.disjunction())
            self.mark(",")
        return Opaque("ARRAY", tuple(items))

    def case(self) -> Node:
        operand = None if self.token.text.upper() == "WHEN" else self.disjunction()
        whens: list[tuple[Node, Node]] = []
        while self.word("WHEN"):
            condition = self.disjunction()
            if not self.word("THEN"):
                raise _Unreadable(self.token)
            tested = condition if operand is None else Op("=", (operand, condition))
            whens.append((tested, self.disjunction()))
        default: Node = self.disjunction() if self.word("ELSE") else Const(None)
        if not self.word("END"):
            raise _Unreadable(self.token)
        return Case(tuple(whens), default)


def _plain(token: _Token) -> str:
    if token.kind == "quoted":
        return token.text[1:-1].replace('""', '"')
    if token.kind != "word":
        raise _Unreadable(token)
    return token.text


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise _Unreadable(text[at:])
        yield _Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup), match.end())
        at = match.end()
    yield _Token("end", "", len(text), len(text))
