"""The threat model's rows on availability: what one tenant can do to the others' service, and what bounds it.

Both directions: where a row says that nothing bounds it, the test shows the harm.
"""

# ruff: noqa: PT012  (what raises is the end of the scope, so the whole scope stands in the block)

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.errors import DatabaseUnavailable, ScopeLost, TenantBusy, TenantMoving
from tests.conformance.attacks.availability import THREATS
from tests.support.pgbouncer import PgBouncer
from tests.support.product import APP, Product, product_on
from tests.support.quiet import nothing_leaked
from tests.support.until import until

#: Not tests, but awaited.
_HELPERS = {"until", "nothing_leaked", "_few", "_gone", "_waits", "_sleeps"}
LOCK_OF = "tenantry.lock_space(), tenantry.lock_key('{}')"


def test_each_threat_to_availability_is_proved_by_a_test_that_there_is() -> None:
    assert len({threat.attempt for threat in THREATS}) == len(THREATS)
    for threat in THREATS:
        path, _, name = threat.test.partition("::")
        assert f"def {name}(" in Path(path).read_text(encoding="utf-8"), threat.test
    named = {threat.test.partition("::")[2] for threat in THREATS if "/test_availability.py::" in threat.test}
    assert {name for name, value in globals().items() if asyncio.iscoroutinefunction(value)} - _HELPERS == named


async def test_a_flood_of_cancelled_requests_keeps_to_the_pool_and_others_are_served(fresh: Product) -> None:
    async with fresh.open(pool={"max": 2}) as router, fresh.admin() as admin:
        a, b = await fresh.signed_up(router, 2)
        await router.fetch(b, "SELECT 1")

        async def hasty() -> None:
            async with asyncio.timeout(0.001):
                await router.fetch(a, "SELECT pg_sleep(1)")

        flood = [asyncio.create_task(hasty()) for _ in range(200)]
        most = 0
        for _ in range(10):
            assert await router.fetchval(b, "SELECT 1") == 1
            most = max(most, await fresh.backends())
        await asyncio.gather(*flood, return_exceptions=True)
        # A session that has been closed may still be ending at the server while the next one begins.
        assert most <= 2 * 2
        await nothing_leaked(router)
        await until(lambda: _few(admin, 2))


async def _few(admin: Any, most: int) -> bool:
    count = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND datname = current_database()"
    return bool(await admin.fetchval(count, APP) <= most)


async def test_a_statement_and_a_transaction_that_do_not_end_are_ended_by_the_limits(fresh: Product) -> None:
    settings = {"settings": {"idle_in_transaction_session_timeout": "100ms"}}
    async with fresh.open(pool={"max": 1}, shared=settings) as router, fresh.admin() as admin:
        (a,) = await fresh.signed_up(router, limits={"statement_timeout": 100})
        (b,) = await fresh.signed_up(router)
        with pytest.raises(asyncpg.QueryCanceledError):
            await router.fetch(a, "SELECT pg_sleep(60)")
        with pytest.raises(Exception, match=r"gone|closed|terminated|idle-in-transaction"):
            async with router.tenant(a) as conn:
                pid = conn.get_server_pid()
                await conn.execute("INSERT INTO students (id, name) VALUES (1, 'x')")
                await until(lambda: _gone(admin, pid))
        assert await router.fetchval(b, "SELECT 1") == 1
        assert await router.fetchval(a, "SELECT count(*) FROM students") == 0
        await nothing_leaked(router)


async def _gone(admin: Any, pid: int) -> bool:
    return not await admin.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid)


async def test_injected_sql_lifts_the_limits_of_its_scope(fresh: Product) -> None:
    settings = {"settings": {"idle_in_transaction_session_timeout": "500ms"}}
    async with fresh.open(pool={"max": 4}, shared=settings) as router:
        (a,) = await fresh.signed_up(router, limits={"statement_timeout": 500})
        (b,) = await fresh.signed_up(router)
        async with router.tenant(a) as conn:
            await conn.execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")
            assert await conn.fetchval("SELECT 2 FROM pg_sleep(0.6)") == 2
            assert await router.fetchval(b, "SELECT 1") == 1  # the others have the rest of the pool
        with pytest.raises(asyncpg.QueryCanceledError):  # and the next scope has its limits again
            await router.fetch(a, "SELECT pg_sleep(60)")
        await nothing_leaked(router)


async def test_temporary_files_are_bounded_by_a_limit_that_sql_can_not_lift(fresh: Product) -> None:
    fill = (
        "SELECT count(*) FROM (SELECT i, repeat('x', 100) AS t FROM generate_series(1, 100000) AS i "
        "ORDER BY t, i DESC OFFSET 0) AS s"
    )
    async with fresh.admin() as admin:
        await admin.execute(f"ALTER ROLE {APP} SET temp_file_limit = '1MB'")
        try:
            async with fresh.open(pool={"max": 1}) as router:
                a, b = await fresh.signed_up(router, 2)
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await router.execute(a, "SET temp_file_limit = -1")
                with pytest.raises(asyncpg.ConfigurationLimitExceededError):
                    async with router.tenant(a) as conn:
                        await conn.execute("SET work_mem = '64kB'")
                        await conn.fetch(fill)
                assert await router.fetchval(b, "SELECT 1") == 1
                await nothing_leaked(router)
        finally:
            await admin.execute(f"ALTER ROLE {APP} RESET ALL")
    async with fresh.open(pool={"max": 1}) as router:  # unset: nothing bounds it
        (a,) = await fresh.signed_up(router)
        async with router.tenant(a) as conn:
            await conn.execute("SET work_mem = '64kB'")
            assert await conn.fetchval(fill) == 100000


