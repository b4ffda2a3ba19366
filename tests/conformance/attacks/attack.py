"""An attack as a value: what SQL injected into tenant A's scope tries, and what it gets of tenant B's."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

READ = "SELECT tenant_id::text, name FROM students"
#: Stands in each name of B's rows: whoever sees it has read them.
SECRET_OF_B = "secret of B"
#: What a step answers, or fails with, when it has found out something of B's without reading it.
TOLD = "told: B has it"


class Gain(Enum):
    """What an attack may get. Its value is the word of the documentation's table."""

    READS = "reads what is B's"
    WRITES = "changes B's rows"
    TELLS = "learns that B has a value"
    DISTURBS = "fails or alters B's statements"


Gains = frozenset[Gain]
NOTHING: Gains = frozenset()


class Attack(NamedTuple):
    """One way to try.

    Steps run in A's scope, which then commits; one that PostgreSQL refuses is passed over, as an attacker goes on
    too. Then B does its usual work on the same server process, and A looks for `loot`.

    Words in steps: `{A}`, `{B}`: the tenants. `{proof}`: the mark that an accomplice has read in B's scope.
    `{type}`: the type of ids. Steps of one word: `{WORK}`: the product's own statements. `{MEANWHILE}`: B works
    now, on another connection. `{NEW SESSION}`: B works later, through a router that opens then.
    """

    name: str
    steps: tuple[str, ...]
    loot: tuple[str, ...] = ()
    """Run in a later scope of A's."""
    victim: tuple[str, ...] = ()
    """What B has run in a scope of its own before, on the same connection."""
    beside: tuple[str, ...] = ()
    """What B has run in a scope of its own that is still open, on another connection."""
    given: tuple[str, ...] = ()
    """What the superuser has set up."""
    undo: tuple[str, ...] = ()
    """What takes that back, if it would reach other attacks."""


class Kind(NamedTuple):
    """Attacks that get the same: a row of the threat model."""

    title: str
    attacks: tuple[Attack, ...]
    plain: Gains = NOTHING
    hardened: Gains = NOTHING
    lingers: bool = False
    """Whether it may reach the session's next scope: tried with B waiting in line too, and behind a pooler."""
    fresh: bool = False
    """Whether each attack wants a session that has run nothing before."""
    servers: tuple[int, ...] = (15, 16, 18)
    why: str = ""
    """What holds it, or what to do where nothing does; in the words of the documentation."""
    depends: bool = False
    """What plain mode gives away depends on the plan: at least nothing beyond `plain`."""
