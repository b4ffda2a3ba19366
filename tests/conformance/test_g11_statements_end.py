"""G11: what still runs when its scope is left ends at the server too, and hurts nobody else's statement.

A server that executes does not look whether its client is there, so closing the connection is not enough: the
statement would keep the tenant's shared lock (a move waits for it), its row locks, and a server process.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from tenantry import Router, ScopeLost
from tenantry.ids import TenantId
from tenantry.router import disconnect
from tests.support.product import Product
from tests.support.proxy import Proxy, Verdict
from tests.support.quiet import nothing_leaked
from tests.support.until import until
from tests.support.wire import CANCEL_REQUEST, Message

ENDED = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""What the application's own task may be told of a statement that was cut off."""

Statement = Callable[[Any, str], Awaitable[object]]
"""Runs something long on a scope's connection; the string is found in `pg_stat_activity` meanwhile."""


async def _simple(conn: Any, mark: str) -> None:
    await conn.execute(f"SELECT pg_sleep(600) /* {mark} */")


async def _with_arguments(conn: Any, mark: str) -> None:
    await conn.fetch(f"SELECT pg_sleep($1) /* {mark} */", 600)


async def _locking(conn: Any, mark: str) -> None:
    await conn.execute(f"UPDATE students SET name = 'mine'; SELECT pg_sleep(600) /* {mark} */")


async def _many(conn: Any, mark: str) -> None:
    await conn.executemany(f"SELECT pg_sleep($1) /* {mark} */", [(600,), (600,)])


async def _in_a_savepoint(conn: Any, mark: str) -> None:
    """Goes on with another statement when the first is cancelled."""
    with suppress(asyncpg.QueryCanceledError):
        async with conn.transaction():
            await conn.execute(f"SELECT pg_sleep(600) /* {mark} */")
    await conn.execute(f"SELECT pg_sleep(600) /* {mark} */")


async def _copying_out(conn: Any, mark: str) -> None:
    async def sink(_: bytes) -> None:
        await asyncio.Event().wait()

    await conn.copy_from_query(f"SELECT n FROM generate_series(1, 100000000) n /* {mark} */", output=sink)


async def running(admin: Any, mark: str) -> bool:
    """A server process has that statement in hand, or had it last."""
    count = await admin.fetchval("SELECT count(*) FROM pg_stat_activity WHERE strpos(query, $1) > 0", mark)
    return bool(count)


async def gone(admin: Any, mark: str) -> None:
    async def check() -> bool:
        return not await running(admin, mark)

    await until(check, what=f"the server is done with the statement: {mark}")


async def leave_with(
    router: Router,
    tenant: TenantId,
    statement: Statement,
    admin: Any,
    mark: str,
    then: Callable[[], Awaitable[object]] | None = None,
) -> None:
    """Leave a scope, by what `then` raises if it does, while one of its statements runs."""
    task: asyncio.Task[object] | None = None
    try:
        async with router.tenant(tenant) as conn:
            task = asyncio.ensure_future(statement(conn, mark))
            await until(lambda: running(admin, mark), what="the statement runs")
            if then is not None:
                await then()
    finally:
        assert task is not None
        ended, _ = await asyncio.wait([task], timeout=10)
        if ended:
            assert isinstance(task.exception(), ENDED)
        else:  # it waits for something of the application's own
            task.cancel()
            await asyncio.wait([task])


async def check_usable(router: Router, tenant: TenantId, other: TenantId) -> None:
    """The only slot of the pool serves both tenants, and no lock of the left scope is in the way."""
    assert await router.execute(tenant, "UPDATE students SET name = 'theirs'") == "UPDATE 1"
    assert await router.fetchval(other, "SELECT tenantry.current_tenant()::text") == str(other)
    await nothing_leaked(router)


STATEMENTS = (_simple, _with_arguments, _locking, _many, _in_a_savepoint, _copying_out)


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda s: s.__name__)
async def test_a_statement_that_was_not_awaited_ends_with_its_scope(
    product: Product, statement: Statement
) -> None:
    mark = uuid.uuid4().hex
    async with product.open(pool={"max": 1}) as router, product.admin() as admin:
        a, b = await product.signed_up(router, 2)
        await router.execute(a, "INSERT INTO students (name) VALUES ('x')")
        with pytest.raises(ScopeLost) as lost:
            await leave_with(router, a, statement, admin, mark)
        assert lost.value.reason == "busy"
        await gone(admin, mark)
        await check_usable(router, a, b)


