"""The harness itself: what it measures is true, what it breaks is broken."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import asyncpg
import pytest

from tenantry.embedded import EmbeddedServer
from tests.support import pgbouncer
from tests.support.databases import database as living_database
from tests.support.databases import drop_database, new_database
from tests.support.pgbouncer import PgBouncer, PgBouncerDied, PoolMode
from tests.support.programs import missing
from tests.support.proxy import Proxy, Verdict
from tests.support.twins import TWINS, has_a_twin_in_every_run

ROOT = Path(__file__).parents[2]
GONE = (asyncpg.ConnectionDoesNotExistError, asyncpg.InterfaceError, OSError)


@pytest.fixture
async def proxy(pg: EmbeddedServer) -> AsyncIterator[Proxy]:
    async with Proxy(pg.host, pg.port) as proxy:
        yield proxy


@pytest.fixture
async def connection(pg: EmbeddedServer, proxy: Proxy) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(proxy.dsn(pg.dsn()))
    yield connection
    connection.terminate()


async def test_the_hand_written_wrapper_takes_five_flights(pg: EmbeddedServer, proxy: Proxy) -> None:
    async def wrapper(pool: asyncpg.Pool) -> None:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT set_config('app.current_tenant', $1, true)", "7")
            await connection.fetchval("SELECT 1")

    async with asyncpg.create_pool(proxy.dsn(pg.dsn()), min_size=1, max_size=1) as pool:
        await wrapper(pool)  # the first time prepares the statements
        before = proxy.flights
        await wrapper(pool)
        assert proxy.flights - before == 5
        assert proxy.connections == 1


async def test_one_message_of_many_statements_is_one_flight(proxy: Proxy, connection: asyncpg.Connection) -> None:
    before = proxy.flights
    await connection.execute("BEGIN; SELECT 1; SELECT 2; COMMIT")
    assert proxy.flights - before == 1


async def test_large_results_and_copies_pass_unharmed(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch("SELECT repeat('x', 10000) AS x FROM generate_series(1, 300)")
    assert {len(row["x"]) for row in rows} == {10_000}
    await connection.execute("CREATE TEMP TABLE t (i int)")
    await connection.copy_records_to_table("t", records=[(i,) for i in range(10_000)])
    assert await connection.fetchval("SELECT sum(i) FROM t") == sum(range(10_000))


@pytest.mark.parametrize("verdict", [Verdict.CUT, Verdict.RESET])
async def test_a_connection_ends_before_the_message_that_the_test_names(
    pg: EmbeddedServer,
    proxy: Proxy,
    connection: asyncpg.Connection,
    verdict: Verdict,
) -> None:
    pg.psql("DROP TABLE IF EXISTS marks; CREATE TABLE marks (i int)")
    stop = proxy.stop_when(b"COMMIT", verdict=verdict)
    await connection.execute("BEGIN; INSERT INTO marks VALUES (1)")
    with pytest.raises(GONE):
        await connection.execute("COMMIT")
    assert stop.passed.is_set()
    assert pg.psql("SELECT count(*) FROM marks") == "0"


async def test_a_dropped_reply_leaves_the_commit_done_and_unacknowledged(
    pg: EmbeddedServer, proxy: Proxy, connection: asyncpg.Connection
) -> None:
    pg.psql("DROP TABLE IF EXISTS marks; CREATE TABLE marks (i int)")
    answer = proxy.stop_when(b"INSERT 0 1", "server", Verdict.DROP)
    proxy.drop_replies = True
    insert = asyncio.ensure_future(connection.execute("INSERT INTO marks VALUES (1)"))
    # The hook sees the reply before it is dropped: the server has committed by then.
    await answer.passed.wait()
    assert not insert.done()
    assert pg.psql("SELECT count(*) FROM marks") == "1"
    proxy.cut()
    with pytest.raises(GONE):
        await insert


async def test_a_held_connection_stays_silent_until_it_is_released(
    proxy: Proxy, connection: asyncpg.Connection
) -> None:
    stop = proxy.stop_when(b"SELECT 17")
    query = asyncio.ensure_future(connection.fetchval("SELECT 17"))
    await stop.passed.wait()
    assert proxy.open_connections == 1
    assert not query.done()
    proxy.release()
    assert await query == 17


async def test_latency_is_paid_in_both_directions(proxy: Proxy, connection: asyncpg.Connection) -> None:
    loop = asyncio.get_running_loop()
    proxy.latency = 0.03
    begin = loop.time()
    await connection.execute("SELECT 1")
    assert loop.time() - begin >= 0.06


async def test_the_rate_limits_bytes_per_second(proxy: Proxy, connection: asyncpg.Connection) -> None:
    loop = asyncio.get_running_loop()
    proxy.rate = 100_000
    begin = loop.time()
    await connection.fetchval("SELECT repeat('x', 20000)")
    assert loop.time() - begin >= 0.2


async def test_refused_and_reset_connections_fail_and_come_back(pg: EmbeddedServer, proxy: Proxy) -> None:
    url = proxy.dsn(pg.dsn())
    await proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await asyncpg.connect(url)
    await proxy.listen_again()
    proxy.accepting = False
    with pytest.raises(GONE):
        await asyncpg.connect(url)
    proxy.accepting = True
    connection = await asyncpg.connect(url)
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()


async def test_half_open_then_reset_breaks_every_connection(proxy: Proxy, connection: asyncpg.Connection) -> None:
    proxy.hold()
    query = asyncio.ensure_future(connection.fetchval("SELECT 1"))
    proxy.reset()
    with pytest.raises(GONE):
        await query


@pytest.mark.parametrize("mode", ["session", "transaction", "statement"])
async def test_pgbouncer_serves_any_user_and_database_in_the_mode_asked_for(
    pg18: EmbeddedServer, mode: PoolMode
) -> None:
    pg18.psql("DROP ROLE IF EXISTS visitor; CREATE ROLE visitor LOGIN")
    with living_database(pg18) as name, PgBouncer.start(pg18, mode) as bouncer:
        connection = await asyncpg.connect(bouncer.dsn(name, "visitor"), statement_cache_size=0)
        try:
            answer = await connection.execute("SELECT current_user, current_database()")
            assert answer == "SELECT 1"
            if mode == "statement":
                with pytest.raises(asyncpg.PostgresError, match="transaction blocks not allowed"):
                    await connection.execute("BEGIN")
        finally:
            connection.terminate()
    assert bouncer.pid is None


DIES = """
import os, signal, time
from tests.support.pgbouncer import PgBouncer

