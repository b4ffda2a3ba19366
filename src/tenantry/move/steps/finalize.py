"""After a flip: tell everybody, and turn the replication round. All of it goes forward only, and is idempotent."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from tenantry.directory import placements
from tenantry.move import failpoints, replication
from tenantry.move.context import Direction, MoveContext
from tenantry.move.session import Connection, session
from tenantry.move.teardown import take_down_direction
from tenantry.runtime.connection_errors import TRANSIENT

#: How long the old home of a tenant that was flipped is asked about it. Seconds.
_ASK_SECONDS: Final = 2.0


async def admit(context: MoveContext, direction: Direction, target: Connection, suspended: bool | None) -> None:
    """Let the new home admit the tenant now: its data are there, since the marker was.

    Args:
        suspended: what the old home says; None: unknown, so the new home's own mark stays.
    """
    await placements.admit(target, context.plan.tenant, direction.target.name, direction.epoch + 1, suspended)


async def is_suspended(context: MoveContext, source: Connection) -> bool | None:
    """Whether the tenant is suspended, as one side has it."""
    placed = await placements.read(source, context.plan.tenant)
    return None if placed is None else placed.suspended


async def admit_in_new_sessions(context: MoveContext, direction: Direction) -> None:
    """The same in sessions of its own, for a mover that comes later."""
    suspended = None
    # The old home knows whether the tenant is suspended; but it may be what has died, and the tenant waits.
    with contextlib.suppress(*TRANSIENT):
        async with asyncio.timeout(_ASK_SECONDS), session(direction.source, f"admit {context.plan.id}") as source:
            suspended = await is_suspended(context, source)
    async with session(direction.target, f"admit {context.plan.id}") as target:
        await admit(context, direction, target, suspended)


async def finalize(context: MoveContext, direction: Direction) -> None:
    """Tell the directory, and take this way's replication down.

    Routers with an old placement are corrected by the old home's refusal, which names the new one; so the
    directory may be late, and is told after the new home.
    """
    await admit_in_new_sessions(context, direction)
    await context.journal.place(context.plan.tenant, direction.target.name, direction.epoch + 1)
    failpoints.reach("directory.updated")
    await take_down_direction(context, direction)


async def start_reverse(context: MoveContext) -> None:
    """Start the way back, after the way out is down: both at once would send rows round in circles on 15."""
    async with session(context.source, f"way back {context.plan.id}") as source:
        await replication.enable(source, context.replication_name(context.reverse))
