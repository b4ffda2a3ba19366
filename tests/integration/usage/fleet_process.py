"""One process of a fleet: a service on a router, with a meter and a ledger, under skewed load.

Run by test_fleet.py. It writes a line "end tenant seconds executed" to its own tally after each scope: the seconds
measured around the statement by its own clock and not by the router's, and those by the server's clock, which the
statement reads at its end. It stops at the end of its input.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from typing import Any, TextIO
from uuid import UUID, uuid4

from tenantry import Config, Router
from tenantry.directory import Store
from tenantry.usage.ledger import Ledger
from tenantry.usage.meter import Meter

WORK = """
SELECT pg_sleep($1), (SELECT count(*) FROM generate_series(1, 1000)),
       extract(epoch FROM clock_timestamp() - statement_timestamp())::float8
"""


async def call(router: Router, tenants: list[UUID], chance: random.Random, tally: TextIO, mean: float) -> None:
    """Call after call: the first tenant half of the time, with statements twice as long.

    Args:
        mean: seconds of a statement of the other tenants, on average.
    """
    while True:
        heavy = chance.random() < 0.5
        tenant = tenants[0] if heavy else chance.choice(tenants[1:])
        pause = chance.expovariate(1 / (2 * mean if heavy else mean))
        async with router.tenant(tenant) as connection:
            began = time.perf_counter()
            executed = await connection.fetchval(WORK, pause, column=2)
            took = time.perf_counter() - began
        tally.write(f"{time.time():.6f} {tenant} {took:.6f} {executed:.6f}\n")


async def serve(settings: dict[str, Any]) -> None:
    tenants = [UUID(text) for text in settings["tenants"]]
    chance = random.Random(settings["seed"])
    meter = Meter()
    store = Store(settings["config"]["control"]["dsn"])
    router_id = uuid4()
    ledger = Ledger(meter, await store.pool(), router_id, every=settings["every"])
    loop = asyncio.get_running_loop()
    with open(settings["tally"], "w", buffering=1) as tally:  # noqa: ASYNC230 - a line a scope is its work
        async with Router.open(Config.parse(settings["config"]), metrics=False, sinks=(meter,)) as router:
            ledger.start()
            print(router_id, flush=True)
            callers = [
                asyncio.create_task(call(router, tenants, chance, tally, settings["mean"]))
                for _ in range(settings["callers"])
            ]
            await loop.run_in_executor(None, sys.stdin.read)
            for caller in callers:
                caller.cancel()
            await asyncio.gather(*callers, return_exceptions=True)
    await ledger.close()
    await store.close()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
