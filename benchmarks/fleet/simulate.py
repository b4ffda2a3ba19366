"""One router of a fleet in simulated time: its connections, its directory, its ledger, by the code that decides.

Real are `Budget`, `Admission`, `Directory` and `Meter`. Simulated are the servers (a connection opens after
`CONNECT` seconds, a scope lasts `SCOPE` in the mean), the requests (Poisson; tenants by Zipf's law with exponent
1), and where a tenant lives (the largest have databases of their own, the others are spread evenly).
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.fleet.virtual_time import run
from tenantry.directory import Directory, Store, TenantRow
from tenantry.events import Events, ScopeEnded
from tenantry.ids import IdType, Kind, Terms
from tenantry.router.admission import Admission
from tenantry.router.budget import Budget
from tenantry.usage.meter import Meter

#: Seconds: what a simulated server takes to let a connection in, and a scope in the mean.
CONNECT = 0.005
SCOPE = 0.005
#: Seconds between two looks at what is idle.
SWEEP = 1.0
TERMS = Terms(1.0, None, None, None)


@dataclass(frozen=True)
class Fleet:
    """What is simulated."""

    routers: int = 1_000
    shared: int = 12
    dedicated: int = 1_000
    tenants: int = 1_000_000
    requests: float = 20_000.0
    """A second, over all routers."""
    connections: int = 100
    """`router.connections`."""
    pool: int = 20
    """`databases.NAME.pool.max`."""
    idle: float = 600.0
    """`databases.NAME.pool.idle`, seconds."""
    sticky: int | None = None
    """Routers among which a balancer spreads one dedicated tenant's requests; None: all."""
    seconds: float = 1_200.0
    """Simulated. The first half only fills pools and caches, and is not counted."""

    @property
    def rate(self) -> float:
        """Requests a second of one router."""
        return self.requests / self.routers


@dataclass
class Seen:
    """What one router did, in the second half."""

    shared: float = 0.0
    """Connections to one shared database, in the mean over time and databases."""
    dedicated: float = 0.0
    """Connections to all dedicated databases, in the mean."""
    opened: float = 0.0
    """Connections opened a second."""
    most: int = 0
    """Connections held at once, at most."""
    waits: list[float] = field(default_factory=list)
    """Seconds that each request waited for its connection, sorted."""
    served: int = 0

    def wait(self, part: float) -> float:
        """A quantile of the waits."""
        return self.waits[min(len(self.waits) - 1, int(part * len(self.waits)))] if self.waits else 0.0


def zipf(chance: float, tenants: int) -> int:
    """The rank of a request's tenant, from 1: P(rank) is as 1 / rank. `chance` is uniform in [0, 1)."""
    return min(tenants, int(math.exp(chance * math.log(tenants + 1))))


class _Pool:
    """One database's connections, as `router.pool` keeps them: the last used first, one opening at a time."""

    # Mutable state: idle (since when each has been), open (all), opening (a task that opens one).

    def __init__(self, fleet: Fleet, budget: Budget, seen: Counter[str], tasks: set[asyncio.Task[None]]) -> None:
        self._fleet, self._budget, self._seen, self._tasks = fleet, budget, seen, tasks
        self.admission: Admission[asyncio.Future[None]] = Admission(fleet.pool)
        self.idle: list[float] = []
        self.open = 0
        self.opening = False
        budget.join(self)

    def idle_since(self) -> float | None:
        return self.idle[0] if self.idle else None

    def close_idle(self) -> bool:
        if not self.idle:
            return False
        self.idle.pop(0)
        self.open -= 1
        self._budget.give_back()
        return True

    async def scope(self, tenant: int, lasting: float) -> None:
        loop = asyncio.get_running_loop()
        if not (self.idle and self.admission.enter(tenant, TERMS, loop.time())):
            turn: asyncio.Future[None] = loop.create_future()
            if not self.admission.arrive(turn, tenant, TERMS, loop.time()):
                raise RuntimeError("a queue is full: the simulated fleet is overloaded")
            self._serve()
            await turn
        else:
            self.idle.pop()
        began = loop.time()
        await asyncio.sleep(lasting)
        self.admission.leave(tenant, loop.time() - began, loop.time())
        self.idle.append(loop.time())
        waited = self._budget.oldest()
        if waited is not None and self.admission.first_waiting() is None:
            self.close_idle()  # another pool has been waiting for a permit
        self._serve()

    def _serve(self) -> None:
        """Hand idle connections to who is next, and open one more if somebody waits on."""
        now = asyncio.get_running_loop().time()
        while self.idle:
            turn = self.admission.take(now)
            if turn is None:
                return
            self.idle.pop()
            turn.set_result(None)
        if self.admission.waiting and not self.opening and self.open < self._fleet.pool:
            self.opening = True
            task = asyncio.get_running_loop().create_task(self._dial())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _dial(self) -> None:
        loop = asyncio.get_running_loop()
        await self._budget.acquire(self, loop.time)
        await asyncio.sleep(CONNECT)
        self.open += 1
        self.opening = False
        self._seen["opened"] += 1
        self.idle.append(loop.time())
        self._serve()


def connections(fleet: Fleet, seed: int = 1) -> Seen:
    """One router's connections."""
    return run(_connections(fleet, random.Random(seed)))


