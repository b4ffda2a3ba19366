"""Clients of the load: most use `tenantry.Router`, as a service does; a plain one stands for other programs.

Each performs one operation in its own way of working. A write adds an entry with the operation's id and changes a
balance, in one transaction; a read looks for what was acknowledged before it began.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg

from tenantry import Router

#: Seconds that a caller waits for its scope, and for a statement in it.
DEADLINE: Final = 15.0
STATEMENT: Final = 5.0
ACCOUNTS: Final = 10

ENTRY: Final = (
    "INSERT INTO entry (tenant_id, op, account, amount, currency) "
    "VALUES (tenantry.current_tenant(), $1, $2, $3, 'EUR')"
)
BALANCE: Final = "UPDATE account SET balance = balance + $1 WHERE id = $2"
BOTH: Final = (
    "WITH added AS (INSERT INTO entry (tenant_id, op, account, amount, currency) "
    "VALUES (tenantry.current_tenant(), $1, $2, $3, 'EUR')) "
    "UPDATE account SET balance = balance + $3 WHERE id = $2"
)
PRESENT: Final = "SELECT op FROM entry WHERE op = ANY($1::uuid[])"


class StaleRead(AssertionError):
    """A read that began after a write was acknowledged does not show it."""


@dataclass
class Task:
    """What one operation is to do."""

    id: uuid.UUID
    tenant: uuid.UUID
    amount: int
    before: Sequence[uuid.UUID]
    """The tenant's writes that were acknowledged last, before this operation began."""

    @property
    def account(self) -> int:
        """Which balance it changes."""
        return 1 + self.id.int % ACCOUNTS

    def expect(self, rows: Sequence[Any]) -> None:
        """Raises StaleRead unless the rows show all that was acknowledged before."""
        missing = set(self.before) - {row["op"] for row in rows}
        if missing:
            raise StaleRead(f"{len(missing)} of {len(self.before)} acknowledged writes are not seen")


Perform = Callable[[Router, Task], Awaitable[None]]


async def _write(connection: Any, task: Task) -> None:
    await connection.execute(ENTRY, task.id, task.account, task.amount, timeout=STATEMENT)
    await connection.execute(BALANCE, task.amount, task.account, timeout=STATEMENT)


async def _scope(router: Router, task: Task) -> None:
    async with router.tenant(task.tenant, timeout=DEADLINE) as connection:
        await _write(connection, task)


def _runs(isolation: str) -> Perform:
    async def perform(router: Router, task: Task) -> None:
        await router.run(
            task.tenant,
            lambda connection: _write(connection, task),
            isolation=isolation,
            timeout=DEADLINE,
            attempts=200,  # how often clients of the same tenant get in each other's way is not the matter here
        )

    return perform


def _alone(isolation: str) -> Perform:
    """Without `run`: nothing tries again. It only adds an entry, so only the flip could get in its way."""

    async def perform(router: Router, task: Task) -> None:
        async with router.tenant(task.tenant, isolation=isolation, timeout=DEADLINE) as connection:
            await connection.execute(ENTRY, task.id, task.account, 0, timeout=STATEMENT)

    return perform


async def _one_shot(router: Router, task: Task) -> None:
    await router.execute(task.tenant, BOTH, task.id, task.account, task.amount, timeout=DEADLINE)
    found = await router.fetchval(task.tenant, "SELECT op FROM entry WHERE op = $1", task.id, timeout=DEADLINE)
    if found != task.id:
        raise StaleRead("a client does not see its own write")


async def _cursor(router: Router, task: Task) -> None:
    async with router.tenant(task.tenant, timeout=DEADLINE) as connection:
        task.expect([row async for row in connection.cursor(PRESENT, list(task.before), prefetch=5)])
        await _write(connection, task)


async def _bulk_load(router: Router, task: Task) -> None:
    async with router.tenant(task.tenant, timeout=DEADLINE) as connection:
        await connection.copy_records_to_table(
            "entry",
            records=[(task.tenant, task.id, task.account, task.amount, "EUR")],
            columns=["tenant_id", "op", "account", "amount", "currency"],
        )
        await connection.execute(BALANCE, task.amount, task.account, timeout=STATEMENT)


def _reads(isolation: str | None) -> Perform:
    async def perform(router: Router, task: Task) -> None:
        async with router.tenant(task.tenant, readonly=True, isolation=isolation, timeout=DEADLINE) as connection:
            for _ in range(2):
                task.expect(await connection.fetch(PRESENT, list(task.before), timeout=STATEMENT))

    return perform


#: Ways of working, by name.
STYLES: Final[dict[str, Perform]] = {
    "read committed": _scope,
    "repeatable read": _runs("repeatable_read"),
    "serializable": _runs("serializable"),
    "repeatable read, no retry": _alone("repeatable_read"),
    "read only": _reads(None),
    "read only, repeatable read": _reads("repeatable_read"),
    "read only, serializable": _reads("serializable"),
    "one-shot": _one_shot,
    "cursor": _cursor,
    "bulk load": _bulk_load,
}
#: Those that write nothing.
READERS: Final = frozenset(name for name in STYLES if name.startswith("read only"))
PLAIN: Final = "plain"


@dataclass
class Plain:
    """A program with asyncpg connections of its own, and an old idea of where the tenant lives.

    It calls `tenantry.bind` itself, and on a refusal goes where that points, or tries again a moment later.
    """

    dsns: dict[str, str]
    home: str = "shared"
    epoch: int = 1
    connections: dict[str, asyncpg.Connection[asyncpg.Record]] = field(default_factory=dict)

    async def perform(self, _router: object, task: Task) -> None:
        """One write; safe to try again until the tenant is bound, for nothing of it has run by then."""
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                connection = await self._connection()
                await connection.execute(f"BEGIN; SELECT tenantry.bind('{task.tenant}')", timeout=STATEMENT)
            except (asyncpg.InterfaceError, asyncpg.PostgresError, OSError, TimeoutError) as error:
                await self._learn(error, deadline)
                continue
            try:
                await _write(connection, task)
                await connection.execute("COMMIT", timeout=STATEMENT)
            except asyncpg.PostgresError:
                if not connection.is_closed():
                    await connection.execute("ROLLBACK")
                raise
            return

    def close(self) -> None:
        """Cut its connections."""
        for connection in self.connections.values():
            connection.terminate()

    async def _learn(self, error: Exception, deadline: float) -> None:
        connection = self.connections.get(self.home)
        if connection is not None and not connection.is_closed() and connection.is_in_transaction():
            await connection.execute("ROLLBACK")
        if time.monotonic() > deadline:
            raise error
        if getattr(error, "sqlstate", None) == "TN001":
            detail = json.loads(getattr(error, "detail", None) or "{}")
            if detail.get("home") and detail["epoch"] > self.epoch:
                self.home, self.epoch = detail["home"], detail["epoch"]
                return
        await asyncio.sleep(0.005)

    async def _connection(self) -> asyncpg.Connection[asyncpg.Record]:
        connection = self.connections.get(self.home)
        if connection is None or connection.is_closed():
            connection = await asyncpg.connect(self.dsns[self.home], timeout=5, statement_cache_size=0)
            self.connections[self.home] = connection
        return connection
