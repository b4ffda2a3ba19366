"""What kits keep of a tenant travels with it: limits and plan, audit entries, and which tables they watch."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from tenantry import kits, sql
from tenantry.move.context import Direction, MoveContext
from tenantry.move.preflight.read_kits import read
from tenantry.move.results import MoveResult
from tenantry.move.session import Connection, Endpoint, session
from tenantry.move.steps import gate


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
        missing = (await read(source, tenant)).watched - (await read(target, tenant)).watched
        for _, statement in sorted(missing):
            await target.execute(statement)


async def copy_kits(context: MoveContext) -> str:
    """Let the kits watch at the target, and bring their log. Returns where it has been read up to.

    Limits come with `bring_limits`: what comes sooner may be old by the flip, and would be there after an abort.
    """
    await watch_tables(context)
    async with _ends(context, context.forward) as (source, target):
        position = await kits.log_position(source)
        await kits.carry_log(source, target, context.plan.tenant)
    return position


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
            await context.journal.record_result(context.plan.id, MoveResult(kits_limits=both))


async def apply_limits(context: MoveContext, direction: Direction) -> None:
    """After a flip: bring what was changed at the old home after `bring_limits`, for no fence holds that off.

    What was changed at the new home since then is later, and stays.
    """
    brought = (await context.journal.show(context.plan.id)).result.kits_limits or {}
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
