"""Decides which tenants shared databases should exchange. Pure: loads in, a proposal out.

A shared database is *over* when its load was above `peak` times its part of all shared databases' load, on each
day of the window. For each such database at most one move is proposed: to one that stays at or under its own
limit, and so that the fuller of the two ends up emptier than the source was. Among the moves that bring the source
under its limit it is the one after which the fuller of the two is emptiest; where none does, the one that relieves
it most.

What is not known moves nobody: a day counts only where it is known of every shared database, and of the tenant.
Who came a short while ago stays, and nobody is sent back. Databases that had a move, in or out, are left alone
until their new load has been seen for a window.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, NamedTuple

from tenantry.residence import Residence, mismatches

#: Loads are compared to this many decimals: the noise of adding floats moves nobody.
_DECIMALS: Final = 9


@dataclass(frozen=True)
class BalanceRule:
    """The rule's numbers."""

    peak: float = 1.2
    """A database's load over its fair part, above which it is over."""
    window: int = 7
    """Days."""
    coverage: float = 0.95
    """Least coverage of each day, 0 to 1."""
    floor: float = 600.0
    """Seconds of busy time a day, in the mean of the databases, below which nothing is worth a move."""
    stay: int = 28
    """Days that a tenant stays where it came."""

    def __post_init__(self) -> None:
        """Refuse numbers that can't mean anything, as ValueError."""
        if not self.peak > 1:
            raise ValueError(f"balance.peak must be above 1, not {self.peak}")
        if self.window < 1 or self.stay < 0 or self.floor < 1 or not 0 <= self.coverage <= 1:
            raise ValueError("balance: window is from 1 day, stay from 0, floor from 1 s, coverage from 0 to 1")


class Hosting(NamedTuple):
    """A shared database."""

    name: str
    days: Mapping[date, float]
    """Busy seconds of each day that is known well enough; the others are left out."""
    size: float = 1.0
    """How large it is, next to the others."""
    accepts: bool = True
    """Whether tenants may be brought here."""
    room: int | None = None
    """How many more tenants it may have; None: any number."""
    residence: Residence = Residence()
    """Its region and tier."""
    moved: date | None = None
    """The last day on which a tenant came or went by a move."""


class Hosted(NamedTuple):
    """A tenant of a shared database."""

    tenant: str
    database: str
    days: Mapping[date, float]
    """Busy seconds, likewise; days on which it did nothing are there with 0."""
    since: date
    """When it came."""
    left: Collection[str] = ()
    """Databases that moves have taken it away from: it is not sent back."""
    residence: Residence = Residence()
    """What it asks of its home."""


class Exchange(NamedTuple):
    """One move that is proposed."""

    tenant: str
    source: str
    target: str
    share: float
    """The tenant's part of the source's load, 0 to 1."""
    source_load: tuple[float, float]
    """Load of the source over its fair part, before and after."""
    target_load: tuple[float, float]
    """The same of the target."""


class Over(NamedTuple):
    """A database that is over and for which no move is proposed."""

    database: str
    load: float
    """Over its fair part."""
    why: str


class Balance(NamedTuple):
    """What to do about the shared databases."""

    loads: Mapping[str, float]
    """Mean load over the fair part, by database; empty where too little is known or done."""
    moves: Sequence[Exchange]
    over: Sequence[Over]
    unknown: Sequence[date]
    """Days of the window of which too little is known; while there are any, nothing is proposed."""


def window(rule: BalanceRule, today: date) -> list[date]:
    """The days that count: the last complete ones."""
    return [today - timedelta(days=number) for number in range(rule.window, 0, -1)]


