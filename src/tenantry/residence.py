"""Where a tenant may live: the one rule, for sign-up, moves, imports, `balance` and `placements check`. Pure.

A tenant may name a region and a tier, and so may a database. Whoever names one lives only in databases that name
the same; whoever names none lives anywhere. A database that names none promises none. A shared database may have a
capacity, and a dedicated one holds one tenant.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from tenantry.errors import WrongHome

_WORD: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")


class Residence(NamedTuple):
    """The region and the tier that a tenant asks of its home, or that a database has."""

    region: str | None = None
    tier: str | None = None

    def __str__(self) -> str:
        """ "of region eu and tier gold"; empty where it names nothing."""
        named = [f"{rule} {word}" for rule, word in self._asdict().items() if word is not None]
        return f"of {' and '.join(named)}" if named else ""


class Site(NamedTuple):
    """What a database says of the tenants that it is for."""

    residence: Residence = Residence()
    capacity: int | None = None
    """Tenants that it may have; None: any number."""
    accepts: bool = True
    """Whether sign-ups that name no database may choose it."""

    def excess(self, tenants: int) -> int:
        """How many of so many tenants are too many."""
        return 0 if self.capacity is None else max(0, tenants - self.capacity)


class Mismatch(NamedTuple):
    """One way in which a database is not what a tenant asks for."""

    rule: str
    """"region" or "tier"."""
    wanted: str
    has: str | None

    def __str__(self) -> str:
        """In words."""
        return f"its {self.rule} is {self.has or 'not named'}, not {self.wanted}"


def mismatches(tenant: Residence, database: Residence) -> Iterator[Mismatch]:
    """Why the tenant may not live there; nothing: it may."""
    for rule, wanted, has in zip(Residence._fields, tenant, database, strict=True):
        if wanted is not None and wanted != has:
            yield Mismatch(rule, wanted, has)


def refuse_mismatch(tenant: str, residence: Residence, name: str, database: Residence) -> None:
    """See that a tenant may live in the database called `name`.

    Raises:
        WrongHome: it may not; says why.
    """
    if found := [*mismatches(residence, database)]:
        raise WrongHome(tenant, str(residence), name, [str(one) for one in found])


def check_word(word: str) -> str:
    """A region's or a tier's name, which has one spelling.

    Raises:
        ValueError: it can't be one.
    """
    if not _WORD.fullmatch(word):
        raise ValueError(f"{word[:80]!r} can't be one: write up to 63 small letters, digits, '.', '_' and '-'")
    return word
