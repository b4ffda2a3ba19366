"""The load: what the product's customers ask for, through the router, and how it went.

Not one statement here names a tenant: the scope does. Every write carries an operation number or adds to a
counter, and what was acknowledged is remembered, so that afterwards `demo.history` can hold the databases
against it.
"""

from __future__ import annotations

import asyncio
import random
from bisect import bisect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import accumulate
from time import perf_counter
from typing import Final
from uuid import UUID

from tenantry.demo.product import Customer
from tenantry.router.connection import ScopedConnection
from tenantry.wiring import Router

#: Statements of the four kinds of request.
LOOK_UP: Final = (
    "SELECT r.upstream, r.rate_limit, c.name FROM routes AS r CROSS JOIN consumers AS c "
    "WHERE r.path = $1 AND c.api_key = $2"
)
LOG: Final = (
    "INSERT INTO request_log (operation, route_id, consumer_id, status, millis) VALUES ($1, $2, $3, 200, $4)"
)
COUNT: Final = "UPDATE routes SET hits = hits + 1 WHERE id = $1"
REPORT: Final = (
    "SELECT status, count(*), avg(millis) FROM "
    "(SELECT status, millis FROM request_log ORDER BY at DESC LIMIT 200) AS recent GROUP BY status"
)


@dataclass(slots=True)
class Book:
    """What one customer asked for and what it was told."""

    requests: int = 0
    """Ended well."""
    failures: list[str] = field(default_factory=list)
    """Names and messages of the errors that the customer saw."""
    logged: list[UUID] = field(default_factory=list)
    """Operations whose INSERT was acknowledged."""
    unsure_logged: list[UUID] = field(default_factory=list)
    """Operations that were asked for and failed: they may be there or not, once at most."""
    counted: int = 0
    """Acknowledged increments."""
    unsure_counted: int = 0


class Sample:
    """Latencies over a stretch of the load, by customer: (when it ended, seconds)."""

    # Mutable state: `started`, `ended` (perf_counter), `taken` by place of the customer.

    def __init__(self, customers: int) -> None:
        self.started = perf_counter()
        self.ended: float | None = None
        self.taken: list[list[tuple[float, float]]] = [[] for _ in range(customers)]

    @property
    def seconds(self) -> float:
        """Length of the stretch so far."""
        return (self.ended or perf_counter()) - self.started

    @property
    def requests(self) -> int:
        """How many ended in it."""
        return sum(len(one) for one in self.taken)

    def latencies(self, places: Callable[[int], bool] = lambda _: True) -> list[float]:
        """Seconds, sorted, of the customers that `places` lets through."""
        return sorted(took for place, one in enumerate(self.taken) if places(place) for _, took in one)


def quantile(ordered: list[float], part: float) -> float:
    """The value below which `part` (0 to 1) of the sorted values lie; 0 when there are none."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


class DemoLoad:
    """Makes requests for all customers, each as often as its part of the traffic says."""

    # Mutable state: `books` and `samples`, changed by the requests only.

    def __init__(self, router: Router, customers: tuple[Customer, ...], *, seed: int = 7) -> None:
        self.router = router
        self.customers = customers
        self.books = [Book() for _ in customers]
        self.samples: list[Sample] = []
        self._dice = random.Random(seed)  # noqa: S311  (who asks next, not a secret)
        self._edges = list(accumulate(customer.part for customer in customers))

    def sample(self) -> Sample:
        """Begin a stretch; `finish` ends it. Stretches may overlap."""
        sample = Sample(len(self.customers))
        self.samples.append(sample)
        return sample

    def finish(self, sample: Sample) -> None:
        """End a stretch."""
        sample.ended = perf_counter()
        self.samples.remove(sample)

    def totals(self) -> tuple[int, int]:
        """Requests that ended well, and failures."""
        return sum(book.requests for book in self.books), sum(len(book.failures) for book in self.books)

    async def flat_out(self, callers: int, seconds: float) -> None:
        """Callers that ask again as soon as they are answered."""
        stop = perf_counter() + seconds

        async def caller() -> None:
            while perf_counter() < stop:
                await self._request(self._who(), perf_counter())

        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(caller())

    async def steady(self, rate: float, done: Callable[[], bool]) -> None:
        """`rate` requests a second, whether answers come or not: a pause can't hide behind callers that wait.

        A request's latency counts from the moment at which it was due.
        """
        began, made = perf_counter(), 0
        async with asyncio.TaskGroup() as group:
            while not done():
                due = int((perf_counter() - began) * rate)
                for number in range(made, due):
                    group.create_task(self._request(self._who(), began + number / rate))
                made = max(made, due)
                await asyncio.sleep(0.002)

    def _who(self) -> int:
        return min(bisect(self._edges, self._dice.random()), len(self.customers) - 1)

    async def _request(self, place: int, due: float) -> None:
        customer, book = self.customers[place], self.books[place]
        kind = self._dice.random()
        ask = self._look_up if kind < 0.6 else self._log if kind < 0.9 else self._count if kind < 0.95 else _report
        try:
            async with self.router.tenant(customer.id) as connection:
                acknowledge = await ask(connection, customer, book)
        except Exception as error:  # a customer's failure is a finding, not the end of the load
            book.failures.append(f"{type(error).__name__}: {error}")
            return
        if acknowledge is not None:
            acknowledge()
        now = perf_counter()
        book.requests += 1
        for sample in self.samples:
            sample.taken[place].append((now, now - due))

    async def _look_up(self, connection: ScopedConnection, customer: Customer, book: Book) -> None:
        route, consumer = self._pick(customer)
        row = await connection.fetchrow(LOOK_UP, f"/v1/resource-{route}", f"key-{consumer}")
        if row is None or not row["upstream"].startswith(f"https://{customer.name}-"):
            raise AssertionError(f"{customer.name} was given another customer's row: {row}")

    async def _log(self, connection: ScopedConnection, customer: Customer, book: Book) -> Callable[[], None]:
        route, consumer = self._pick(customer)
        operation = UUID(int=self._dice.getrandbits(128))
        book.unsure_logged.append(operation)
        await connection.execute(LOG, operation, route, consumer, self._dice.random() * 40)

        def acknowledge() -> None:
            book.unsure_logged.remove(operation)
            book.logged.append(operation)

        return acknowledge

    async def _count(self, connection: ScopedConnection, customer: Customer, book: Book) -> Callable[[], None]:
        route, _ = self._pick(customer)
        book.unsure_counted += 1
        await connection.execute(COUNT, route)

        def acknowledge() -> None:
            book.unsure_counted -= 1
            book.counted += 1

        return acknowledge

    def _pick(self, customer: Customer) -> tuple[int, int]:
        return self._dice.randrange(customer.routes) + 1, self._dice.randrange(customer.consumers) + 1


async def _report(connection: ScopedConnection, customer: Customer, book: Book) -> None:
    await connection.fetch(REPORT)


Ask = Callable[[ScopedConnection, Customer, Book], Awaitable[Callable[[], None] | None]]