async def _connections(fleet: Fleet, dice: random.Random) -> Seen:
    loop = asyncio.get_running_loop()
    budget, counted, tasks = Budget(fleet.connections), Counter[str](), set[asyncio.Task[None]]()
    pools: dict[int, _Pool] = {}
    seen = Seen()
    mine = _Requests(fleet, dice)
    shared: list[int] = []
    dedicated: list[int] = []
    counting = False

    async def request() -> None:
        home, tenant = mine.home()
        pool = pools.get(home) or pools.setdefault(home, _Pool(fleet, budget, counted, tasks))
        began, lasting = loop.time(), dice.expovariate(1 / SCOPE)
        await pool.scope(tenant, lasting)
        if counting:
            seen.waits.append(loop.time() - began - lasting)
            seen.served += 1

    async def sweep() -> None:
        while True:
            await asyncio.sleep(SWEEP)
            for pool in pools.values():
                while pool.idle and loop.time() - pool.idle[0] >= fleet.idle:
                    pool.close_idle()
            seen.most = max(seen.most, budget.used)
            if counting:
                shared.append(sum(pool.open for home, pool in pools.items() if home < 0))
                dedicated.append(sum(pool.open for home, pool in pools.items() if home >= 0))

    sweeping = loop.create_task(sweep())
    while loop.time() < fleet.seconds:
        await asyncio.sleep(dice.expovariate(fleet.rate))
        if not counting and loop.time() >= fleet.seconds / 2:
            counting = True
            counted.clear()
        task = loop.create_task(request())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    while tasks:
        await asyncio.wait(tasks)
    sweeping.cancel()
    seen.waits.sort()
    seen.shared = _mean(shared) / fleet.shared
    seen.dedicated = _mean(dedicated)
    seen.opened = counted["opened"] / (fleet.seconds / 2)
    return seen


class _Requests:
    """Which tenants' requests come to this router, and where they live: shared ones are below zero."""

    def __init__(self, fleet: Fleet, dice: random.Random) -> None:
        self._fleet, self._dice = fleet, dice
        number = fleet.dedicated
        if fleet.sticky is not None:
            number = max(1, round(fleet.dedicated * fleet.sticky / fleet.routers))
        self._largest = sorted(dice.sample(range(1, fleet.dedicated + 1), number)) if number else []

    def tenant(self) -> int:
        rank = zipf(self._dice.random(), self._fleet.tenants)
        if rank <= self._fleet.dedicated and self._fleet.sticky is not None:
            return self._dice.choice(self._largest)
        return rank

    def home(self) -> tuple[int, int]:
        rank = self.tenant()
        return (rank, rank) if rank <= self._fleet.dedicated else (-1 - rank % self._fleet.shared, rank)


# -- the directory --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reads:
    """Queries of one router to the directory, a second."""

    cold: float
    """In the first ten seconds after its start."""
    steady: float
    """Once it has run for a while."""
    doubtful: float
    """In the ten seconds after a bulk change, which puts every entry in doubt."""


def directory_reads(fleet: Fleet, seed: int = 1) -> Reads:
    """By the real cache, over a store that answers at once and counts."""
    return run(_directory_reads(fleet, random.Random(seed)))


class _Counting(Store):
    """Answers for any tenant, and counts its queries."""

    def __init__(self) -> None:
        super().__init__("postgresql://nowhere.invalid")
        self.queries = 0

    async def tenants(self, ids: Sequence[str], *, removed: bool = False) -> dict[str, TenantRow]:
        self.queries += 1
        await asyncio.sleep(0.001)
        return {one: TenantRow(one, "shared", Kind.SHARED, 1, "active", None, 1.0, {}, 1) for one in ids}


async def _directory_reads(fleet: Fleet, dice: random.Random) -> Reads:
    store = _Counting()
    directory = Directory(store, IdType.BIGINT, Events())
    loop, mine = asyncio.get_running_loop(), _Requests(fleet, dice)

    async def go_on(seconds: float) -> float:
        before, until = store.queries, loop.time() + seconds
        while loop.time() < until:
            await asyncio.sleep(dice.expovariate(fleet.rate))
            tenant = mine.tenant()
            if directory.cached(tenant) is None:
                await directory.lookup(tenant)
        return (store.queries - before) / seconds

    cold = await go_on(10)
    await go_on(fleet.seconds)
    steady = await go_on(60)
    directory.suspect_all()
    doubtful = await go_on(10)
    await directory.close()
    return Reads(cold, steady, doubtful)


# -- the ledger -----------------------------------------------------------------------------------


def ledger_rows(fleet: Fleet, flush: float, seed: int = 1) -> float:
    """Rows of one router's flush, in the mean: tenants that did something in `flush` seconds."""
    dice = random.Random(seed)
    mine, meter, rows = _Requests(fleet, dice), Meter(), []
    for _ in range(20):
        for _ in range(round(fleet.rate * flush)):
            home, tenant = mine.home()
            meter(_scope(tenant, str(home)))
        rows.append(len(meter.take()))
    return sum(rows) / len(rows)


def _scope(tenant: int, database: str) -> Any:
    return ScopeEnded(tenant, database, "commit", 0.001, 0.002, 0.0, 1)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
