"""Load with a history: every operation has an id, every client writes down what it was told.

The clients work through a `tenantry.Router`, with its directory, its change feed and its pools; what
`tests.support.clients` calls plain does not. Nobody tries a failed request again: a request fails when the router
says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg

from tenantry import CommitUnknown, DatabaseUnavailable, Router
from tests.support.clients import PLAIN, READERS, STYLES, Perform, Plain, Task
from tests.support.estate import Estate

OK, FAIL, UNKNOWN, DOWN = "ok", "fail", "unknown", "down"
#: What the clients of a tenant do unless a test says otherwise.
USUAL: Final = ("read committed", "repeatable read", "serializable", "read only")
#: Seconds between an answer and the client's next question. Clients that ask again at once keep two cores busy by
#: themselves, and the move waits for them: that is for `make faults`, whose long cells go for rare moments.
THINK: Final = 0.06
THINK_LONG: Final = 0.003
#: Acknowledged writes that a read looks for.
REMEMBERED: Final = 20
#: What a lost connection raises: nobody knows what became of the operation.
LOST: Final = (
    CommitUnknown,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    OSError,
    TimeoutError,
)


# Mutable state of this module: what `hurry` has set.
_think = THINK


def hurry() -> None:
    """Let the clients think as shortly as the long cells want it, in every test of this run."""
    global _think
    _think = THINK_LONG


@dataclass
class Operation(Task):
    """One operation of one client, as the client saw it."""

    style: str
    started: float
    """Monotonic seconds."""
    ended: float = 0.0
    outcome: str = UNKNOWN
    """OK, FAIL, UNKNOWN (its connection was lost), DOWN (the router said that the database is: nothing ran)."""
    error: str = ""

    @property
    def writes(self) -> bool:
        """Whether it is to leave an entry."""
        return self.style not in READERS


@dataclass
class History:
    """What was asked, and what was answered."""

    asked: list[Operation] = field(default_factory=list)

    def operations(self, tenant: uuid.UUID | None = None, style: str | None = None) -> list[Operation]:
        """What was asked so far, of a tenant, by clients of one style."""
        return [o for o in self.asked if tenant in (None, o.tenant) and style in (None, o.style)]

    def longest(self, tenant: uuid.UUID) -> float:
        """Seconds of the tenant's slowest operation."""
        return max((o.ended - o.started for o in self.operations(tenant) if o.ended), default=0.0)


@dataclass
class Clients(History):
    """Asks a router for its tenants, and keeps the history."""

    recent: dict[uuid.UUID, deque[uuid.UUID]] = field(
        default_factory=lambda: defaultdict(lambda: deque(maxlen=REMEMBERED))
    )
    """Each tenant's last acknowledged writes."""
    acknowledged: Counter[tuple[uuid.UUID, str]] = field(default_factory=Counter)
    """How many operations were, by tenant and style. Kept, because the history of an hour takes long to count."""

    async def ask(self, router: Router, tenant: uuid.UUID, style: str, perform: Perform, due: float) -> Operation:
        """Perform one operation that was due at that monotonic second, and write down how it went."""
        before = tuple(self.recent[tenant])
        operation = Operation(uuid.uuid4(), tenant, len(self.asked) % 9 - 4, before, style, due)
        self.asked.append(operation)
        try:
            await perform(router, operation)
        except asyncio.CancelledError:
            raise
        except DatabaseUnavailable as error:
            operation.outcome, operation.error = DOWN, f"{type(error).__name__}: {error}"
        except LOST as error:
            operation.error = f"{type(error).__name__}: {error}"
        except Exception as error:
            operation.outcome, operation.error = FAIL, f"{type(error).__name__}: {error}"
        else:
            operation.outcome = OK
            self.acknowledged[tenant, style] += 1
            if operation.writes:
                self.recent[tenant].append(operation.id)
        operation.ended = time.monotonic()
        return operation


@dataclass
class Load(Clients):
    """Clients that each ask again soon after they were answered."""

    router: Router = field(kw_only=True)
    think: float = THINK
    """Seconds between an answer and the client's next question."""

    async def client(self, tenant: uuid.UUID, style: str, perform: Perform, stop: asyncio.Event) -> None:
        """Work for one tenant until told to stop."""
        while not stop.is_set():
            operation = await self.ask(self.router, tenant, style, perform, time.monotonic())
            await asyncio.sleep(0.05 if operation.outcome == DOWN else self.think)

    async def reach(self, tenant: uuid.UUID, more: int, *, style: str | None = None) -> None:
        """Wait until so many more operations of the tenant, of one style if it is given, have succeeded."""
        goal = self.succeeded(tenant, style) + more
        async with asyncio.timeout(30):
            while self.succeeded(tenant, style) < goal:  # noqa: ASYNC110  told by the histories
                await asyncio.sleep(0.005)

    def succeeded(self, tenant: uuid.UUID, style: str | None = None) -> int:
        """How many operations were acknowledged so far."""
        return sum(n for (whose, how), n in self.acknowledged.items() if whose == tenant and style in (None, how))


