"""Load with a history: every operation has an id, every client writes down what it was told.

The clients do what a router does: an old cache, `BEGIN; SELECT tenantry.bind(…)` in one message, and on TN001 and
TN002 another try elsewhere or a moment later, inside a deadline. Nothing of the operation has run by then.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from tests.faults.estate import Estate

OK, FAIL, UNKNOWN = "ok", "fail", "unknown"
ISOLATIONS = ("read committed", "repeatable read", "serializable")
DEADLINE = 15.0


@dataclass
class Operation:
    """One operation of one client, as the client saw it."""

    id: uuid.UUID
    tenant: uuid.UUID
    amount: int
    started: float
    ended: float = 0.0
    outcome: str = UNKNOWN
    error: str = ""


@dataclass
class Client:
    """Works for one tenant, one operation after the other."""

    estate: Estate
    tenant: uuid.UUID
    isolation: str
    history: list[Operation] = field(default_factory=list)
    home: str = "shared"
    epoch: int = 1
    moved: int = 0
    fenced: int = 0
    connections: dict[str, asyncpg.Connection[asyncpg.Record]] = field(default_factory=dict)

    async def run(self, stop: asyncio.Event) -> None:
        try:
            while not stop.is_set():
                operation = Operation(uuid.uuid4(), self.tenant, len(self.history) % 9 - 4, time.monotonic())
                self.history.append(operation)
                try:
                    await self._perform(operation)
                    operation.outcome = OK
                except asyncio.CancelledError:
                    raise
                except (asyncpg.InterfaceError, asyncpg.PostgresConnectionError, OSError, TimeoutError) as error:
                    operation.error = f"{type(error).__name__}: {error}"
                except Exception as error:
                    operation.outcome, operation.error = FAIL, f"{type(error).__name__}: {error}"
                operation.ended = time.monotonic()
        finally:
            for connection in self.connections.values():
                connection.terminate()

    async def _perform(self, operation: Operation) -> None:
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                connection = await self._connection()
                await connection.execute(
                    f"BEGIN ISOLATION LEVEL {self.isolation}; SELECT tenantry.bind('{self.tenant}')", timeout=5
                )
            except (asyncpg.InterfaceError, asyncpg.PostgresError, OSError, TimeoutError) as error:
                # Nothing of ours has run: whatever it was, another try is safe.
                await self._learn(error, deadline)
                continue
            try:
                await self._work(connection, operation)
            except asyncpg.SerializationError:
                await connection.execute("ROLLBACK")
                if time.monotonic() > deadline:
                    raise
                continue
            except asyncpg.PostgresError:
                if not connection.is_closed():
                    await connection.execute("ROLLBACK")
                raise
            return

    async def _work(self, connection: asyncpg.Connection[asyncpg.Record], operation: Operation) -> None:
        account = 1 + operation.id.int % 10
        await connection.execute(
            "INSERT INTO entry (tenant_id, op, account, amount, currency) VALUES ($1, $2, $3, $4, 'EUR')",
            operation.tenant, operation.id, account, operation.amount, timeout=5,
        )  # fmt: skip
        await connection.execute(
            "UPDATE account SET balance = balance + $1 WHERE id = $2", operation.amount, account, timeout=5
        )
        await connection.execute("COMMIT", timeout=5)

    async def _learn(self, error: Exception, deadline: float) -> None:
        """Go where the refusal points, or wait a moment."""
        connection = self.connections.get(self.home)
        if connection is not None and not connection.is_closed() and connection.is_in_transaction():
            await connection.execute("ROLLBACK")
        if time.monotonic() > deadline:
            raise error
        code = getattr(error, "sqlstate", None)
        if code == "TN001":
            detail = json.loads(getattr(error, "detail", None) or "{}")
            if detail.get("home") and detail["epoch"] > self.epoch:
                self.home, self.epoch, self.moved = detail["home"], detail["epoch"], self.moved + 1
                return
        elif code == "TN002":
            self.fenced += 1
        await asyncio.sleep(0.005)

    async def _connection(self) -> asyncpg.Connection[asyncpg.Record]:
        connection = self.connections.get(self.home)
        if connection is None or connection.is_closed():
            connection = await asyncpg.connect(
                self.estate.application_dsns()[self.home], timeout=5, statement_cache_size=0
            )
            self.connections[self.home] = connection
        return connection


@dataclass
class Load:
    """All clients, and what they say in the end."""

    clients: list[Client]
    started: float = field(default_factory=time.monotonic)

    def operations(self, tenant: uuid.UUID | None = None) -> list[Operation]:
        return [o for c in self.clients for o in c.history if tenant is None or c.tenant == tenant]

    def longest(self, tenant: uuid.UUID) -> float:
        """Seconds of the tenant's slowest operation."""
        return max((o.ended - o.started for o in self.operations(tenant) if o.ended), default=0.0)

    async def reach(self, tenant: uuid.UUID, more: int) -> None:
        """Wait until so many more operations of the tenant have succeeded."""
        goal = self._succeeded(tenant) + more
        async with asyncio.timeout(30):
            while self._succeeded(tenant) < goal:  # noqa: ASYNC110  told by the histories
                await asyncio.sleep(0.005)

    def _succeeded(self, tenant: uuid.UUID) -> int:
        return sum(o.outcome == OK for o in self.operations(tenant))


