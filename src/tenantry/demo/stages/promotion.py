"""The escape hatch: the heavy customer moves to a server of its own while everybody goes on working."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from time import perf_counter
from typing import Any, Final

from tenantry.demo import history
from tenantry.demo.load import DemoLoad, Sample, quantile
from tenantry.demo.product import HEAVY, named
from tenantry.demo.stage import Demo
from tenantry.demo.story import Section
from tenantry.demo.watch import watched
from tenantry.demo.world import CONTROL, OWNED, SHARED, World
from tenantry.ids import Kind
from tenantry.move import Endpoint, FenceTried, MoveError, MovePlan, Mover, MoveRecord, State, StepEnded
from tenantry.move.progress import Progress

#: Requests a second, as a part of what the load at full speed reached: a service that has room to breathe.
_PART: Final = 0.35
_BEFORE: Final = 3.0
_AFTER: Final = 2.0


async def run(demo: Demo) -> None:
    """Promote the heavy customer under load, and hold the books against both databases."""
    section = demo.story.section("promotion", f"{HEAVY} moves out, live")
    section.claim(
        "A customer is carried to a database of its own while the service runs: no request fails, no write is "
        "lost or doubled, its own pause stays below 800 ms, and everybody else goes on."
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
        f"Meanwhile the mover does what `tenantry promote … --to {HEAVY}` does: about {plan.rows:,} rows in "
        f"{len(plan.tables)} tables, to the second server."
    )
    if demo.console is not None:
        demo.story.teller.labelled("watch", f"{demo.console}/move?id={plan.id}")
    try:
        moved = await _move(demo, mover, plan, rate)
    except MoveError as error:
        section.check(False, f"the move was carried out: {error}")
        return
    figures = await _figures(demo, moved)
    _tell(demo, section, moved, figures)
    section.facts(**figures, steps={step.step: round(step.seconds, 3) for step in moved.steps})


class Moved:
    """What was measured. Mutable: filled in as the move goes."""

    def __init__(self, load: DemoLoad) -> None:
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
async def _load(load: DemoLoad, rate: float) -> AsyncIterator[None]:
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


async def _figures(demo: Demo, moved: Moved) -> dict[str, Any]:
    """What the summary says; times in milliseconds where the name says so."""
    found = await history.check(demo.world, demo.router, demo.load)
    record, during = moved.record, moved.during
    assert record is not None
    assert during is not None
    placement = await demo.router.placement(named(HEAVY).id)
    heavy = next(n for n, customer in enumerate(demo.load.customers) if customer.name == HEAVY)
    others = [sample.latencies(lambda place: place != heavy) for sample in (moved.before, during)]
    return {
        "move": record.id,
        "state": record.state.value,
        "seconds": round(moved.seconds, 3),
        "copied_rows": (record.result.copied_rows or 0),
        "verified_rows": (record.result.verified_rows or 0),
        "requests": moved.requests,
        "failures": moved.failures,
        "acknowledged": found.acknowledged,
        "lost": found.lost,
        "doubled": found.doubled,
        "strange": found.strange,
        "fences": len(moved.fences),
        "fence_ms": round((record.result.pause_seconds or 0.0) * 1000, 2),
        "longest_request_ms": round(max(during.latencies(lambda place: place == heavy), default=0.0) * 1000, 2),
        "others_p99_before_ms": round(quantile(others[0], 0.99) * 1000, 3),
        "others_p99_during_ms": round(quantile(others[1], 0.99) * 1000, 3),
        "database": placement.database,
        "epoch": placement.epoch,
    }


def _tell(demo: Demo, section: Section, moved: Moved, figures: dict[str, Any]) -> None:
    section.saw(
        "The move took {seconds:.1f} s: {copied_rows:,} rows copied, {verified_rows:,} compared one by one before "
        "the flip. {name} lives in {database!r} now, epoch {epoch}.".format(name=HEAVY, **figures)
    )
    section.saw(
        "{requests:,} requests meanwhile, {failures} failures. {acknowledged:,} acknowledged writes since the "
        "start: {lost} lost, {doubled} doubled.".format(**figures)
    )
    section.saw(
        "{name} was fenced for {fence_ms:.0f} ms; its slowest request took {longest_request_ms:.0f} ms. "
        "The others' p99: {others_p99_before_ms:.1f} ms before, {others_p99_during_ms:.1f} ms during (on the same "
        "processors as the mover and both servers).".format(name=HEAVY, **figures)
    )
    section.check(moved.failures == 0, f"no request failed ({moved.failures} failures)")
    if moved.failures:
        errors = [failure for book in demo.load.books for failure in book.failures]
        section.quote("\n".join(sorted(set(errors))[:5]))
    clean = not (figures["lost"] or figures["doubled"] or figures["strange"])
    section.check(figures["acknowledged"] > 0 and clean, "every acknowledged write is there exactly once")
    at_home = (figures["state"], figures["database"]) == (State.FLIPPED, HEAVY)
    section.check(at_home, f"{HEAVY} is served from its own server")
    section.check(0 < figures["fence_ms"] <= 800, "the fence kept to its cap of 800 ms")
    section.saw("The way back stays open, with every write, until it is released:")
    section.quote(f"tenantry moves rollback {figures['move']}")


def _endpoint(world: World, name: str) -> Endpoint:
    kind = Kind.SHARED if name == SHARED else Kind.DEDICATED
    return Endpoint(name, kind, world.dsn(name, "postgres"))
