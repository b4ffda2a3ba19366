"""What kits keep of a tenant travels with it: limits and plan, audit entries, and which tables they watch."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from tenantry import kits, sql
from tenantry.ids import Kind
from tenantry.move.context import Direction, MoveContext
from tenantry.move.errors import Finding
from tenantry.move.session import Connection, Endpoint, session
from tenantry.move.steps import gate

if TYPE_CHECKING:
    from tenantry.move.preflight.facts import Facts


#: Key of the journal's results: the limits that were brought last, as both sides have them then.
COPIED_LIMITS: Final = "kits_limits"
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
    target = await kits.installed(connection)
    watched: set[tuple[str, str]] = set()
    for kit in {kits.QUOTAS, kits.AUDIT}.intersection(target):
        rows = await connection.fetch(sql.query(f"move/kit_{kit}"))
        watched |= {(kit, row["statement"]) for row in rows}
    if kits.QUOTAS not in target:
        return Kits(target, frozenset(watched))
    rows = await connection.fetch("SELECT plan, resource, max_rows FROM tenantry.quota_limit")
    own = await kits.limits_of(connection, tenant)
    return Kits(
        target,
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
    source, target = _allowed(ours.limits, ours.plan), _allowed(limits, ours.plan)
    for resource in sorted((source.keys() | target.keys()) - ours.exceptions):
        if source.get(resource) != target.get(resource):
            yield Finding(
                "kit-limits-differ",
                f"the plan {ours.plan} allows {_said(source.get(resource))} {resource} in {facts.source_name}, "
                f"and {_said(target.get(resource))} in {facts.target_name}, where that then holds for the tenant",
                f"if it is to keep what it has, give it an exception in {facts.source_name}: it is taken along",
                refuses=False,
            )


def _allowed(limits: Mapping[tuple[str, str], int | None], plan: str) -> dict[str, int | None]:
    """What a plan allows, resource by resource: its own limits, else those of the plan "default"."""
    found = {resource: rows for (name, resource), rows in limits.items() if name == _DEFAULT}
    return found | {resource: rows for (name, resource), rows in limits.items() if name == plan}


def _said(rows: int | None) -> str:
    return "any number of" if rows is None else str(rows)


async def install(context: MoveContext) -> None:
    """Give a target that we fill the source's kits, before triggers come that call them."""
    if not context.plan.load_schema:
        return
    async with _ends(context, context.forward) as (source, target):
        if wanted := await kits.installed(source):
            roles = await target.fetch(sql.query("move/application_roles"))
            await kits.install(target, wanted, application_role=[row["role"] for row in roles])


async def watch_tables(context: MoveContext) -> None:
    """Let the kits of a target that we fill watch the tables that they watch at the source."""
    if not context.plan.load_schema:
        return
    tenant = context.plan.tenant
    async with _ends(context, context.forward) as (source, target):
        missing = (await look(source, tenant)).watched - (await look(target, tenant)).watched
        for _, statement in sorted(missing):
            await target.execute(statement)


async def copy_kits(context: MoveContext) -> dict[str, str]:
    """Let the kits watch at the target, and bring their log. Returns where it has been read up to.

    Limits come with `bring_limits`: what comes sooner may be old by the flip, and would be there after an abort.
    """
    await watch_tables(context)
    async with _ends(context, context.forward) as (source, target):
        position = await kits.log_position(source)
        await kits.carry_log(source, target, context.plan.tenant)
    return {"kits_read_to": position}


async def copy_limits(context: MoveContext, direction: Direction) -> None:
    """Bring the tenant's limits, right before a flip.

    What both sides say then is journalled, so that `settle_limits` can tell what was changed since, and where.
    After the flip, when a step is repeated, the new home's are the truth and nothing is brought.
    """
    tenant = context.plan.tenant
    async with _ends(context, direction) as (source, target):
        if await gate.read(context, direction, source) == gate.FLIPPED:
            return
        if limits := await kits.limits_of(source, tenant):
            await kits.carry_limits(source, target, tenant)
            both = {"here": limits, "there": await kits.limits_of(target, tenant)}
            await context.journal.record_result(context.plan.id, {COPIED_LIMITS: both})


async def apply_limits(context: MoveContext, direction: Direction) -> None:
    """After a flip: bring what was changed at the old home after `bring_limits`, for no fence holds that off.

    What was changed at the new home since then is later, and stays.
    """
    brought = (await context.journal.show(context.plan.id)).result.get(COPIED_LIMITS) or {}
    tenant = context.plan.tenant
    async with _ends(context, direction) as (source, target):
        untouched = await kits.limits_of(target, tenant) == brought.get("there")
        if untouched and await kits.limits_of(source, tenant) != brought.get("here"):
            await kits.carry_limits(source, target, tenant)


async def copy_log(context: MoveContext, direction: Direction, *, since: str | None = None) -> None:
    """Bring the audit entries that were written until a flip."""
    async with _ends(context, direction) as (source, target):
        await kits.carry_log(source, target, context.plan.tenant, since=since)


async def delete_plan(context: MoveContext, place: Endpoint) -> None:
    """Take the tenant's plan away where it doesn't live."""
    async with session(place, f"kits {context.plan.id}") as connection:
        await kits.forget(connection, context.plan.tenant)


@contextlib.asynccontextmanager
async def _ends(context: MoveContext, direction: Direction) -> AsyncIterator[tuple[Connection, Connection]]:
    purpose = f"kits {context.plan.id}"
    async with session(direction.source, purpose) as source, session(direction.target, purpose) as target:
        yield source, target