async def test_another_tenants_lock_shuts_it_out_until_the_scope_ends(direct: Product) -> None:
    async with direct.open(pool={"max": 4}) as router:
        a, b, c = await direct.signed_up(router, 3)
        async with router.tenant(a) as conn:
            await conn.execute(f"SELECT pg_advisory_lock({LOCK_OF.format(b)})")
            with pytest.raises(TenantMoving):
                await router.fetch(b, "SELECT 1", timeout=0.2)
            assert await router.fetchval(c, "SELECT 1") == 1
            waiting = asyncio.create_task(router.fetchval(b, "SELECT 1"))
            await until(lambda: len(router.fence_wait) == 1)
        assert await waiting == 1
        await nothing_leaked(router)


async def test_a_prepared_transaction_keeps_another_tenants_lock_until_it_is_rolled_back(fresh: Product) -> None:
    async with fresh.open(pool={"max": 1}) as router, fresh.admin() as admin:
        a, b = await fresh.signed_up(router, 2)
        with pytest.raises(Exception, match="ended its transaction"):
            async with router.tenant(a) as conn:
                await conn.execute(f"SELECT pg_advisory_xact_lock({LOCK_OF.format(b)})")
                await conn.execute("PREPARE TRANSACTION 'shut out'")
        with pytest.raises(TenantMoving):
            await router.fetch(b, "SELECT 1", timeout=0.2)
        await admin.execute("ROLLBACK PREPARED 'shut out'")
        assert await router.fetchval(b, "SELECT 1") == 1
        await nothing_leaked(router)


