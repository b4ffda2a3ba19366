"""The escape hatch: the heavy customer moves to a server of its own while everybody goes on working."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from time import perf_counter
from typing import Final

from tenantry.demo import history
from tenantry.demo.load import Load, Sample, quantile
from tenantry.demo.product import HEAVY, named
from tenantry.demo.stage import Demo
from tenantry.demo.story import Section
from tenantry.demo.watch import watched
from tenantry.demo.world import CONTROL, OWNED, SHARED, World
from tenantry.move import Endpoint, FenceTried, MovePlan, Mover, MoveRecord, State, StepEnded
from tenantry.move.progress import Progress
from tenantry.tenant import Kind

#: Requests a second, as a part of what the load at full speed reached: a service that has room to breathe.
_PART: Final = 0.35
_BEFORE: Final = 3.0
_AFTER: Final = 2.0


async def run(demo: Demo) -> None:
    """Promote the heavy customer under load, and hold the books against both databases."""
    section = demo.story.section("promotion", f"{HEAVY} moves out, live")
    section.claim(
        "A customer is carried to a database of its own while the service runs: no request fails, no write is "
        "lost or doubled, its own pause is below 800 ms, and nobody else is stopped at all."
    )
    mover = Mover(
        demo.world.dsn(CONTROL, CONTROL),
        {name: _endpoint(demo.world, name) for name in (SHARED, OWNED, HEAVY)},
    )
    plan = await mover.plan(named(HEAVY).id, HEAVY)
    for finding in plan.refusals:
        section.quote(f"refused: {finding}")
    rate = max(20.0, demo.rate * _PART)
    section.did(
        f"All 40 customers ask {rate:,.0f} times a second, whether answers come or not; every write is booked. "
        f"Meanwhile: tenantry promote … --to {HEAVY} ({plan.rows:,} rows, {len(plan.tables)} tables, to the "
        "second server)."
    )
    moved = await _move(demo, mover, plan, rate)
    await _tell(demo, section, moved)


class Moved:
    """What was measured. Mutable: filled in as the move goes."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.before = load.sample()
        self.during: Sample | None = None
        self.requests, self.failures = load.totals()
        self.steps: list[StepEnded] = []
        self.fences: list[FenceTried] = []
        self.record: MoveRecord | None = None
        self.seconds = 0.0

    def __call__(self, progress: Progress) -> None:
        """What the mover tells."""
        if isinstance(progress, StepEnded):
            self.steps.append(progress)
        elif isinstance(progress, FenceTried):
            self.fences.append(progress)


async def _move(demo: Demo, mover: Mover, plan: MovePlan, rate: float) -> Moved:
    moved = Moved(demo.load)
    async with watched(demo.story.teller, demo.load, f"requests while {HEAVY} moves"), _load(demo.load, rate):
        await asyncio.sleep(_BEFORE)
        demo.load.finish(moved.before)
        moved.during = demo.load.sample()
        began = perf_counter()
        moved.record = await mover.run(plan, moved)
        moved.seconds = perf_counter() - began
        demo.load.finish(moved.during)
        await asyncio.sleep(_AFTER)
    requests, failures = demo.load.totals()
    moved.requests, moved.failures = requests - moved.requests, failures - moved.failures
    return moved


@contextlib.asynccontextmanager
async def _load(load: Load, rate: float) -> AsyncIterator[None]:
    """A steady load while the block runs; every request that was begun ends before the block is left."""
    done = False
    task = asyncio.create_task(load.steady(rate, lambda: done), name="tenantry demo load")
    try:
        yield
    except BaseException:
        task.cancel()
        raise
    finally:
        done = True
        await asyncio.wait([task])
    task.result()


async def _tell(demo: Demo, section: Section, moved: Moved) -> None:
    found = await history.check(demo.world, demo.router, demo.load)
    record, during = moved.record, moved.during
    assert record is not None
    assert during is not None
    placement = await demo.router.placement(named(HEAVY).id)
    heavy = next(n for n, customer in enumerate(demo.load.customers) if customer.name == HEAVY)
    longest = max(during.latencies(lambda place: place == heavy), default=0.0)
    fence = record.result.get("pause_seconds", 0.0)
    p99 = [quantile(s.latencies(lambda place: place != heavy), 0.99) * 1000 for s in (moved.before, during)]
    section.saw(
        f"The move took {moved.seconds:.1f} s: {record.result.get('copied_rows', 0):,} rows copied, "
        f"{record.result.get('verified_rows', 0):,} compared one by one, {len(moved.fences)} fence"
        f"{'s' * (len(moved.fences) != 1)}. {HEAVY} lives in {placement.database!r} now, epoch {placement.epoch}."
    )
    section.saw(
        f"{moved.requests:,} requests meanwhile, {moved.failures} failures. {found.acknowledged:,} acknowledged "
        f"writes since the start: {found.lost} lost, {found.doubled} doubled."
    )
    section.saw(
        f"{HEAVY} was fenced for {fence * 1000:.0f} ms; its slowest request of the move took "
        f"{longest * 1000:.0f} ms. The others' p99: {p99[0]:.1f} ms before, {p99[1]:.1f} ms during."
    )
    section.check(moved.failures == 0, f"no request failed ({moved.failures} failures)")
    if moved.failures:
        errors = [failure for book in demo.load.books for failure in book.failures]
        section.quote("\n".join(sorted(set(errors))[:5]))
    section.check(found.acknowledged > 0 and found.clean, "every acknowledged write is there exactly once")
    section.check(
        record.state is State.FLIPPED and placement.database == HEAVY, f"{HEAVY} is served from its own server"
    )
    section.check(0 < fence <= 0.8, f"the fence kept to its cap of 800 ms ({fence * 1000:.0f} ms)")
    section.saw(f"The way back stays open, with all writes: tenantry moves rollback {record.id} (or release).")
    section.facts(
        seconds=round(moved.seconds, 3),
        requests=moved.requests,
        failures=moved.failures,
        acknowledged=found.acknowledged,
        lost=found.lost,
        doubled=found.doubled,
        strange=found.strange,
        fence_ms=round(fence * 1000, 2),
        longest_request_ms=round(longest * 1000, 2),
        others_p99_before_ms=round(p99[0], 3),
        others_p99_during_ms=round(p99[1], 3),
        database=placement.database,
        epoch=placement.epoch,
        steps={step.step: round(step.seconds, 3) for step in moved.steps},
    )


def _endpoint(world: World, name: str) -> Endpoint:
    kind = Kind.SHARED if name == SHARED else Kind.DEDICATED
    return Endpoint(name, kind, world.dsn(name, "postgres"))
