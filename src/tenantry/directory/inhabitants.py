"""Who lives where, counted by what tenants ask of their homes, in the table `tenant` of the control database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

import asyncpg

from tenantry.directory.placements import Query
from tenantry.residence import Residence

_COUNT: Final = (
    "SELECT database, {terms}, count(*) AS tenants FROM tenantry.tenant WHERE state <> 'removed' "
    "GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
)
#: $1 databases, $2 regions, $3 tiers: the groups.
_GROUPS: Final = "unnest($1::text[], $2::text[], $3::text[]) AS g (database, region, tier)"
_OF_GROUP: Final = (
    "t.database = g.database AND t.region IS NOT DISTINCT FROM g.region AND t.tier IS NOT DISTINCT FROM g.tier"
)
_FIRST: Final = (
    f"SELECT g.database, g.region, g.tier, t.id FROM {_GROUPS} CROSS JOIN LATERAL ("  # noqa: S608  constants
    f"SELECT id FROM tenantry.tenant AS t WHERE {_OF_GROUP} AND t.state <> 'removed' ORDER BY id LIMIT $4) AS t"
)
_PAGE: Final = (
    "SELECT t.id, t.database, t.region, t.tier FROM tenantry.tenant AS t "  # noqa: S608  constants
    f"WHERE t.id > $4 AND t.state <> 'removed' AND EXISTS (SELECT FROM {_GROUPS} WHERE {_OF_GROUP}) "
    "ORDER BY t.id LIMIT $5"
)

#: A database, and what its tenants ask.
Group = tuple[str, Residence]


class Inhabitants(NamedTuple):
    """The tenants of a database that ask the same of their home; removed ones left out."""

    database: str
    residence: Residence
    tenants: int
    """How many."""


class InhabitantRows:
    """`Store.inhabitants`. Raises as the store's methods."""

    def __init__(self, fetch: Query) -> None:
        self._fetch = fetch

    async def count(self) -> list[Inhabitants]:
        """All tenants, by database, region and tier."""
        try:
            rows = await self._fetch(_COUNT.format(terms="region, tier"))
        except asyncpg.UndefinedColumnError:  # `tenantry init` has not upgraded it yet: nobody asks anything
            rows = await self._fetch(_COUNT.format(terms="NULL::text AS region, NULL::text AS tier"))
        return [Inhabitants(row[0], Residence(row[1], row[2]), row[3]) for row in rows]

    async def first(self, groups: Sequence[Group], limit: int) -> dict[Group, list[str]]:
        """Ids of `limit` tenants of each of these groups, in their order."""
        found: dict[Group, list[str]] = {}
        for database, region, tier, tenant in await self._fetch(_FIRST, *_arrays(groups), limit) if groups else ():
            found.setdefault((database, Residence(region, tier)), []).append(tenant)
        return found

    async def all_of(self, groups: Sequence[Group], *, page: int = 1000) -> AsyncIterator[tuple[str, Group]]:
        """Every tenant of these groups, in the order of the ids; `page` rows in memory."""
        after = ""
        while groups:
            rows = await self._fetch(_PAGE, *_arrays(groups), after, page)
            for tenant, database, region, tier in rows:
                yield tenant, (database, Residence(region, tier))
            if len(rows) < page:
                return
            after = rows[-1][0]


def _arrays(groups: Sequence[Group]) -> tuple[list[str | None], ...]:
    return (
        [database for database, _ in groups],
        [residence.region for _, residence in groups],
        [residence.tier for _, residence in groups],
    )
