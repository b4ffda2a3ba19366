"""What kits keep of a tenant travels with it: limits and plan, audit entries, and which tables they watch."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from tenantry import kits, sql
from tenantry.move import gate
from tenantry.move.endpoint import Connection, Endpoint, session
from tenantry.move.errors import Finding
from tenantry.move.work import Way, Work

if TYPE_CHECKING:
    from tenantry.move.facts import Facts


#: Key of the journal's results: the limits that were brought last.
BROUGHT: Final = "kits_limits"


class Kits(NamedTuple):
    """The kits of one database."""

    installed: tuple[str, ...] = ()
    watched: frozenset[tuple[str, str]] = frozenset()
    """What kits watch: the kit and the statement that lets it watch a table."""


async def look(connection: Connection) -> Kits:
    """Read them."""
    there = await kits.installed(connection)
    watched: set[tuple[str, str]] = set()
    for kit in {kits.QUOTAS, kits.AUDIT}.intersection(there):
        rows = await connection.fetch(sql.query(f"move/kit_{kit}"))
        watched |= {(kit, row["statement"]) for row in rows}
    return Kits(there, frozenset(watched))


def kit_rules(facts: Facts) -> Iterator[Finding]:
    """A target that we fill gets the source's kits; one with tables must have them, watching the same tables."""
    if facts.load_schema:
        return
    for kit in facts.source_kits.installed:
        if kit not in facts.target_kits.installed:
            yield Finding(
                "kit-missing",
                f"{facts.source_name} has the kit {kit} and {facts.target_name} has not",
                f"run `tenantry init --with {kit}`, then what lets it watch the same tables",
            )
    for kit, statement in sorted(facts.source_kits.watched - facts.target_kits.watched):
        yield Finding(
            "kit-not-watching",
            f"the kit {kit} watches a table in {facts.source_name} that it does not watch in {facts.target_name}",
            f"run there: {statement}",
        )


async def install(work: Work) -> None:
    """Give a target that we fill the source's kits, before triggers come that call them."""
    if not work.plan.load_schema:
        return
    async with _ends(work, work.out) as (source, target):
        if wanted := await kits.installed(source):
            roles = await target.fetch(sql.query("move/application_roles"))
            await kits.install(target, wanted, application_role=[row["role"] for row in roles])


async def watch(work: Work) -> None:
    """Let the kits of a target that we fill watch the tables that they watch at the source."""
    if not work.plan.load_schema:
        return
    async with _ends(work, work.out) as (source, target):
        for _, statement in sorted((await look(source)).watched - (await look(target)).watched):
            await target.execute(statement)


async def bring(work: Work) -> dict[str, str]:
    """Let the kits watch at the target, and bring what they keep. Returns where the log has been read up to."""
    await watch(work)
    async with _ends(work, work.out) as (source, target):
        position = await kits.log_position(source)
        await kits.carry(source, target, work.plan.tenant)
    return {"kits_read_to": position}


async def bring_limits(work: Work, way: Way) -> None:
    """Bring the tenant's plan and exceptions once more, right before a flip: they may have been changed.

    What is brought is journalled, so that `settle_limits` can tell what was changed since, and where. After the
    flip, when a step is repeated, the new home's are the truth and nothing is brought.
    """
    tenant = work.plan.tenant
    async with _ends(work, way) as (here, there):
        if await gate.read(work, way, here) == gate.FLIPPED:
            return
        if limits := await kits.limits_of(here, tenant):
            await work.journal.found(work.plan.id, {BROUGHT: limits})
        await kits.carry_limits(here, there, tenant)


async def settle_limits(work: Work, way: Way) -> None:
    """After a flip: bring what was changed at the old home after `bring_limits`, for no fence holds that off.

    What was changed at the new home since then is later, and stays.
    """
    brought = (await work.journal.show(work.plan.id)).result.get(BROUGHT)
    tenant = work.plan.tenant
    async with _ends(work, way) as (here, there):
        if await kits.limits_of(there, tenant) == brought != await kits.limits_of(here, tenant):
            await kits.carry_limits(here, there, tenant)


async def bring_log(work: Work, way: Way, *, since: str | None = None) -> None:
    """Bring the audit entries that were written until a flip."""
    async with _ends(work, way) as (here, there):
        await kits.carry_log(here, there, work.plan.tenant, since=since)


async def forget(work: Work, place: Endpoint) -> None:
    """Take the tenant's plan away where it doesn't live."""
    async with session(place, f"kits {work.plan.id}") as connection:
        await kits.forget(connection, work.plan.tenant)


@contextlib.asynccontextmanager
async def _ends(work: Work, way: Way) -> AsyncIterator[tuple[Connection, Connection]]:
    purpose = f"kits {work.plan.id}"
    async with session(way.here, purpose) as here, session(way.there, purpose) as there:
        yield here, there
