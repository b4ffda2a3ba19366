"""The demo from beginning to end: the stages in their order, and a clean end at any moment."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib.util import find_spec
from time import perf_counter
from typing import Any, Final
from uuid import uuid4

from tenantry.demo import console, endpoint
from tenantry.demo import world as worlds
from tenantry.demo.interrupts import interruptible
from tenantry.demo.load import DemoLoad
from tenantry.demo.product import customers
from tenantry.demo.stage import Demo, Options
from tenantry.demo.stages import homes, isolation, leftovers, promotion, rule, scrape, traffic
from tenantry.demo.story import Story
from tenantry.demo.teller import Teller
from tenantry.demo.world import World
from tenantry.usage.ledger import Ledger
from tenantry.usage.meter import Meter
from tenantry.wiring import Router

#: In the order of the story.
STAGES: Final[tuple[Callable[[Demo], Awaitable[None]], ...]] = (
    traffic.run,
    homes.run,
    isolation.run,
    leftovers.run,
    scrape.run,
    rule.run,
    promotion.run,
)


def run(options: Options, teller: Teller) -> dict[str, Any]:
    """Run the demo; returns its summary, "ok" among it.

    Ctrl-C (and SIGTERM and SIGHUP, which are treated alike) raises KeyboardInterrupt after everything that was
    started has been stopped and every folder that was made is gone.
    """
    began = perf_counter()
    story = Story(teller)
    teller.title(
        f"tenantry: one API-management product, {len(customers())} customers, on PostgreSQL {options.version}"
    )
    with interruptible() as interrupts:
        teller.say(f"Starting two PostgreSQL {options.version} servers of our own ...")
        with worlds.servers(options.version) as world:
            interrupts.hold()
            pids = [world.shared.pid, world.other.pid]
            try:
                with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                    runner.run(interrupts.cancelling(_tell(options, world, story, began)))
            except asyncio.CancelledError:
                raise KeyboardInterrupt from None
    return {
        "ok": not story.broken,
        "postgresql": options.version,
        "python": platform.python_version(),
        "uvloop": _loop_factory() is not None,
        "seconds": round(perf_counter() - began, 2),
        "servers": pids,
        "sections": story.sections,
        "checks": [check._asdict() for check in story.checks],
    }


async def _tell(options: Options, world: World, story: Story, began: float) -> None:
    await worlds.furnish(world)
    meter = Meter()
    async with Router.open(world.config(), sinks=(meter,)) as router:
        ledger = Ledger(meter, await router.directory.store.pool(), uuid4())
        router.add_close_callback(ledger.close)
        for customer in customers():
            home = worlds.OWNED if customer.name == worlds.OWNED else worlds.SHARED
            await router.add_tenant(customer.id, plan=customer.plan, database=home)
        ledger.start()
        story.teller.say(
            f"Ready in {perf_counter() - began:.1f} s: roles, schema, policies, "
            f"{len(customers())} customers signed up."
        )
        async with endpoint.serving() as url, console.serving(world.config()) as pages:
            if pages is not None:
                story.teller.say(f"The console, in your browser while this runs: {pages}")
            demo = Demo(options, world, router, ledger, DemoLoad(router, customers()), story, url, pages)
            for stage in STAGES:
                await stage(demo)
            _conclude(story, began)
            if options.keep:
                await _keep(demo)


def _conclude(story: Story, began: float) -> None:
    teller = story.teller
    held, broken = len(story.checks) - len(story.broken), story.broken
    teller.heading("In the end")
    teller.verdict(
        not broken, f"{held} of {len(story.checks)} promises held, in {perf_counter() - began:.0f} s all told."
    )
    for check in broken:
        teller.verdict(False, f"{check.section}: {check.promise}")


async def _keep(demo: Demo) -> None:
    """Tell how to look around, and wait for Ctrl-C."""
    teller, world = demo.story.teller, demo.world
    teller.heading("It stays up")
    for name in (worlds.SHARED, worlds.OWNED, worlds.HEAVY, worlds.CONTROL):
        role = worlds.CONTROL if name == worlds.CONTROL else worlds.APP
        teller.labelled(name, world.dsn(name, role))
    teller.labelled("all rows", world.dsn(worlds.SHARED, worlds.OPERATOR))
    teller.labelled("metrics", demo.url)
    if demo.console is not None:
        teller.labelled("console", demo.console)
    teller.say("Press Ctrl-C to end it.")
    with suppress(asyncio.CancelledError):  # Ctrl-C is how this ends, not a failure
        await asyncio.Event().wait()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if find_spec("uvloop") is None:
        return None
    import uvloop

    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
