"""G24: schema changes, failovers and rotated secrets heal by themselves."""

# ruff: noqa: PT012  (the statement that fails is not the first of its scope)

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tenantry import DatabaseUnavailable
from tenantry.embedded import EmbeddedServer
from tests.support.product import APP, Product
from tests.support.quiet import nothing_leaked
from tests.support.until import until

CHANGES = {
    "a column added": ("ALTER TABLE students ADD extra int", "SELECT * FROM students WHERE id = $1", (1,)),
    "a column of another type": (
        "DROP VIEW names; ALTER TABLE students ALTER email TYPE int USING 0",
        "SELECT email FROM students WHERE id = $1",
        (1,),
    ),
    "an enum made anew": (
        "ALTER TYPE mood RENAME TO old; CREATE TYPE mood AS ENUM ('sad', 'ok', 'great'); "
        "ALTER TABLE moods ALTER m TYPE mood USING m::text::mood; DROP TYPE old",
        "SELECT m FROM moods WHERE m = $1",
        ("ok",),
    ),
    "a composite type changed": (
        "ALTER TABLE moods DROP c; DROP TYPE pair; CREATE TYPE pair AS (x int, y text, z int); "
        "ALTER TABLE moods ADD c pair",
        "SELECT c FROM moods WHERE m = 'ok' OR $1 = 1",
        (1,),
    ),
}
SETUP = (
    "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE pair AS (x int, y text); "
    "CREATE TABLE moods (m mood, c pair); INSERT INTO moods VALUES ('ok', (1, 'a')); "
    "GRANT SELECT ON moods TO PUBLIC"
)


@pytest.mark.parametrize("way", ["one-shot", "first statement", "run"])
@pytest.mark.parametrize("name", sorted(CHANGES))
async def test_a_schema_change_fails_no_one_shot_no_run_and_no_first_statement(
    fresh: Product, name: str, way: str
) -> None:
    change, query, args = CHANGES[name]
    async with fresh.admin() as admin, fresh.open(pool={"max": 4}, router={"tenant_share": 1.0}) as router:
        (a,) = await fresh.signed_up(router, 1)
        await admin.execute(SETUP)
        await router.execute(a, "INSERT INTO students (id, name) VALUES (1, 'Ada')")
        together = asyncio.Barrier(4)

        async def work(conn: Any) -> int:
            await conn.execute("SELECT 1")
            return len(await conn.fetch(query, *args))

        async def use(*, hold: bool) -> int:
            if way == "one-shot" and not hold:
                return len(await router.fetch(a, query, *args))
            if way == "run" and not hold:
                return await router.run(a, work)
            async with router.tenant(a) as conn:
                rows = await conn.fetch(query, *args)
                if hold:
                    await together.wait()
                return len(rows)

        assert await asyncio.gather(*(use(hold=True) for _ in range(4))) == [1] * 4, "on each connection"
        await admin.execute(change)
        for _ in range(2):
            assert await asyncio.gather(*(use(hold=False) for _ in range(4))) == [1] * 4
        await nothing_leaked(router)


async def test_all_connections_of_a_pool_learn_of_a_schema_change_by_one_failure(fresh: Product) -> None:
    change, query, args = CHANGES["a column added"]
    async with fresh.admin() as admin, fresh.open(pool={"max": 4}, router={"tenant_share": 1.0}) as router:
        (a,) = await fresh.signed_up(router, 1)
        together = asyncio.Barrier(4)

        async def use() -> str:
            async with router.tenant(a) as conn:
                await conn.execute("SELECT 1")  # the statement that fails is not the scope's first
                await conn.fetch(query, *args)
                await together.wait()
            return "ok"

        await asyncio.gather(*(use() for _ in range(4)))
        await admin.execute(change)
        with pytest.raises(asyncpg.InvalidCachedStatementError):
            async with router.tenant(a) as conn:
                await conn.execute("SELECT 1")
                await conn.fetch(query, *args)
        assert await asyncio.gather(*(use() for _ in range(4))) == ["ok"] * 4
        await nothing_leaked(router)


async def test_mistakes_of_the_application_are_told_as_they_are(direct: Product) -> None:
    async with direct.open(pool={"max": 1}) as router:
        (a,) = await direct.signed_up(router, 1)
        pid = await router.fetchval(a, "SELECT pg_backend_pid()")
        for _ in range(2):
            with pytest.raises(asyncpg.UndefinedTableError):
                await router.fetch(a, "SELECT * FROM nothing_there")
            with pytest.raises(asyncpg.InvalidSQLStatementNameError):
                await router.execute(a, "EXECUTE nothing_there")
        assert await router.fetchval(a, "SELECT pg_backend_pid()") == pid
        await nothing_leaked(router)


async def test_a_connection_cut_in_a_one_shot_or_a_run_costs_its_caller_nothing(direct: Product) -> None:
    async with direct.open(pool={"max": 1}) as router, direct.admin() as admin:
        (a,) = await direct.signed_up(router, 1)
        killed = []

        async def kill(pid: int) -> None:
            killed.append(pid)
            await admin.execute("SELECT pg_terminate_backend($1)", pid)

        async def work(conn: Any) -> int:
            await conn.execute("INSERT INTO students (name) VALUES ('x')")
            if not killed:
                await kill(await conn.fetchval("SELECT pg_backend_pid()"))
                await until(lambda: conn.is_closed())
            return int(await conn.fetchval("SELECT count(*) FROM students"))

        assert await router.run(a, work) == 1
        assert await router.fetchval(a, "SELECT count(*) FROM students") == 1
        await nothing_leaked(router)


async def test_a_password_that_was_rotated_in_its_file_is_found_there(
    pg18: EmbeddedServer, tmp_path: Path
) -> None:
    from tests.support.product import product_on

    with product_on(pg18) as product:
        secret = tmp_path / "shared.dsn"
        good = product.dsn()
        secret.write_text(good)
        async with product.open(pool={"max": 1}) as router, product.admin() as admin:
            await admin.execute(
                "INSERT INTO tenantry.database (name, kind, dsn) VALUES ('filed', 'shared', $1)", f"file:{secret}"
            )
            (a,) = await product.signed_up(router, 1)
            spec = await router.pools.spec("filed")
            assert spec.dsn == good
            # What stood in the file before leads nowhere any more.
            object.__setattr__(spec, "dsn", good.replace(APP, "nobody_by_this_name"))
            connection, _ = await router.pools.dial(spec)
            await connection.close()
            assert (await router.pools.spec("filed")).dsn == good
            assert await router.fetchval(a, "SELECT 1") == 1


async def test_a_writable_scope_is_never_opened_on_a_standby(pg18: EmbeddedServer) -> None:
    from tests.support.product import product_on

    with EmbeddedServer.start(18) as server, product_on(server) as product:
        async with product.open(pool={"max": 2}) as router:
            (a,) = await product.signed_up(router, 1)
            await router.execute(a, "INSERT INTO students (id, name) VALUES (1, 'x')")
            signal = server.folder / "data" / "standby.signal"
            signal.touch()
            os.chown(signal, *os.stat(server.folder / "data")[4:6])
            server.restart()
            with pytest.raises(DatabaseUnavailable, match="hot standby"):
                await router.execute(a, "INSERT INTO students (id, name) VALUES (2, 'x')")
            # Promoted, it takes writes again, and nothing has to be told to the router.
            server.psql("SELECT pg_promote()")

            async def written() -> bool:
                try:
                    await router.execute(a, "INSERT INTO students (id, name) VALUES (3, 'x')")
                except DatabaseUnavailable:
                    return False
                return True

            await until(written)