def propose(rule: BalanceRule, databases: Sequence[Hosting], tenants: Sequence[Hosted], today: date) -> Balance:
    """The moves that are worth it now, the fullest database first.

    Args:
        today: UTC; not complete, so it does not count.
    """
    days = window(rule, today)
    unknown = [day for day in days if any(day not in one.days for one in databases)]
    if len(databases) < 2:
        return Balance({}, (), (), ())
    if unknown:
        return Balance({}, (), (), unknown)
    totals = {day: sum(one.days[day] for one in databases) for day in days}
    whole, size = _mean(totals.values()), sum(one.size for one in databases)
    if whole < rule.floor * len(databases):
        return Balance({}, (), (), ())
    parts = {one.name: one.size / size for one in databases}
    loads = _Loads(
        {one.name: _mean(one.days[day] for day in days) for one in databases},
        {name: whole * part for name, part in parts.items()},
    )
    ratios = {name: round(loads.ratio(name), _DECIMALS) for name in parts}
    weighed: dict[str, list[_Weighed]] = {name: [] for name in parts}
    for tenant in tenants:
        if all(day in tenant.days for day in days) and tenant.database in weighed:
            weighed[tenant.database].append((tenant, _mean(tenant.days[day] for day in days)))
    busy = {one.name for one in databases if one.moved is not None and one.moved >= days[0]}
    moves: list[Exchange] = []
    over: list[Over] = []
    for source in sorted(databases, key=lambda one: (-ratios[one.name], one.name)):
        name = source.name
        if any(round(source.days[day] - rule.peak * totals[day] * parts[name], _DECIMALS) <= 0 for day in days):
            continue
        if name in busy:
            over.append(Over(name, ratios[name], "its last move has not been seen for a window"))
            continue
        targets = [one for one in databases if one.accepts and one.room != 0 and one.name not in {name, *busy}]
        settled = [(one, weight) for one, weight in weighed[name] if (today - one.since).days >= rule.stay]
        best = _best(rule, name, targets, settled, loads)
        if best is None:
            over.append(Over(name, ratios[name], _why_not(rule, name, weighed[name], loads)))
            continue
        moves.append(best)
        busy |= {best.source, best.target}
    return Balance(ratios, tuple(moves), tuple(over), ())


#: A tenant and its mean load.
_Weighed = tuple[Hosted, float]


class _Loads(NamedTuple):
    mean: Mapping[str, float]
    """By database, in seconds a day, as `fair`."""
    fair: Mapping[str, float]

    def ratio(self, database: str, more: float = 0.0) -> float:
        """The load over the fair part, with so much more."""
        return (self.mean[database] + more) / self.fair[database]


def _best(
    rule: BalanceRule, source: str, targets: Sequence[Hosting], tenants: Sequence[_Weighed], loads: _Loads
) -> Exchange | None:
    """The best move out of this database; None: there is none that helps."""
    found: list[tuple[tuple[bool, float, float, str, str], Exchange]] = []
    before = loads.ratio(source)
    for one, weight in tenants:
        left = loads.ratio(source, -weight)
        for site in targets:
            target = site.name
            if target in one.left or any(mismatches(one.residence, site.residence)):
                continue
            full = loads.ratio(target, weight)
            if round(full - rule.peak, _DECIMALS) > 0 or round(max(left, full) - before, _DECIMALS) >= 0:
                continue
            enough = round(left - rule.peak, _DECIMALS) <= 0
            rank = (not enough, max(left, full) if enough else left, weight, one.tenant, target)
            share = weight / loads.mean[source]
            move = Exchange(one.tenant, source, target, share, (before, left), (loads.ratio(target), full))
            found.append((rank, move))
    return min(found, key=lambda pair: pair[0])[1] if found else None


def _why_not(rule: BalanceRule, source: str, tenants: Sequence[_Weighed], loads: _Loads) -> str:
    largest, weight = max(tenants, key=lambda pair: (pair[1], pair[0].tenant), default=(None, 0.0))
    if largest is not None and weight > rule.peak * min(loads.fair.values()):
        share = weight / loads.mean[source]
        return f"tenant {largest.tenant} alone is {share:.0%} of it: a database of its own, not another shared one"
    return "no other database has room for a tenant that would relieve it"


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)
