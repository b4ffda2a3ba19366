"""G22: a router is used only in the process, thread and event loop that opened it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import multiprocessing
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tenantry import NestedScope, Router, WrongContext
from tests.support.product import Product
from tests.support.quiet import nothing_leaked

#: What a child does with its parent's router, scope's connection and open savepoint, in an event loop of its own.
Attempt = Callable[[Router, Any, Any], Awaitable[Any]]


async def _fetch(router: Router, conn: Any, savepoint: Any) -> Any:
    return await router.fetchval(_tenants["b"], "SELECT count(*) FROM students")


async def _scope(router: Router, conn: Any, savepoint: Any) -> None:
    async with router.tenant(_tenants["b"]) as inner:
        await inner.execute("SELECT 1")


async def _run(router: Router, conn: Any, savepoint: Any) -> None:
    await router.run(_tenants["b"], lambda inner: inner.execute("SELECT 1"))


async def _placement(router: Router, conn: Any, savepoint: Any) -> None:
    await router.placement(_tenants["b"])


async def _ids(router: Router, conn: Any, savepoint: Any) -> list[Any]:
    return [tenant async for tenant in router.tenants()]


async def _sign_up(router: Router, conn: Any, savepoint: Any) -> None:
    await router.add_tenant(_tenants["c"])


async def _operate(router: Router, conn: Any, savepoint: Any) -> None:
    async with router.operator(reason="a test") as inner:
        await inner.execute("SELECT 1")


async def _close(router: Router, conn: Any, savepoint: Any) -> None:
    await router.close()


async def _statement(router: Router, conn: Any, savepoint: Any) -> None:
    await conn.fetch("SELECT 1")


async def _simple(router: Router, conn: Any, savepoint: Any) -> None:
    await conn.execute("COMMIT")


async def _prepare(router: Router, conn: Any, savepoint: Any) -> None:
    await conn.prepare("SELECT 1")


async def _cursor(router: Router, conn: Any, savepoint: Any) -> None:
    await conn.cursor("SELECT 1")


async def _transaction(router: Router, conn: Any, savepoint: Any) -> None:
    conn.transaction()


async def _terminate(router: Router, conn: Any, savepoint: Any) -> None:
    conn.terminate()


async def _savepoint(router: Router, conn: Any, savepoint: Any) -> None:
    await savepoint.rollback()


ATTEMPTS: list[Attempt] = [
    _fetch,
    _scope,
    _run,
    _placement,
    _ids,
    _sign_up,
    _operate,
    _close,
    _statement,
    _simple,
    _prepare,
    _cursor,
    _transaction,
    _terminate,
    _savepoint,
]
_tenants: dict[str, Any] = {}


def in_child(work: Callable[[], str]) -> str:
    """What `work` returns in a forked child, which then ends without the parent's atexit and finally blocks."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        try:
            said = work()
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode()[:4000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        said = answer.read()
    os.waitpid(child, 0)
    return said


def _outcome(attempt: Attempt, router: Router, conn: Any, savepoint: Any) -> str:
    async def tried() -> str:
        try:
            return f"went through: {await attempt(router, conn, savepoint)}"
        except WrongContext as error:
            return f"WrongContext {error.differs}"

    # The loop that the parent was running in is the child's too, as a copy: it is in the way of a new one.
    asyncio._set_running_loop(None)
    return asyncio.run(tried())


@pytest.mark.parametrize("attempt", ATTEMPTS)
async def test_a_forked_child_gets_a_typed_error_and_the_parents_scope_goes_on(
    direct: Product, attempt: Attempt
) -> None:
    async with direct.open(pool={"max": 1}) as router:
        a, b = await direct.signed_up(router, 2)
        _tenants.update(a=a, b=b, c=direct.new_id())
        await router.execute(b, "INSERT INTO students (id, name) VALUES (1, 'of B')")
        async with router.tenant(a) as conn:
            await conn.execute("INSERT INTO students (id, name) VALUES (1, 'of A')")
            savepoint = conn.transaction()
            await savepoint.start()
            said = in_child(lambda: _outcome(attempt, router, conn, savepoint))
            assert said == "WrongContext process"
            assert [row["name"] for row in await conn.fetch("SELECT name FROM students")] == ["of A"]
            await savepoint.commit()
        assert await router.fetchval(a, "SELECT name FROM students") == "of A"
        await nothing_leaked(router)


@pytest.mark.parametrize("ending", ["collected", "exit"])
async def test_a_forked_child_that_ends_closes_nothing_of_its_parents(direct: Product, ending: str) -> None:
    async with direct.open(pool={"max": 2}) as router:
        (a,) = await direct.signed_up(router, 1)
        backends = {await router.fetchval(a, "SELECT pg_backend_pid()")}
        async with router.tenant(a) as conn:
            backends.add(await conn.fetchval("SELECT pg_backend_pid()"))

            def end() -> str:
                if ending == "collected":
                    for pool in router.pools.open_pools().values():
                        pool.connections.idle.clear()
                        pool.connections.busy.clear()
                    object.__setattr__(conn, "_con", None)
                    gc.collect()
                    return "collected"
                import atexit

                atexit._run_exitfuncs()
                raise SystemExit(0)

            in_child(end)
            assert await conn.fetchval("SELECT pg_backend_pid()") in backends
        assert await router.fetchval(a, "SELECT pg_backend_pid()") in backends
        await nothing_leaked(router)


_router: Router | None = None


def _job() -> str:
    async def work() -> Any:
        assert _router is not None
        return await _router.fetch(_tenants["b"], "SELECT name FROM students")

    try:
        return str(asyncio.run(work()))
    except WrongContext as error:
        return error.differs


async def test_a_pool_of_forked_processes_reads_nothing_through_its_parents_router(direct: Product) -> None:
    global _router
    async with direct.open(pool={"max": 1}) as router:
        a, b = await direct.signed_up(router, 2)
        _tenants.update(a=a, b=b)
        for tenant, name in ((a, "of A"), (b, "of B")):
            await router.execute(tenant, "INSERT INTO students (id, name) VALUES (1, $1)", name)
        _router = router
        context = multiprocessing.get_context("fork")
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as processes:
            jobs = [asyncio.wrap_future(processes.submit(_job)) for _ in range(4)]
            while not all(job.done() for job in jobs):
                assert await router.fetchval(a, "SELECT string_agg(name, ',') FROM students") == "of A"
                await asyncio.sleep(0)
            assert {await job for job in jobs} == {"process"}
        await nothing_leaked(router)


async def test_another_thread_and_another_loop_get_a_typed_error(direct: Product) -> None:
    async with direct.open(pool={"max": 1}) as router:
        (a,) = await direct.signed_up(router, 1)
        async with router.tenant(a) as conn:
            savepoint = conn.transaction()
            await savepoint.start()

            async def elsewhere(attempt: Attempt) -> str:
                try:
                    return f"went through: {await attempt(router, conn, savepoint)}"
                except WrongContext as error:
                    return error.differs

            for attempt in (_fetch, _statement, _savepoint, _close, _terminate):
                _tenants["b"] = a
                assert await asyncio.to_thread(asyncio.run, elsewhere(attempt)) == "thread"

            # The same thread, and another loop in it.
            other = asyncio.new_event_loop()
            asyncio._set_running_loop(None)
            try:
                assert other.run_until_complete(elsewhere(_statement)) == "event loop"
                assert other.run_until_complete(elsewhere(_fetch)) == "event loop"
            finally:
                other.close()
                asyncio._set_running_loop(router.loop)
            assert await conn.fetchval("SELECT 1") == 1
        await nothing_leaked(router)


async def test_a_scope_inside_a_scope_that_would_wait_for_itself_is_told_at_once(direct: Product) -> None:
    async with direct.open(pool={"max": 1}) as router:
        a, b = await direct.signed_up(router, 2)
        async with router.tenant(a) as conn:
            with pytest.raises(NestedScope, match="would wait for itself"):
                await router.fetch(b, "SELECT 1", timeout=60)
            assert await conn.fetchval("SELECT 1") == 1
        assert await router.fetchval(b, "SELECT 1") == 1
        await nothing_leaked(router)


async def test_of_tasks_that_wait_for_each_other_one_is_told_and_the_others_go_on(direct: Product) -> None:
    async with direct.open(pool={"max": 4}, router={"tenant_share": 1.0}) as router:
        a, b = await direct.signed_up(router, 2)
        all_hold = asyncio.Barrier(4)

        async def request() -> Any:
            async with router.tenant(a, timeout=60):
                await all_hold.wait()
                return await router.fetchval(b, "SELECT 1", timeout=60)

        outcomes = await asyncio.gather(*(request() for _ in range(4)), return_exceptions=True)
        assert sorted(str(type(outcome).__name__) for outcome in outcomes) == ["NestedScope", "int", "int", "int"]
        await nothing_leaked(router)


async def test_a_scope_inside_a_scope_waits_where_somebody_else_will_make_room(direct: Product) -> None:
    async with direct.open(pool={"max": 2}, router={"tenant_share": 1.0}) as router:
        a, b = await direct.signed_up(router, 2)
        async with router.tenant(b) as other:
            async with router.tenant(a):
                # The task itself holds both: it is told. Another task's scope would have been waited for.
                with pytest.raises(NestedScope):
                    await router.fetch(b, "SELECT 1", timeout=60)
            assert await other.fetchval("SELECT 1") == 1
        release = asyncio.Event()
        held = asyncio.Event()

        async def hold() -> None:
            async with router.tenant(b):
                held.set()
                await release.wait()

        holding = asyncio.create_task(hold())
        await held.wait()
        async with router.tenant(a):
            inner = asyncio.ensure_future(router.fetchval(b, "SELECT 1", timeout=60))
            asyncio.get_running_loop().call_soon(release.set)
            assert await inner == 1
        await holding
        await nothing_leaked(router)


async def test_a_tenant_at_its_cap_that_would_wait_for_itself_is_told_at_once(direct: Product) -> None:
    async with direct.open(pool={"max": 4}, router={"tenant_share": 0.5}) as router:
        a, b = await direct.signed_up(router, 2)
        await router.fetch(b, "SELECT 1")
        all_hold = asyncio.Barrier(2)

        async def request() -> Any:
            async with router.tenant(a, timeout=60):
                await all_hold.wait()
                return await router.fetchval(a, "SELECT 1", timeout=60)

        outcomes = await asyncio.gather(*(request() for _ in range(2)), return_exceptions=True)
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["NestedScope", "int"]
        await nothing_leaked(router)


@pytest.mark.parametrize("timeout", [float("nan"), "5", True])
async def test_a_timeout_that_is_no_time_is_refused(direct: Product, timeout: Any) -> None:
    async with direct.open() as router:
        (a,) = await direct.signed_up(router, 1)
        with pytest.raises(ValueError, match="timeout is a time in seconds"):
            await router.fetch(a, "SELECT 1", timeout=timeout)
        with pytest.raises(ValueError, match="timeout is a time in seconds"):
            await router.run(a, lambda conn: conn.fetch("SELECT 1"), timeout=timeout)
