"""Which tenants the shared databases should exchange: the ledger, the directory and the journal, judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from datetime import date
from typing import Final

from tenantry.config import ResolvedDatabase
from tenantry.ids import Kind
from tenantry.operations.context import Context
from tenantry.promotion.balance import Balance, BalanceRule, Hosted, Hosting, propose, window
from tenantry.residence import Residence, Site
from tenantry.usage import shares, upkeep
from tenantry.usage.shares import Shares

#: Tenants of each database that may be proposed: smaller ones would change nothing.
LARGEST: Final = 100
#: When a tenant last came or went by a move; a move that is under way counts as today's.
_MOVED: Final = """
SELECT name, max(on_day) AS day FROM (
    SELECT unnest(ARRAY[source, target]) AS name,
           CASE WHEN state IN ('released', 'rolled_back', 'aborted')
                THEN (flipped_at AT TIME ZONE 'UTC')::date ELSE $1::date END AS on_day
    FROM tenantry.move
) AS moves WHERE on_day IS NOT NULL GROUP BY name
"""
#: Where moves have taken these tenants from, for good.
_LEFT: Final = (
    "SELECT DISTINCT tenant, source FROM tenantry.move WHERE state = 'released' AND tenant = ANY($1::text[])"
)


async def balance(context: Context, rule: BalanceRule, clock: Callable[[], float] = time.time) -> Balance:
    """What is worth moving now. Touches nothing. See `promotion.balance.propose`.

    Raises:
        DatabaseUnavailable: the control database doesn't answer.
    """
    async with context.pool() as control:
        now = clock()
        await upkeep.close_days(control, now)
        today = upkeep.today(now)
        ledger = await shares.load(control, window(rule, today)[0], today, near=1.0, top=LARGEST)
        left: dict[str, list[str]] = {}
        for row in await control.fetch(_LEFT, list(ledger.homes)):
            left.setdefault(row["tenant"], []).append(row["source"])
        moved = {row["name"]: row["day"] for row in await control.fetch(_MOVED, today)}
    counts = await context.store.count_tenants()
    databases = await context.databases()
    rows = await context.store.tenants(list(ledger.homes))
    hosting = [
        _hosting(
            _site(databases, name),
            name,
            ledger,
            counts.get(name, 0),
            moved.get(name),
            rule,
        )
        for name, kind in sorted(ledger.kinds.items())
        if kind is Kind.SHARED
    ]
    if not all(one.size for one in hosting):  # not every database says how large it is: they count alike
        hosting = [one._replace(size=1.0) for one in hosting]
    hosted = [
        _hosted(
            ledger, tenant, left.get(tenant, ()), rows[tenant].residence if tenant in rows else Residence(), rule
        )
        for tenant, home in sorted(ledger.homes.items())
        if home.kind is Kind.SHARED
    ]
    return propose(rule, hosting, hosted, today)


def _site(databases: Mapping[str, ResolvedDatabase], name: str) -> Site:
    """Of one that is not known any more: nothing is said."""
    return databases[name].site if name in databases else Site()


def _hosting(
    site: Site,
    name: str,
    ledger: Shares,
    tenants: int,
    moved: date | None,
    rule: BalanceRule,
) -> Hosting:
    known = {
        day: of.total
        for day, of in ledger.database(name).days.items()
        if of.total is not None and of.coverage >= rule.coverage
    }
    return Hosting(
        name,
        known,
        size=float(site.capacity or 0),
        accepts=site.accepts,
        room=None if site.capacity is None else max(0, site.capacity - tenants),
        residence=site.residence,
        moved=moved,
    )


def _hosted(ledger: Shares, tenant: str, left: Collection[str], residence: Residence, rule: BalanceRule) -> Hosted:
    history = ledger.history(tenant)
    assert history.since is not None  # it lives somewhere
    known = {day: of.busy for day, of in history.days.items() if of.coverage >= rule.coverage}
    return Hosted(tenant, history.database, known, history.since, left, residence)