async def test_a_statement_ends_with_a_scope_that_an_error_leaves(product: Product) -> None:
    mark = uuid.uuid4().hex

    async def fail() -> None:
        raise KeyError

    async with product.open(pool={"max": 1}) as router, product.admin() as admin:
        a, b = await product.signed_up(router, 2)
        await router.execute(a, "INSERT INTO students (name) VALUES ('x')")
        with pytest.raises(KeyError):
            await leave_with(router, a, _locking, admin, mark, fail)
        await gone(admin, mark)
        await check_usable(router, a, b)


async def test_a_statement_ends_with_a_scope_whose_caller_is_cancelled(product: Product) -> None:
    mark = uuid.uuid4().hex
    inside = asyncio.Event()

    async def wait() -> None:
        inside.set()
        await asyncio.Event().wait()

    async with product.open(pool={"max": 1}) as router, product.admin() as admin:
        a, b = await product.signed_up(router, 2)
        await router.execute(a, "INSERT INTO students (name) VALUES ('x')")
        caller = asyncio.create_task(leave_with(router, a, _locking, admin, mark, wait))
        await inside.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        await gone(admin, mark)
        await check_usable(router, a, b)


async def test_a_statement_ends_with_a_scope_that_is_left_the_moment_it_was_sent(product: Product) -> None:
    """The cancel request may be faster than the statement itself, or come between its messages."""
    told = 0
    async with product.open(pool={"max": 1}) as router, product.admin() as admin:
        [a] = await product.signed_up(router)
        for turns in range(20):
            mark = uuid.uuid4().hex
            try:
                async with router.tenant(a) as conn:
                    task = asyncio.ensure_future(_with_arguments(conn, mark))
                    for _ in range(1 + turns):
                        await asyncio.sleep(0)
            except ScopeLost as lost:  # otherwise it was left between two messages: the task is told alone
                assert lost.reason == "busy"  # noqa: PT017
                told += 1
            with pytest.raises(ENDED):
                await task
            await gone(admin, mark)
        await nothing_leaked(router)
    assert told > 10


async def test_a_statement_ends_with_a_router_that_is_closed_over_it(product: Product) -> None:
    mark = uuid.uuid4().hex
    async with product.admin() as admin:
        router = await product.open(pool={"max": 2})
        [a] = await product.signed_up(router)
        with pytest.raises(ScopeLost) as lost:
            await leave_with(router, a, _locking, admin, mark, lambda: router.close(grace=0.01))
        assert lost.value.reason == "closed"
        await gone(admin, mark)
        assert router.pools.budget.used == 0
        assert router.pools.open_pools()["shared"].open == 0


class Loss:
    """Loses the first cancel requests on the way."""

    def __init__(self, verdict: Verdict, count: int) -> None:
        self.verdict = verdict
        self.left = count
        self.passed = 0

    def __call__(self, message: Message) -> Verdict | None:
        if message.body[:4] != CANCEL_REQUEST.to_bytes(4, "big") or message.type:
            return None
        if self.left:
            self.left -= 1
            return self.verdict
        self.passed += 1
        return None


@pytest.mark.parametrize("verdict", [Verdict.DROP, Verdict.CUT], ids=["unanswered", "swallowed"])
async def test_a_cancel_request_that_got_lost_is_sent_again(
    product: Product, verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The statement was cancelled with its caller, so asyncpg has asked already: in vain."""
    if product.server.version != 15:  # there, the waits are those of the product
        for wait in ("CANCEL_TIMEOUT", "_AGAIN", "_ATTEMPT"):
            monkeypatch.setattr(disconnect, wait, getattr(disconnect, wait) / 8)
    mark = uuid.uuid4().hex
    async with Proxy(*_address(product)) as proxy, product.admin() as admin:
        loss = Loss(verdict, 2)
        proxy.hooks.append(loss)
        async with product.behind(lambda url: proxy.dsn(product.via(url))).open(pool={"max": 1}) as router:
            a, b = await product.signed_up(router, 2)
            await router.execute(a, "INSERT INTO students (name) VALUES ('x')")

            async def scope() -> None:
                async with router.tenant(a) as conn:
                    await _locking(conn, mark)

            caller = asyncio.create_task(scope())
            await until(lambda: running(admin, mark))
            caller.cancel()
            with pytest.raises(asyncio.CancelledError):
                await caller
            await gone(admin, mark)
            assert (loss.left, loss.passed > 0) == (0, True)
            await check_usable(router, a, b)


def _address(product: Product) -> tuple[str, int]:
    parts = urlsplit(product.dsn())
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port
