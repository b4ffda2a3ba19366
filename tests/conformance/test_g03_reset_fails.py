"""G3: behind a pooler, a server process that a scope has left so that it can't be reset goes to nobody."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import asyncpg
import pytest

from tenantry.embedded import EmbeddedServer
from tests.support.pgbouncer import PgBouncer
from tests.support.product import product_on
from tests.support.quiet import nothing_leaked
from tests.support.until import until

#: What the reset takes longer for than its statement may: session locks to give back.
LOCKS = "SELECT count(pg_advisory_lock(n)) FROM generate_series(1, 9000) AS n"
#: At COMMIT, for what comes after it.
SHORT = "DECLARE c CURSOR WITH HOLD FOR SELECT set_config('statement_timeout', '1ms', false)"


@pytest.mark.parametrize("waiting", [False, True], ids=["nobody waits", "somebody waits"])
async def test_a_server_process_that_can_not_be_reset_is_ended_and_others_are_served(
    pg18: EmbeddedServer, waiting: bool
) -> None:
    with (
        PgBouncer.start(pg18, "transaction", pool_size=1) as bouncer,
        product_on(pg18, via=bouncer.instead) as product,
    ):
        async with product.open(pool={"max": 1}) as router:
            a, b = await product.signed_up(router, 2)
            next_one: asyncio.Task[Any] | None = None
            async with router.tenant(a) as conn:
                process = await conn.fetchval("SELECT pg_backend_pid()")
                await conn.execute("SET LOCAL statement_timeout = 0")
                await conn.execute(LOCKS)
                await conn.execute("CREATE TEMP TABLE left_behind (n int)")
                await conn.execute(SHORT)
                if waiting:
                    pool = router.pools.open_pools()["shared"]
                    next_one = asyncio.create_task(router.fetchval(b, "SELECT count(*) FROM students"))
                    await until(lambda: pool.admission.waiting == 1)
            if next_one is not None:
                assert await next_one == 0
            stranger = await asyncpg.connect(product.dsn(), statement_cache_size=0)
            try:
                assert await stranger.fetchval("SHOW statement_timeout") == "0"
                assert await stranger.fetchval("SELECT to_regclass('pg_temp.left_behind')") is None
                assert await stranger.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
                if not waiting:
                    assert await stranger.fetchval("SELECT pg_backend_pid()") != process
            finally:
                await stranger.close()
            assert await router.fetchval(b, "SELECT count(*) FROM students") == 0
            await nothing_leaked(router)


@pytest.mark.parametrize("ending", ["COMMIT", "ROLLBACK"])
@pytest.mark.parametrize("isolation", [None, "repeatable_read", "serializable"])
async def test_a_read_only_scopes_reset_behind_a_pooler_waits_for_nobody(
    pg18: EmbeddedServer, isolation: str | None, ending: str
) -> None:
    """A deferrable scope's own transaction would wait until the serializable ones of others have ended."""
    with (
        PgBouncer.start(pg18, "transaction", pool_size=1) as bouncer,
        product_on(pg18, via=bouncer.instead) as product,
    ):
        async with product.open(pool={"max": 1}) as router, product.admin() as admin:
            [a] = await product.signed_up(router)
            mode: Any = {"readonly": True, "isolation": isolation, "deferrable": isolation == "serializable"}
            for _ in range(2):
                with contextlib.suppress(ZeroDivisionError):
                    async with router.tenant(a, **mode) as conn:
                        process = await conn.fetchval("SELECT pg_backend_pid()")
                        await conn.execute("SET work_mem = '77MB'")
                        await admin.execute("BEGIN ISOLATION LEVEL SERIALIZABLE; UPDATE badges SET id = id")
                        if ending == "ROLLBACK":
                            raise ZeroDivisionError
                await admin.execute("COMMIT")
                stranger = await asyncpg.connect(product.dsn(), statement_cache_size=0)
                assert await stranger.fetchval("SELECT pg_backend_pid()") == process, "the reset has failed"
                assert await stranger.fetchval("SHOW work_mem") != "77MB"
                await stranger.close()
            await nothing_leaked(router)