def test_a_statement_through_pgbouncer(pg18):
    with PgBouncer.start(pg18) as bouncer:
        os.kill(bouncer.pid, signal.SIGKILL)
        while not bouncer.obituary():
            time.sleep(0.01)
        raise ConnectionRefusedError
"""


def test_a_pgbouncer_that_dies_under_a_test_is_told_with_its_log(pg18: EmbeddedServer, tmp_path: Path) -> None:
    with PgBouncer.start(pg18) as bouncer:
        assert bouncer.pid
        assert pgbouncer.obituaries() == []
        os.kill(bouncer.pid, signal.SIGKILL)
        while not pgbouncer.obituaries():
            time.sleep(0.01)
        with pytest.raises(PgBouncerDied, match=r"(?s)ended by itself with -9; its log ends:.*listening on"):
            bouncer.dsn()
    assert "ended by itself with -9" in pgbouncer.obituaries()[0]  # until the test has been reported
    pgbouncer.forget()
    assert pgbouncer.obituaries() == []
    (tmp_path / "test_it.py").write_text(DIES)
    options = ["-q", "-p", "no:randomly", "-p", "no:cacheprovider", "-p", "tests.conftest"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "test_it.py"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "PgBouncer died" in ran.stdout, ran.stdout + ran.stderr
    assert "ended by itself with -9" in ran.stdout


def test_dropping_a_database_takes_slots_subscriptions_and_prepared_transactions_with_it(
    pg: EmbeddedServer,
) -> None:
    name = new_database(pg)
    pg.psql("SELECT pg_create_logical_replication_slot('held', 'pgoutput')", name)
    pg.psql(
        "CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p"
        " WITH (connect = false); CREATE TABLE t (i int);"
        " BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'left';",
        name,
    )
    drop_database(pg, name)
    assert pg.psql(f"SELECT count(*) FROM pg_database WHERE datname = '{name}'") == "0"
    assert pg.psql("SELECT count(*) FROM pg_prepared_xacts WHERE gid = 'left'") == "0"


def test_a_missing_program_skips_on_a_desk_and_fails_where_it_is_demanded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TENANTRY_CI_REQUIRE", raising=False)
    with pytest.raises(pytest.skip.Exception):
        missing("nothing-of-that-name", "not installed")
    monkeypatch.setenv("TENANTRY_CI_REQUIRE", "pg15,nothing-of-that-name")
    with pytest.raises(pytest.fail.Exception, match="demands nothing-of-that-name"):
        missing("nothing-of-that-name", "not installed")


def left_out(path: str, fixture: str, value: str, *marks: str) -> bool:
    """Whether a test of that place, with that value of a fixture, runs with `make long` only."""
    item = SimpleNamespace(
        nodeid=f"{path}[{value}-x]",
        callspec=SimpleNamespace(params={fixture: value, "other": "x"}),
        get_closest_marker=lambda name: name if name in marks else None,
    )
    return has_a_twin_in_every_run(cast(Any, item))


@pytest.mark.parametrize(("fixture", "where", "twins"), TWINS, ids=lambda value: "")
def test_of_two_twins_every_run_has_one_and_over_all_tests_both(
    fixture: str, where: tuple[str, ...], twins: tuple[str, str]
) -> None:
    for folder in where:
        runs = [[left_out(f"{folder}::test_{n}", fixture, one) for one in twins] for n in range(50)]
        assert {sum(run) for run in runs} == {1}
        assert {run[0] for run in runs} == {True, False}


def test_the_fault_matrix_and_what_is_no_twin_lose_no_cell() -> None:
    for fixture, where, twins in TWINS:
        for one in twins:
            names = [f"{where[0]}::test_{n}" for n in range(50)]
            assert not any(left_out(name, fixture, one, "faults") for name in names)
            assert not any(left_out(name, fixture, "another") for name in names)
    assert not left_out("tests/integration/move/test_move.py::test_x", "pg", "pg16")