async def test_a_locked_table_makes_others_wait_until_the_scope_ends(fresh: Product) -> None:
    async with fresh.open(pool={"max": 2}) as router, fresh.admin() as admin:
        a, b = await fresh.signed_up(router, 2)
        async with router.tenant(a) as conn:
            await conn.execute("LOCK TABLE students IN ACCESS EXCLUSIVE MODE")
            waiting = asyncio.create_task(router.fetchval(b, "SELECT count(*) FROM students"))
            await until(lambda: _waits(admin))
            assert not waiting.done()
        assert await waiting == 0
        async with router.tenant(a) as conn:
            await conn.execute("LOCK TABLE students IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(asyncpg.LockNotAvailableError):
                async with router.tenant(b) as other:
                    await other.execute("SET LOCAL lock_timeout = '10ms'")
                    await other.fetch("SELECT FROM students")
        await nothing_leaked(router)


async def _waits(admin: Any) -> bool:
    waits = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND wait_event_type = 'Lock'"
    return bool(await admin.fetchval(waits, APP))


async def test_a_full_table_of_locks_fails_others_until_the_scope_ends(fresh: Product) -> None:
    async with fresh.open(pool={"max": 2}) as router:
        a, b = await fresh.signed_up(router, 2)
        await router.fetch(b, "SELECT 1")
        async with router.tenant(a) as conn:
            await conn.execute(
                "DO $$ BEGIN PERFORM pg_advisory_lock(i) FROM generate_series(1, 10000000) AS i; "
                "EXCEPTION WHEN out_of_memory THEN NULL; END $$"
            )
            with pytest.raises((asyncpg.OutOfMemoryError, TenantBusy, DatabaseUnavailable)):
                await router.execute(b, "INSERT INTO students (id, name) VALUES (1, 'x')", timeout=1)
        assert await router.execute(b, "INSERT INTO students (id, name) VALUES (1, 'x')") == "INSERT 0 1"
        await nothing_leaked(router)


async def test_ending_and_cancelling_others_sessions_fails_what_runs_and_nothing_else(fresh: Product) -> None:
    others = "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = current_user"
    async with fresh.open(pool={"max": 3}) as router, fresh.admin() as admin:
        a, b = await fresh.signed_up(router, 2)
        for what, error in (
            ("pg_cancel_backend", asyncpg.QueryCanceledError),
            ("pg_terminate_backend", (asyncpg.PostgresConnectionError, asyncpg.AdminShutdownError)),
        ):
            async with router.tenant(a) as conn:
                running = asyncio.create_task(router.execute(b, "DO $$ BEGIN PERFORM pg_sleep(60); END $$"))
                await until(lambda: _sleeps(admin))
                await conn.fetch(f"SELECT {what}(pid) {others}")
                with pytest.raises(error):
                    await running
        tasks = [asyncio.create_task(router.fetch(b, "SELECT pg_sleep(0.05)")) for _ in range(2)]
        await asyncio.gather(*tasks)  # two connections are idle now
        async with router.tenant(a) as conn:
            await conn.fetch(f"SELECT pg_terminate_backend(pid) {others}")
        for _ in range(3):
            assert await router.fetchval(b, "SELECT 1") == 1
        await nothing_leaked(router)


async def _sleeps(admin: Any) -> bool:
    sleeps = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND wait_event = 'PgSleep'"
    return bool(await admin.fetchval(sleeps, APP))


async def test_a_role_can_spoil_its_own_later_sessions(fresh: Product) -> None:
    async with fresh.open(pool={"max": 1}) as router, fresh.admin() as admin:
        a, b = await fresh.signed_up(router, 2)
        try:
            await router.execute(a, "ALTER ROLE CURRENT_USER SET default_transaction_read_only = on")
            await router.execute(a, "ALTER ROLE CURRENT_USER PASSWORD 'of the attacker'")
            assert await admin.fetchval("SELECT rolpassword IS NOT NULL FROM pg_authid WHERE rolname = $1", APP)
            assert await router.execute(b, "INSERT INTO students (id, name) VALUES (1, 'x')") == "INSERT 0 1"
            async with fresh.open(pool={"max": 1}) as later:
                with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                    await later.execute(b, "INSERT INTO students (id, name) VALUES (2, 'x')")
        finally:
            await admin.execute(f"ALTER ROLE {APP} PASSWORD NULL; ALTER ROLE {APP} RESET ALL")
        async with fresh.open(pool={"max": 1}) as later:
            assert await later.execute(b, "INSERT INTO students (id, name) VALUES (2, 'x')") == "INSERT 0 1"


async def test_work_left_for_the_commit_holds_that_connection_only(direct: Product) -> None:
    async with direct.open(pool={"max": 2}) as router, direct.admin() as admin:
        a, b = await direct.signed_up(router, 2)
        await router.fetch(b, "SELECT 1")
        await admin.execute("SELECT pg_advisory_lock(815)")

        async def leave_work() -> None:
            async with router.tenant(a) as conn:
                await conn.execute("DECLARE c CURSOR WITH HOLD FOR SELECT pg_advisory_xact_lock_shared(815)")

        leaving = asyncio.create_task(leave_work())
        await until(lambda: _waits(admin))
        assert await router.fetchval(b, "SELECT 1") == 1
        assert not leaving.done()
        await admin.execute("SELECT pg_advisory_unlock(815)")
        await leaving
        await nothing_leaked(router)


@pytest.mark.parametrize("hardened", [False, True])
async def test_false_placements_harm_nobody_and_hardened_mode_refuses_them(
    pg18: EmbeddedServer, hardened: bool
) -> None:
    with product_on(pg18, hardened=hardened) as product:
        async with product.open(pool={"max": 2}) as router, product.admin() as admin:
            a, b = await product.signed_up(router, 2)
            squatted = product.new_id()
            enroll = f"SELECT tenantry.enroll('{squatted}', 1)"
            with pytest.raises(asyncpg.PostgresError):  # a scope can't
                await router.execute(a, enroll)
            with pytest.raises(Exception, match=r"ended its transaction|proof"):
                async with router.tenant(a) as conn:
                    await conn.execute("COMMIT")
                    await conn.execute(enroll)
            made = await admin.fetchval("SELECT count(*) FROM tenantry.placement WHERE tenant = $1", str(squatted))
            assert made == (0 if hardened else 1)
            await router.add_tenant(squatted)
            assert await router.fetchval(squatted, "SELECT tenantry.current_tenant()") == squatted
            assert await router.fetchval(b, "SELECT 1") == 1
            await nothing_leaked(router)


@pytest.mark.parametrize("resets", [False, True])
async def test_another_service_behind_the_pooler_finds_what_an_ended_transaction_leaves_unless_it_resets(
    pg18: EmbeddedServer, resets: bool
) -> None:
    settings = {"server_reset_query_always": str(int(resets))}
    with (
        product_on(pg18) as direct,
        PgBouncer.start(pg18, "transaction", pool_size=1, settings=settings) as bouncer,
    ):
        product = direct.behind(bouncer.instead)
        async with product.open(pool={"max": 1}) as router:
            (a,) = await product.signed_up(router)
            other: Any = await asyncpg.connect(product.dsn(), statement_cache_size=0)
            try:
                with pytest.raises(ScopeLost):
                    async with router.tenant(a) as conn:
                        await conn.execute("SET work_mem = '77MB'; CREATE TEMP TABLE left_behind (x int); COMMIT")
                        found = await other.fetchval("SHOW work_mem") == "77MB"
                        table = await other.fetchval("SELECT to_regclass('pg_temp.left_behind') IS NOT NULL")
                        assert (found, table) == (not resets, not resets)
                # At its own end a scope has its session reset, before the pooler can give it to anybody.
                await router.execute(a, "SET work_mem = '77MB'")
                assert await other.fetchval("SHOW work_mem") != "77MB"
            finally:
                await other.close()
