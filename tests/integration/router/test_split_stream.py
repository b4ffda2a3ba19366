"""The server's answers arrive in pieces of any size: each caller gets its own, whatever stands between them."""

# ruff: noqa: PT012  (what raises is the end of the scope, so the whole scope stands in the block)

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from tenantry import ScopeLost
from tests.support.product import Product
from tests.support.quiet import nothing_leaked


@asynccontextmanager
async def in_pieces(product: Product, dice: random.Random) -> AsyncIterator[Product]:
    """The product behind a TCP relay that passes the server's bytes on in random pieces."""
    relays: set[asyncio.Task[Any]] = set()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, cut: bool) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                while data:
                    size = dice.randint(1, dice.choice((1, 3, 6, 40))) if cut else len(data)
                    writer.write(data[:size])
                    data = data[size:]
                    await asyncio.sleep(0)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to, back = await asyncio.open_connection(product.server.host, product.server.port)
        relays.add(asyncio.create_task(relay(reader, back, cut=False)))
        relays.add(asyncio.create_task(relay(to, writer, cut=True)))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield product.behind(lambda dsn: dsn.replace(f":{product.server.port}/", f":{port}/"))
    finally:
        server.close()
        for task in relays:
            task.cancel()
        await asyncio.gather(*relays, return_exceptions=True)


@pytest.mark.parametrize("seed", range(4))
async def test_callers_get_their_own_answers_however_the_stream_is_cut(direct: Product, seed: int) -> None:
    dice = random.Random(seed)
    async with (
        in_pieces(direct, dice) as product,
        product.open(pool={"max": 2}) as router,
        direct.admin() as admin,
    ):
        tenants = await direct.signed_up(router, 3)
        names = {tenant: f"of {number}" for number, tenant in enumerate(tenants)}
        for tenant in tenants:
            await router.execute(tenant, "INSERT INTO students (id, name) VALUES (1, $1)", names[tenant])
            await router.execute(tenant, "INSERT INTO courses (id) VALUES (1)")

        async def caller() -> None:
            for _ in range(12):
                tenant = dice.choice(tenants)
                kind = dice.randrange(6)
                if kind == 0:  # an error at COMMIT
                    with pytest.raises(asyncpg.ForeignKeyViolationError):
                        async with router.tenant(tenant) as conn:
                            await conn.execute(
                                "INSERT INTO enrolments (student, course) VALUES (404, 1)"
                            )  # deferred
                elif kind == 1:  # an error in a statement, swallowed
                    with pytest.raises(ScopeLost):
                        async with router.tenant(tenant) as conn:
                            with pytest.raises(asyncpg.DivisionByZeroError):
                                await conn.fetchval("SELECT 1 / 0")
                elif kind == 2:  # notices, parameter changes, a notification to everybody
                    async with router.tenant(tenant) as conn:
                        await conn.execute("SET client_min_messages = debug1; SET DateStyle = 'German, DMY'")
                        await conn.execute("DO $$ BEGIN RAISE NOTICE 'look'; END $$; NOTIFY everybody, 'Z'")
                elif kind == 3:  # COPY out
                    rows = bytearray()

                    async def keep(data: bytes, rows: bytearray = rows) -> None:
                        rows.extend(data)

                    async with router.tenant(tenant) as conn:
                        await conn.copy_from_query("SELECT name FROM students WHERE id = 1", output=keep)
                    assert rows.decode().strip() == names[tenant]
                else:
                    claims = dice.choice((None, {"sub": names[tenant]}))
                    claimed = "SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'"
                    async with router.tenant(tenant, claims=claims) as conn:
                        assert await conn.fetchval("SELECT name FROM students WHERE id = 1") == names[tenant]
                        assert await conn.fetchval(claimed) == (claims and claims["sub"])
                        assert len(await conn.fetch("SELECT repeat('x', 50) FROM generate_series(1, 40)")) == 40

        await asyncio.gather(*(caller() for _ in range(6)))
        assert await admin.fetchval("SELECT count(*) FROM enrolments WHERE student = 404") == 0
        await nothing_leaked(router)
