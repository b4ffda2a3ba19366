"""Cancel requests of scopes that were left too early: they go the connection's way, and hit nobody else.

PgBouncer in transaction mode gives a server process to another client as soon as a transaction is over, so a
cancel request that comes late, or comes again, could end a neighbour's statement.
"""

# ruff: noqa: PT012  (what raises is the end of the scope, so the whole scope stands in the block)

from __future__ import annotations

import asyncio
import random
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from tenantry import Router, ScopeLost
from tenantry.embedded import EmbeddedServer
from tenantry.embedded.folder import Folder
from tenantry.ids import TenantId
from tests.support.pgbouncer import PgBouncer
from tests.support.product import APP, Product, product_on
from tests.support.programs import require_program
from tests.support.quiet import nothing_leaked
from tests.support.until import until

ROUNDS = 300
MARK = "/* left behind */"
CUT_OFF = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


@pytest.fixture(params=["direct", "pgbouncer"])
def narrow(request: pytest.FixtureRequest, pg16: EmbeddedServer) -> Iterator[Product]:
    """A product on two server processes, for however many routers: PgBouncer has no more of them."""
    if request.param == "direct":
        with product_on(pg16) as product:
            yield product
        return
    with (
        # A request whose statement has ended meanwhile counts with PgBouncer as a failed login: it would open no
        # server connection for 15 s.
        PgBouncer.start(pg16, "transaction", pool_size=2, settings={"server_login_retry": "1"}) as bouncer,
        product_on(pg16, via=bouncer.instead) as product,
    ):
        yield product


async def test_no_neighbours_statement_is_cancelled(narrow: Product) -> None:
    dice = random.Random(7)
    async with narrow.open(pool={"max": 2}) as one, narrow.open(pool={"max": 2}) as two, narrow.admin() as admin:
        a, b = await narrow.signed_up(one, 2)
        await one.execute(a, "INSERT INTO students (name) VALUES ('x')")
        await one.execute(b, "INSERT INTO students (name) VALUES ('x')")
        done = asyncio.Event()
        async with asyncio.TaskGroup() as group:  # raises what any of the neighbours was told
            # No more callers than connections: while callers wait, hand-off keeps PgBouncer's processes.
            neighbours = [group.create_task(neighbour(router, b, done)) for router in (one, two, two)]
            for _ in range(ROUNDS):
                await leave_early(one, a, dice)
            done.set()
        assert min(task.result() for task in neighbours) > ROUNDS / 10, "the neighbours were hardly there"
        await until(lambda: done_with(admin))
        assert await one.execute(a, "UPDATE students SET name = 'mine'") == "UPDATE 1"
        await nothing_leaked(one)
        await nothing_leaked(two)


async def done_with(admin: Any) -> bool:
    """The server has no marked statement in hand."""
    return not await executing(admin)


async def neighbour(router: Router, tenant: TenantId, done: asyncio.Event) -> int:
    """Quick statements, one after the other; returns how many scopes they were."""
    scopes = 0
    while not done.is_set():
        async with router.tenant(tenant) as conn:
            await conn.execute("UPDATE students SET name = name")
            await conn.fetchval("SELECT 1 FROM pg_sleep(0.002)")
            await conn.fetch("SELECT * FROM students")
        scopes += 1
    return scopes


async def leave_early(router: Router, tenant: TenantId, dice: random.Random) -> None:
    """Leave a scope in one of the wrong ways, about when its statement ends by itself, or long before."""
    seconds = dice.choice([600.0, 0.0, 0.001, 0.002, 0.005])
    before = dice.choice(["UPDATE students SET name = 'mine'; ", "COMMIT; ", ""])
    sql = f"{before}SELECT pg_sleep({seconds}) {MARK}"
    way: Callable[..., Any] = dice.choice([unawaited, cancelled, out_of_time])
    with suppress(ScopeLost, *CUT_OFF):
        await way(router, tenant, sql, dice.choice([0.0, 0.001, 0.002, 0.005]))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that PgBouncer's user can write, with a path short enough for a socket."""
    made = Folder.temporary("tenantry-cancels-", short=True)
    yield made.path
    made.remove()


@pytest.mark.parametrize("way", ["tls", "unix"])
async def test_a_cancel_request_goes_the_way_of_its_connection(
    pg16: EmbeddedServer, way: str, folder: Path
) -> None:
    with (
        PgBouncer.start(pg16, "transaction", pool_size=2, settings=listening(way, folder)) as bouncer,
        product_on(pg16, via=lambda url: addressed(bouncer, url, way, folder)) as product,
    ):
        async with product.open(pool={"max": 1}) as router, product.admin() as admin:
            [a] = await product.signed_up(router)
            with pytest.raises(ScopeLost):
                async with router.tenant(a) as conn:
                    task = asyncio.create_task(conn.execute(f"SELECT pg_sleep(600) {MARK}"))
                    await until(lambda: executing(admin))
            with pytest.raises(asyncpg.QueryCanceledError):
                await task
            assert not await executing(admin)
            await nothing_leaked(router)


def listening(way: str, folder: Path) -> dict[str, str]:
    """PgBouncer's settings for one way to it."""
    if way == "unix":
        return {"unix_socket_dir": str(folder)}
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    request = "req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost"
    command = [str(require_program("openssl")), *request.split(), "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    key.chmod(0o644)  # PgBouncer may run as another user
    return {
        "client_tls_sslmode": "require",
        "client_tls_key_file": str(key),
        "client_tls_cert_file": str(certificate),
    }


def addressed(bouncer: PgBouncer, url: str, way: str, folder: Path) -> str:
    """The DSN of a database of the server, that way."""
    if way == "tls":
        return f"{bouncer.instead(url)}?sslmode=require"
    parts = urlsplit(url)
    return f"postgresql://{parts.username}@{parts.path}?host={folder}&port={bouncer.port}"


async def test_the_servers_own_check_ends_what_no_cancel_request_reaches(narrow: Product) -> None:
    """As `docs/reference/config.md` advises. PgBouncer closes the server's connection when its client is gone."""
    async with narrow.admin() as admin:
        await admin.execute(
            f"ALTER ROLE {APP} IN DATABASE {narrow.database} SET client_connection_check_interval = '200ms'"
        )
        async with narrow.open(pool={"max": 1}) as router:
            [a] = await narrow.signed_up(router)
            with pytest.raises(ScopeLost):
                async with router.tenant(a) as conn:
                    task = asyncio.create_task(conn.execute(f"SELECT pg_sleep(600) {MARK}"))
                    await until(lambda: executing(admin))
                    conn.terminate()
            with pytest.raises(CUT_OFF):
                await task
            await until(lambda: done_with(admin))
            await nothing_leaked(router)


async def executing(admin: Any) -> bool:
    """The server has a marked statement in hand."""
    count = await admin.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE strpos(query, $1) > 0 AND state = 'active'", MARK
    )
    return bool(count)


async def unawaited(router: Router, tenant: TenantId, sql: str, seconds: float) -> None:
    task = None
    try:
        async with router.tenant(tenant) as conn:
            task = asyncio.create_task(conn.execute(sql))
            await asyncio.sleep(seconds)
    finally:
        if task is not None:
            await asyncio.wait([task])
            task.exception()


async def cancelled(router: Router, tenant: TenantId, sql: str, seconds: float) -> None:
    task = asyncio.create_task(router.execute(tenant, sql))
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()


async def out_of_time(router: Router, tenant: TenantId, sql: str, seconds: float) -> None:
    async with router.tenant(tenant) as conn:
        with suppress(TimeoutError):
            await conn.execute(sql, timeout=seconds + 0.001)
