"""G16's cap, by the server's clock: a fence whose mover stands still is ended by the server itself within the cap.

No client's stopwatch takes part: a busy machine would be mistaken for a long fence. When a fence began and ended
is read from the server's log, and other sessions' timers, which ran at the same time, say how late timers are.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

import asyncpg
import pytest

from tenantry.move import Limits, State
from tenantry.move.context import MoveContext
from tenantry.move.journal import Journal
from tenantry.move.progress import silence
from tenantry.move.session import session
from tenantry.move.steps import fence as fencing
from tenantry.move.steps import fence_timeout
from tests.support.estate import LIMITS, Estate
from tests.support.process import MoverProcess
from tests.support.until import until

POINTS = [
    "fence.locked",
    "fence.marker_written",
    "fence.marker_seen",
    "fence.marker_flushed",
    "fence.sequences_set",
    "fence.reverse_opened",
    "fence.placement_updated",
]
HELD = (
    "SELECT l.pid FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database "
    "WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.mode = 'ExclusiveLock' "
    "AND l.classid = tenantry.lock_space()::oid"
)
ASKED = f"{HELD} AND NOT l.granted"
ENDED = "terminating connection due to (idle-in-transaction|transaction) timeout"
REST = "SELECT current_setting($1)::interval"
WITNESSES = 5


# -- what the server is told ---------------------------------------------------------------------------


async def work_of(estate: Estate, limits: Limits) -> MoveContext:
    """A move that was planned and never began; nothing here needs its lease."""
    ends = estate.endpoints
    plan = await estate.mover().plan(estate.tenant, "acme")
    lease: Any = None
    return MoveContext(
        plan, ends["shared"], ends["acme"], Journal(estate.control_dsn), lease, limits, silence, None
    )


@asynccontextmanager
async def held_after_a_wait(work: MoveContext, estate: Estate, seconds: float) -> AsyncIterator[Any]:
    """The fence's session, which has had to wait so long at least for the tenant's own transaction."""
    async with AsyncExitStack() as stack:
        holder = await stack.enter_async_context(session(work.source, "test"))
        beside = await stack.enter_async_context(session(work.source, "test"))
        tenant = await asyncpg.connect(estate.application_dsns()["shared"], statement_cache_size=0)
        stack.callback(tenant.terminate)
        await tenant.execute(f"BEGIN; SELECT tenantry.bind('{estate.tenant}')")
        asking = asyncio.create_task(fencing.take_lock(work, holder, beside))

        async def asked() -> bool:
            return bool(await estate.fetch("shared", ASKED))

        await until(asked)
        await tenant.execute(f"SELECT pg_sleep({seconds}); COMMIT")
        await asking
        yield holder


async def milliseconds(holder: Any, name: str) -> float:
    return float((await holder.fetchval(REST, name)).total_seconds() * 1000)


async def test_what_the_fence_leaves_the_server_is_the_rest_of_the_cap(estate: Estate) -> None:
    """Whatever it has waited for counts: lock, statements, silence. A busy machine only leaves it less."""
    limits = Limits(pause=20.1, lock=15.0)
    work = await work_of(estate, limits)
    cap = fence_timeout.cap(limits) * 1000
    assert cap == 20_000
    async with held_after_a_wait(work, estate, 0.3) as holder:
        idle = "idle_in_transaction_session_timeout"
        for name in (idle, "statement_timeout"):
            assert 0 < await milliseconds(holder, name) <= cap - 300
        await holder.execute(f"SELECT pg_sleep(0.4); {fence_timeout.rest(limits)}")
        for name in (idle, "statement_timeout"):
            assert 0 < await milliseconds(holder, name) <= cap - 700
        if holder.get_server_version().major >= 17:
            assert await milliseconds(holder, "transaction_timeout") == cap


async def test_a_silent_fence_is_ended_by_the_server(estate: Estate) -> None:
    """Nobody says anything after the lock was given, and nobody closes the session."""
    limits = Limits(pause=1.0, lock=0.9)
    async with held_after_a_wait(await work_of(estate, limits), estate, 0.01) as holder:

        async def gone() -> bool:
            return not await estate.fetch("shared", HELD)

        await until(gone)
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await holder.execute("SELECT 1")


@pytest.mark.parametrize("limits", [Limits(), Limits(pause=0.1), Limits(pause=30.0)])
def test_the_clients_have_their_part_of_the_pause(limits: Limits) -> None:
    assert 0 < fence_timeout.cap(limits) < limits.pause
    assert limits.lock < fence_timeout.cap(limits) or limits.pause < Limits().pause


# -- what the server then does ---------------------------------------------------------------------------


def moments(log: str, pattern: str, pid: int) -> list[datetime]:
    """When a server process logged such lines."""
    line = re.compile(rf"^(\S+ \S+) UTC \[{pid}\] .*({pattern})", re.MULTILINE)
    return [datetime.fromisoformat(found[1]) for found in line.finditer(log)]


async def lateness(estate: Estate, witnesses: list[Any], timeout: float) -> float:
    """Seconds by which the timers of sessions that were left idle fired too late, at worst."""

    async def over() -> bool:
        return all(one.is_closed() for one in witnesses)

    await until(over)
    late = []
    for one in witnesses:
        pid = one.get_server_pid()
        log = estate.near.log_text()
        (begun,), (ended,) = moments(log, "BEGIN --witness", pid), moments(log, ENDED, pid)
        late.append((ended - begun).total_seconds() - timeout)
    return max(late)


async def capped_cell(estate: Estate, point: str) -> None:
    estate.near.psql(f"ALTER ROLE postgres IN DATABASE \"{estate.shared}\" SET log_statement = 'all'")
    limits = replace(LIMITS, attempts=3)
    process = MoverProcess(estate, "move", str(estate.tenant), failpoints=f"{point}=stop", attempts=3)
    try:
        await process.stopped()
        timeout = fence_timeout.cap(limits)
        witnesses = [await asyncpg.connect(estate.near.dsn(estate.shared)) for _ in range(WITNESSES)]
        for one in witnesses:
            await one.execute(f"SET idle_in_transaction_session_timeout = {timeout * 1000:.0f}")
            await one.execute("BEGIN --witness")

        async def let_go() -> bool:
            return not await estate.fetch("shared", HELD)

        await until(let_go)  # while the mover is frozen
        late = await lateness(estate, witnesses, timeout)
        log = estate.near.log_text()
        process.go_on()
        code, output = await process.ended()
    finally:
        process.end()
    assert code == 0, output
    (record,) = await estate.mover().list()
    assert record.state is State.FLIPPED
    lives = fences(log, estate.shared)
    assert len(lives) == 1, f"{len(lives)} fences were ended by the server: {lives}"
    print(f"{point}: the fence lived {lives[0]:.3f} s; timers are up to {late * 1000:.0f} ms late")
    assert lives[0] <= Limits().pause + late


def fences(log: str, database: str) -> list[float]:
    """Seconds from asking for the lock to the end, of each fence that the server has ended by itself."""
    lives = []
    asked = re.compile(
        rf"^\S+ \S+ UTC \[(\d+)\] \S+@{database} LOG:  statement: .*fence_began.*pg_advisory_xact_lock", re.M
    )
    for pid in {int(found[1]) for found in asked.finditer(log)}:
        ended = moments(log, ENDED, pid)
        if ended:
            (began,) = moments(log, "fence_began.*pg_advisory_xact_lock", pid)
            lives.append((ended[0] - began).total_seconds())
    return lives


@pytest.mark.parametrize("point", ["fence.placement_updated"])
async def test_a_fence_without_its_mover_ends_within_the_cap(estate18: Estate, point: str) -> None:
    await capped_cell(estate18, point)


@pytest.mark.faults
@pytest.mark.parametrize("point", POINTS)
async def test_a_fence_without_its_mover_ends_within_the_cap_anywhere(estate: Estate, point: str) -> None:
    await capped_cell(estate, point)
