"""What kits keep of a tenant travels with it: limits and plan, audit entries, and which tables they watch."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from tenantry import kits, sql
from tenantry.ids import Kind
from tenantry.move.context import Way, Work
from tenantry.move.errors import Finding
from tenantry.move.session import Connection, Endpoint, session
from tenantry.move.steps import gate

if TYPE_CHECKING:
    from tenantry.move.preflight.facts import Facts


#: Key of the journal's results: the limits that were brought last, as both sides have them then.
BROUGHT: Final = "kits_limits"
_DEFAULT: Final = "default"


class Kits(NamedTuple):
    """The kits of one database."""

    installed: tuple[str, ...] = ()
    watched: frozenset[tuple[str, str]] = frozenset()
    """What kits watch: the kit and the statement that lets it watch a table."""
    limits: Mapping[tuple[str, str], int | None] = MappingProxyType({})
    """Rows that plans allow, by plan and resource; None: no limit."""
    plan: str = _DEFAULT
    """By whose limits the tenant that moves goes."""
    exceptions: frozenset[str] = frozenset()
    """Resources for which it has a limit of its own."""


async def look(connection: Connection, tenant: str) -> Kits:
    """Read them, and what they say of the `tenant` that moves."""
    there = await kits.installed(connection)
    watched: set[tuple[str, str]] = set()
    for kit in {kits.QUOTAS, kits.AUDIT}.intersection(there):
        rows = await connection.fetch(sql.query(f"move/kit_{kit}"))
        watched |= {(kit, row["statement"]) for row in rows}
    if kits.QUOTAS not in there:
        return Kits(there, frozenset(watched))
    rows = await connection.fetch("SELECT plan, resource, max_rows FROM tenantry.quota_limit")
    own = await kits.limits_of(connection, tenant)
    return Kits(
        there,
        frozenset(watched),
        {(row["plan"], row["resource"]): row["max_rows"] for row in rows},
        own["quota_plan"][0][1] if own["quota_plan"] else _DEFAULT,
        frozenset(resource for _, resource, _ in own["quota_exception"]),
    )


def kit_rules(facts: Facts) -> Iterator[Finding]:
    """A target that we fill gets the source's kits; one with tables must have them, watching the same tables."""
    if facts.load_schema:
        return
    source, target = facts.source_name, facts.target_name
    for kit in facts.source_kits.installed:
        if kit not in facts.target_kits.installed:
            yield Finding(
                "kit-missing",
                f"{source} has the kit {kit} and {target} has not",
                f"run `tenantry init --with {kit}`, then what lets it watch the same tables",
            )
    for kit, statement in sorted(facts.source_kits.watched - facts.target_kits.watched):
        yield Finding(
            "kit-not-watching",
            f"the kit {kit} watches a table in {source} that it does not watch in {target}",
            f"run there: {statement}",
        )
    yield from _other_limits(facts)


def _other_limits(facts: Facts) -> Iterator[Finding]:
    """A tenant that comes to a shared database finds there what its plan means to everybody."""
    ours, theirs = facts.source_kits, facts.target_kits
    if facts.target_kind is not Kind.SHARED or not {kits.QUOTAS} <= {*ours.installed} & {*theirs.installed}:
        return
    limits = theirs.limits
    if all(plan != ours.plan for plan, _ in limits):  # then the tenant brings them
        limits = {**limits, **{key: rows for key, rows in ours.limits.items() if key[0] == ours.plan != _DEFAULT}}
    here, there = _allowed(ours.limits, ours.plan), _allowed(limits, ours.plan)
    for resource in sorted((here.keys() | there.keys()) - ours.exceptions):
        if here.get(resource) != there.get(resource):
            yield Finding(
                "kit-limits-differ",
                f"the plan {ours.plan} allows {_said(here.get(resource))} {resource} in {facts.source_name}, and "
                f"{_said(there.get(resource))} in {facts.target_name}, where that then holds for the tenant",
                f"if it is to keep what it has, give it an exception in {facts.source_name}: it is taken along",
                refuses=False,
            )


def _allowed(limits: Mapping[tuple[str, str], int | None], plan: str) -> dict[str, int | None]:
    """What a plan allows, resource by resource: its own limits, else those of the plan "default"."""
    found = {resource: rows for (name, resource), rows in limits.items() if name == _DEFAULT}
    return found | {resource: rows for (name, resource), rows in limits.items() if name == plan}


def _said(rows: int | None) -> str:
    return "any number of" if rows is None else str(rows)


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
    tenant = work.plan.tenant
    async with _ends(work, work.out) as (source, target):
        missing = (await look(source, tenant)).watched - (await look(target, tenant)).watched
        for _, statement in sorted(missing):
            await target.execute(statement)


async def bring(work: Work) -> dict[str, str]:
    """Let the kits watch at the target, and bring their log. Returns where it has been read up to.

    Limits come with `bring_limits`: what comes sooner may be old by the flip, and would be there after an abort.
    """
    await watch(work)
    async with _ends(work, work.out) as (source, target):
        position = await kits.log_position(source)
        await kits.carry_log(source, target, work.plan.tenant)
    return {"kits_read_to": position}


async def bring_limits(work: Work, way: Way) -> None:
    """Bring the tenant's limits, right before a flip.

    What both sides say then is journalled, so that `settle_limits` can tell what was changed since, and where.
    After the flip, when a step is repeated, the new home's are the truth and nothing is brought.
    """
    tenant = work.plan.tenant
    async with _ends(work, way) as (here, there):
        if await gate.read(work, way, here) == gate.FLIPPED:
            return
        if limits := await kits.limits_of(here, tenant):
            await kits.carry_limits(here, there, tenant)
            both = {"here": limits, "there": await kits.limits_of(there, tenant)}
            await work.journal.found(work.plan.id, {BROUGHT: both})


async def settle_limits(work: Work, way: Way) -> None:
    """After a flip: bring what was changed at the old home after `bring_limits`, for no fence holds that off.

    What was changed at the new home since then is later, and stays.
    """
    brought = (await work.journal.show(work.plan.id)).result.get(BROUGHT) or {}
    tenant = work.plan.tenant
    async with _ends(work, way) as (here, there):
        untouched = await kits.limits_of(there, tenant) == brought.get("there")
        if untouched and await kits.limits_of(here, tenant) != brought.get("here"):
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
