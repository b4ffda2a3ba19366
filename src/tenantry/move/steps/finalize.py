"""After a flip: tell everybody, and turn the replication round. All of it goes forward only, and is idempotent."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from tenantry.directory import placements
from tenantry.move import failpoints, replication
from tenantry.move.context import Way, Work
from tenantry.move.session import Connection, session
from tenantry.move.teardown import take_down_way
from tenantry.runtime.connection_errors import TRANSIENT

#: How long the old home of a tenant that was flipped is asked about it. Seconds.
_ASK_SECONDS: Final = 2.0


async def admit(work: Work, way: Way, there: Connection, suspended: bool | None) -> None:
    """Let the new home admit the tenant now: its data are there, since the marker was.

    Args:
        suspended: what the old home says; None: unknown, so the new home's own mark stays.
    """
    await placements.admit(there, work.plan.tenant, way.there.name, way.epoch + 1, suspended)


async def standing(work: Work, here: Connection) -> bool | None:
    """Whether the tenant is suspended, as one side has it."""
    placed = await placements.read(here, work.plan.tenant)
    return None if placed is None else placed.suspended


async def admit_anew(work: Work, way: Way) -> None:
    """The same in sessions of its own, for a mover that comes later."""
    suspended = None
    # The old home knows whether the tenant is suspended; but it may be what has died, and the tenant waits.
    with contextlib.suppress(*TRANSIENT):
        async with asyncio.timeout(_ASK_SECONDS), session(way.here, f"admit {work.plan.id}") as here:
            suspended = await standing(work, here)
    async with session(way.there, f"admit {work.plan.id}") as there:
        await admit(work, way, there, suspended)


async def settle(work: Work, way: Way) -> None:
    """Tell the directory, and take this way's replication down.

    Routers with an old placement are corrected by the old home's refusal, which names the new one; so the
    directory may be late, and is told after the new home.
    """
    await admit_anew(work, way)
    await work.journal.place(work.plan.tenant, way.there.name, way.epoch + 1)
    failpoints.reach("K14")
    await take_down_way(work, way)


async def turn_round(work: Work) -> None:
    """Start the way back, after the way out is down: both at once would send rows round in circles on 15."""
    async with session(work.source, f"way back {work.plan.id}") as source:
        await replication.enable(source, work.name(work.back))
