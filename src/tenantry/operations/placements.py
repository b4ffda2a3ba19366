"""Who lives where region, tier or capacity say otherwise. The rule itself is `residence`'s.

However many tenants there are, they are counted in the control database: what crosses the wire is one row for each
database, region and tier, and the names of those who are found.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from tenantry.config import Config, ResolvedDatabase
from tenantry.directory.inhabitants import Group, Inhabitants
from tenantry.ids import Kind
from tenantry.operations.context import Context
from tenantry.residence import Mismatch, Residence, mismatches

#: Tenants that a finding names.
NAMED: Final = 5


class PlacementFinding(NamedTuple):
    """Tenants that are where they may not be; or a database that is not what is said of it."""

    database: str
    rule: str
    """"region" or "tier": these tenants may not live there. "capacity": it has too many. "accepts": sign-ups lead
    there, and it takes none."""
    wanted: str | None
    """The tenants' region or tier; None: the rule is about the database."""
    tenants: int
    """How many: of region and tier those that live there, of capacity those that are too many."""
    named: Sequence[str]
    """Ids of some of them; empty: none in particular."""
    problem: str
    fix: str


class MisplacedTenant(NamedTuple):
    """One tenant that may not live where it does."""

    tenant: str
    database: str
    region: str | None
    tier: str | None
    """What it asks of its home."""
    problem: str


class Placements:
    """`Operations.placements`.

    Raises (every method): DatabaseUnavailable for "control" when the control database doesn't answer.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    async def check(self) -> tuple[PlacementFinding, ...]:
        """Where tenants live who may not, which databases have too many, and where sign-ups lead though they may
        not. Touches nothing."""
        return await look(self._context)

    async def misplaced(self) -> AsyncIterator[MisplacedTenant]:
        """Every tenant that may not live where it does, in the order of the ids; a page of them in memory."""
        databases = await self._context.databases()
        wrong: dict[Group, str] = {
            (group.database, group.residence): "; ".join(map(str, found))
            for group in await self._context.store.inhabitants.count()
            if (found := [*mismatches(group.residence, _residence(databases, group.database))])
        }
        async for tenant, group in self._context.store.inhabitants.all_of(list(wrong)):
            database, residence = group
            yield MisplacedTenant(tenant, database, *residence, wrong[group])


async def look(context: Context) -> tuple[PlacementFinding, ...]:
    """See `Placements.check`."""
    databases = await context.databases()
    groups = await context.store.inhabitants.count()
    wrong = [one for one in groups if any(mismatches(one.residence, _residence(databases, one.database)))]
    named = await context.store.inhabitants.first([(one.database, one.residence) for one in wrong], NAMED)
    return tuple(sorted(judge(databases, groups, named, sign_up_home(context.config, databases))))


def sign_up_home(config: Config, databases: Mapping[str, ResolvedDatabase]) -> str | None:
    """The one database to which sign-ups lead that name none; None: there is a choice, or none. Pure."""
    said = config.tenancy.placement or config.tenancy.default_database
    if said is not None:
        return said if said in databases else None
    shared = [name for name, one in databases.items() if one.kind is Kind.SHARED]
    return shared[0] if len(shared) == 1 else None


def judge(
    databases: Mapping[str, ResolvedDatabase],
    groups: Iterable[Inhabitants],
    named: Mapping[Group, Sequence[str]],
    sign_up_home: str | None,
) -> Iterator[PlacementFinding]:
    """What is wrong. Pure.

    Args:
        groups: all tenants, counted by database and residence.
        named: ids of some of each group that is misplaced.
    """
    living: dict[str, int] = dict.fromkeys(databases, 0)
    wrong: dict[tuple[str, Mismatch], tuple[int, list[str]]] = {}
    for group in groups:
        living[group.database] = living.get(group.database, 0) + group.tenants
        for one in mismatches(group.residence, _residence(databases, group.database)):
            count, some = wrong.get((group.database, one), (0, []))
            some = [*some, *named.get((group.database, group.residence), ())]
            wrong[group.database, one] = count + group.tenants, some
    for (name, one), (count, some) in wrong.items():
        problem = f"{_tenants(count)} of {one.rule} {one.wanted} live in {name}: {one}"
        fix = f"`tenantry move` them to a database of {one.rule} {one.wanted}, or correct what {name} is"
        yield PlacementFinding(name, one.rule, one.wanted, count, tuple(sorted(some)[:NAMED]), problem, fix)
    for name, count in living.items():
        site = databases[name].site if name in databases else None
        if site is not None and (excess := site.excess(count)):
            fix = (
                "`tenantry move` them to other databases, or make it a shared one"
                if databases[name].kind is Kind.DEDICATED
                else "`tenantry move` some to other databases, or raise its capacity"
            )
            problem = f"{_tenants(count)} live in {name}, which may have {site.capacity}"
            yield PlacementFinding(name, "capacity", None, excess, (), problem, fix)
        if site is not None and name == sign_up_home and not site.accepts:
            problem = f"sign-ups that name no database lead to {name}, which says accepts: false"
            fix = "set tenancy.placement to least-loaded, or to another database"
            yield PlacementFinding(name, "accepts", None, 0, (), problem, fix)


def _residence(databases: Mapping[str, ResolvedDatabase], name: str) -> Residence:
    """Of one that is not known any more: none."""
    return databases[name].site.residence if name in databases else Residence()


def _tenants(count: int) -> str:
    return "1 tenant" if count == 1 else f"{count} tenants"