@contextlib.asynccontextmanager
async def load(
    estate: Estate, *, tenants: Sequence[uuid.UUID] | None = None, isolations: Sequence[str] = ISOLATIONS
) -> AsyncIterator[Load]:
    """Clients of every isolation level for each tenant, while the body runs. The history is complete after."""
    clients = [
        Client(estate, tenant, isolation) for tenant in (tenants or estate.tenants) for isolation in isolations
    ]
    stop = asyncio.Event()
    running = Load(clients)
    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(client.run(stop))
        try:
            await running.reach(estate.tenant, 20)
            yield running
        finally:
            stop.set()


async def check(estate: Estate, done: Load, *, unknown: bool = False) -> dict[str, Any]:
    """Compare the history with what is on disk. Returns counts; raises AssertionError with what is wrong.

    `unknown`: True where the fault may take answers away from clients (a crash of their own database).
    """
    outcomes = Counter(operation.outcome for operation in done.operations())
    assert outcomes[OK], "no operation succeeded: nothing was checked"
    failed = [o for o in done.operations() if o.outcome == FAIL or (o.outcome == UNKNOWN and not unknown)]
    assert not failed, f"{len(failed)} failed requests, the first: {failed[0].error}"
    for tenant in {client.tenant for client in done.clients}:
        home = await home_of(estate, tenant)
        rows = await estate.fetch(
            home,
            "SELECT op, count(*) AS n, sum(amount) AS amount FROM entry WHERE tenant_id = $1 GROUP BY op",
            tenant,
        )
        present = {row["op"]: row["n"] for row in rows}
        acknowledged = {o.id for o in done.operations(tenant) if o.outcome == OK}
        lost = acknowledged - set(present)
        doubled = [op for op, n in present.items() if n != 1]
        assert not lost, f"{len(lost)} acknowledged writes of {tenant} are not in {home}"
        assert not doubled, f"{len(doubled)} writes of {tenant} are there more than once"
        attempted = {o.id for o in done.operations(tenant)}
        (balance,) = await estate.fetch(
            home, "SELECT sum(balance)::bigint AS balance FROM account WHERE tenant_id = $1", tenant
        )
        assert balance["balance"] == sum(row["amount"] for row in rows), "an operation was half done"
        assert acknowledged <= attempted
    return dict(outcomes) | {"longest": round(done.longest(estate.tenant), 4)}


async def home_of(estate: Estate, tenant: uuid.UUID) -> str:
    """The one database that admits the tenant now."""
    said = await estate.homes(tenant)
    writable = [name for name in ("shared", "acme") if (said[name] or ("", 0))[0] == name]
    assert len(writable) == 1, f"not exactly one writable home: {said}"
    return writable[0]