@contextlib.asynccontextmanager
async def load(
    estate: Estate,
    *,
    tenants: Sequence[uuid.UUID] | None = None,
    styles: Sequence[str] = USUAL,
    connections: int = 10,
    think: float | None = None,
) -> AsyncIterator[Load]:
    """Clients of every style for each tenant, while the body runs. The history is complete after.

    Args:
        connections: of the router's pool of each database, at most.
        think: seconds between an answer and the client's next question; None: by `hurry`.
    """
    stop = asyncio.Event()
    plain: list[Plain] = []

    def perform(style: str) -> Perform:
        if style != PLAIN:
            return STYLES[style]
        plain.append(Plain(estate.application_dsns()))
        return plain[-1].perform

    async with Router.open(estate.config(connections=connections), metrics=False) as router:
        running = Load(router=router, think=_think if think is None else think)
        try:
            async with asyncio.TaskGroup() as group:
                for tenant in tenants or estate.tenants:
                    for style in styles:
                        group.create_task(running.client(tenant, style, perform(style), stop))
                try:
                    await running.reach(estate.tenant, 20)
                    yield running
                finally:
                    stop.set()
        finally:
            for one in plain:
                one.close()


@dataclass
class Wrong:
    """What the comparison of a history with the databases has found."""

    failed: list[Operation] = field(default_factory=list)
    """They had to succeed, and did not."""
    lost: list[uuid.UUID] = field(default_factory=list)
    """Acknowledged, and not there."""
    doubled: list[uuid.UUID] = field(default_factory=list)
    """There more than once."""
    refused: list[uuid.UUID] = field(default_factory=list)
    """The router said that nothing had run, and yet they are there."""
    halved: list[uuid.UUID] = field(default_factory=list)
    """Tenants whose balances do not fit their entries: some operation was half done."""


async def compare(estate: Estate, done: History, *, unknown: bool = False) -> Wrong:
    """Compare the history with what is on disk. `unknown`: as in `check`."""
    tolerated = {OK, UNKNOWN, DOWN} if unknown else {OK}
    wrong = Wrong(failed=[o for o in done.operations() if o.outcome not in tolerated])
    for tenant in {operation.tenant for operation in done.asked}:
        rows = await estate.fetch(
            await home_of(estate, tenant),
            "SELECT op, count(*) AS n, sum(amount) AS amount, "
            "(SELECT sum(balance)::bigint FROM account WHERE tenant_id = $1) AS balance "
            "FROM entry WHERE tenant_id = $1 GROUP BY op",
            tenant,
        )
        present = {row["op"]: row["n"] for row in rows}
        writes = [o for o in done.operations(tenant) if o.writes]
        wrong.lost += [o.id for o in writes if o.outcome == OK and o.id not in present]
        wrong.refused += [o.id for o in writes if o.outcome == DOWN and o.id in present]
        wrong.doubled += [op for op, n in present.items() if n != 1]
        if not rows or rows[0]["balance"] != sum(row["amount"] for row in rows):
            wrong.halved.append(tenant)
    return wrong


async def check(estate: Estate, done: History, *, unknown: bool = False) -> dict[str, Any]:
    """As `compare`, but raises AssertionError with what is wrong. Returns counts.

    `unknown`: True where the fault may take answers away from clients (a crash of their own database): then it may
    also be unreachable for a while. What the router has refused must not be there even so.
    """
    outcomes = Counter(operation.outcome for operation in done.operations())
    assert outcomes[OK], "no operation succeeded: nothing was checked"
    wrong = await compare(estate, done, unknown=unknown)
    for first in wrong.failed[:1]:
        raise AssertionError(f"{len(wrong.failed)} failed requests, the first ({first.style}): {first.error}")
    assert not wrong.lost, f"{len(wrong.lost)} acknowledged writes are not in their tenant's home"
    assert not wrong.doubled, f"{len(wrong.doubled)} writes are there more than once"
    assert not wrong.refused, f"{len(wrong.refused)} writes are there though the router had refused them"
    assert not wrong.halved, f"an operation of each of {wrong.halved} was half done"
    return dict(outcomes) | {"longest": round(done.longest(estate.tenant), 4)}


async def home_of(estate: Estate, tenant: uuid.UUID) -> str:
    """The one database that admits the tenant now."""
    said = await estate.homes(tenant)
    writable = [name for name in estate.endpoints if (said[name] or ("", 0))[0] == name]
    assert len(writable) == 1, f"not exactly one writable home: {said}"
    return writable[0]
