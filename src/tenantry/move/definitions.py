"""What the tables that travel are, and whether both ends mean the same by it. Pure.

Compared are normal forms (`normal_form`): a definition that was dumped and loaded, or typed in another way, is the
same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from tenantry.move.normal_form import normal_form

#: Kinds that decide what rows fit and mean; the others decide what happens to them when they are written.
OF_ROWS: Final = frozenset(
    {"table", "column", "not null", "default", "constraint", "index", "type", "collation", "sequence"}
)
#: What others are made of comes first; of a table that is missing nothing else is told.
_ORDER: Final = (
    "table", "child", "collation", "type", "function", "sequence", "column", "default", "not null", "constraint",
    "index", "rule",
)  # fmt: skip
#: Made anew where they differ, without being taken away before.
_REPLACED: Final = frozenset({"function", "default", "sequence"})


class Definition(NamedTuple):
    """One thing that the tables are made of: a line of sql/move/definitions.sql."""

    kind: str
    name: str
    definition: str
    make: str = ""
    """The statement that makes it; "": there is none that keeps all rows."""
    drop: str = ""
    """The one that takes it away."""

    @property
    def normal(self) -> str:
        """What it means, in one form."""
        if self.kind == "function":  # its body is text: only its line ends are nobody's meaning
            return self.definition.replace("\r\n", "\n").strip()
        return normal_form(self.definition, storage=self.kind not in ("index", "constraint"))


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not the same at both ends."""

    kind: str
    name: str
    ours: Definition | None
    """At the source; None: it is missing there."""
    theirs: Definition | None

    def told(self, source: str, target: str) -> str:
        """Name it, for an operator."""
        what = f"{self.kind} {self.name}"
        if self.theirs is None:
            assert self.ours is not None
            return f"{target} lacks {what}: {self.ours.definition}"
        if self.ours is None:
            return f"only {target} has {what}: {self.theirs.definition}"
        return f"{what} is {self.ours.definition} in {source}, and {self.theirs.definition} in {target}"

    @property
    def fix(self) -> tuple[str, ...]:
        """Statements that make the target like the source; none where rows could be lost."""
        steps = []
        if self.theirs is not None and not (self.ours and self.kind in _REPLACED):
            steps.append(self.theirs.drop)
        if self.ours is not None:
            steps.append(self.ours.make)
        return tuple(steps) if all(steps) else ()


def differences(
    ours: Sequence[Definition], theirs: Sequence[Definition], *, kinds: frozenset[str] | None = None
) -> tuple[Difference, ...]:
    """What differs between source and target, in the order in which it can be mended. `kinds`: None, all.

    A function that only the target's tables need is told by what needs it.
    """
    here = {line[:2]: line for line in ours if kinds is None or line.kind in kinds}
    there = {line[:2]: line for line in theirs if kinds is None or line.kind in kinds}
    both = [line.name for line in (*ours, *theirs) if line.kind == "table"]
    lacking = {name for name in both if both.count(name) == 1}
    found = (one for one in _compared(here, there) if one.kind == "table" or not _is_of(one, lacking))
    return tuple(sorted(found, key=lambda one: (_ORDER.index(one.kind), one.name)))


def _is_of(difference: Difference, tables: Collection[str]) -> bool:
    """Whether it is a part of one of these tables."""
    line = difference.ours or difference.theirs
    assert line is not None
    return any(
        line.name.startswith(f"{table}.") or f" ON {table} " in line.make or f" ON ONLY {table} " in line.make
        for table in tables
    )


def _compared(
    here: dict[tuple[str, str], Definition], there: dict[tuple[str, str], Definition]
) -> Iterator[Difference]:
    for key in {*here, *there}:
        ours, theirs = here.get(key), there.get(key)
        if ours is None and key[0] == "function":
            continue
        if ours is None or theirs is None or ours.normal != theirs.normal:
            yield Difference(*key, ours, theirs)
