"""The witness: attributes sessions by tag and wait class, one leader per database, counted once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from tenantry.catalog.tenancy import Tenancy
from tenantry.embedded import EmbeddedServer
from tenantry.errors import DatabaseUnavailable
from tenantry.ids import tag
from tenantry.usage import storage
from tenantry.usage.monitor import DatabaseMonitor, MonitorSet
from tenantry.usage.sampler import Activity, SampledSessions, SessionSampler, read_activity, sampled_sessions
from tests.integration.usage.conftest import NOON, Clock, Pool
from tests.support.proxy import Proxy, Verdict
from tests.support.until import until


@asynccontextmanager
async def running(
    pg: EmbeddedServer, database: str, name: str, sql: str
) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A session with that application_name in the middle of that statement."""
    session = await asyncpg.connect(pg.dsn(database), server_settings={"application_name": name})
    statement = asyncio.create_task(session.execute(sql))
    try:
        async with asyncpg.create_pool(pg.dsn(database), min_size=1, max_size=1) as pool:
            while not await pool.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND state = 'active' "
                "AND (wait_event IS NOT NULL OR query LIKE '%generate_series%')",
                session.get_server_pid(),
            ):
                pass
        yield session
    finally:
        session.terminate()
        await asyncio.gather(statement, return_exceptions=True)


async def test_active_sessions_are_attributed_to_tenants_and_wait_classes(
    pg: EmbeddedServer, database: str
) -> None:
    pg.psql("CREATE TABLE t (i int); INSERT INTO t VALUES (1)", database)
    long_id = "x" * 60
    connection = await asyncpg.connect(pg.dsn(database))
    try:
        async with (
            running(pg, database, tag("a"), "SELECT pg_sleep(60)"),
            running(pg, database, tag("b"), "BEGIN; LOCK TABLE t; SELECT pg_sleep(60)"),
            running(pg, database, tag("a"), "SELECT * FROM t"),
            running(pg, database, tag(long_id), "SELECT count(*) FROM generate_series(1, 1e9)"),
            running(pg, database, "cron", "SELECT pg_sleep(60)"),
        ):
            seen = {(some.tenant, some.wait): some for some in await read_activity(connection)}
    finally:
        await connection.close()

    assert {key: some.sessions for key, some in seen.items() if some.active} == {
        ("a", "Timeout"): 1,
        ("b", "Timeout"): 1,
        ("a", "Lock"): 1,
        (tag(long_id).removeprefix("tenantry:"), "CPU"): 1,
        ("", "Timeout"): 1,
    } or seen[tag(long_id).removeprefix("tenantry:"), "IO"].sessions == 1


async def test_sessions_that_the_role_may_not_see_are_counted_as_hidden(
    pg: EmbeddedServer, database: str, control: Pool
) -> None:
    pg.psql("DROP ROLE IF EXISTS blind; CREATE ROLE blind LOGIN")
    connection = await asyncpg.connect(pg.dsn(database, "blind"))
    try:
        async with running(pg, database, tag("a"), "SELECT pg_sleep(60)"):
            sampler = SessionSampler("shared", control, uuid4(), NOON)
            sampler.record(await read_activity(connection), NOON)
    finally:
        await connection.close()
        pg.psql("DROP ROLE blind")

    assert sampler.hidden == 1


def activity(tenant: str, sessions: int = 1, wait: str = "CPU", state: str = "active") -> Activity:
    return Activity(tenant, state, wait, sessions, 0.0)


async def test_samples_are_counted_once_even_when_the_answer_is_lost(
    pg: EmbeddedServer, control_name: str, control: Pool
) -> None:
    async with (
        Proxy(pg.host, pg.port) as proxy,
        asyncpg.create_pool(proxy.dsn(pg.dsn(control_name)), min_size=0, statement_cache_size=0) as flaky,
    ):
        sampler = SessionSampler("shared", flaky, uuid4(), NOON)
        await sampler.flush(NOON)
        sampler.record([activity("a", 2), activity("b"), activity("a", 9, state="idle")], NOON)
        proxy.stop_when(b"D\x00\x00\x00\x0b\x00\x01", "server", Verdict.RESET)
        with pytest.raises(DatabaseUnavailable):
            await sampler.flush(NOON)
        sampler.record([activity("a", 1, "IO"), activity("")], NOON + 3600)
        await sampler.flush(NOON + 3601)
        await sampler.flush(NOON + 3602, last=True)

    found = (await sampled_sessions(control, NOON, NOON + 7200))["shared"]
    assert found.samples == 2
    assert found.sessions == {"": {"CPU": 1}, "a": {"CPU": 2, "IO": 1}, "b": {"CPU": 1}}
    assert found.share("a") == 3 / 5
    assert (await sampled_sessions(control, NOON, NOON + 3600))["shared"].total == 3


async def test_a_hashed_tag_is_given_its_tenant_back(control: Pool) -> None:
    long_id = "é" * 30
    await control.execute(
        "INSERT INTO tenantry.usage (hour, database, tenant) VALUES (to_timestamp($1), 'shared', $2)",
        NOON,
        long_id,
    )
    sampler = SessionSampler("shared", control, uuid4(), NOON)
    sampler.record([activity(tag(long_id).removeprefix("tenantry:"))], NOON)
    await sampler.flush(NOON)

    assert list((await sampled_sessions(control, NOON, NOON + 3600))["shared"].sessions) == [long_id]


def test_figures_disagree_beyond_the_bound_and_the_sampling_error_only() -> None:
    many = SampledSessions(10_000, {"a": {"CPU": 4000}, "b": {"CPU": 6000}})
    few = SampledSessions(10, {"a": {"CPU": 4}, "b": {"CPU": 6}})

    assert not many.disagrees("a", 0.44)
    assert many.disagrees("a", 0.48)
    assert not few.disagrees("a", 0.48)
    assert not SampledSessions(10).disagrees("a", 1.0)


async def test_of_a_fleet_one_process_watches_a_database_and_another_takes_over(
    pg: EmbeddedServer, database: str, control: Pool
) -> None:
    def monitor() -> DatabaseMonitor:
        return DatabaseMonitor(
            "shared",
            lambda: asyncpg.connect(pg.dsn(database)),
            control,
            sample=0.01,
            flush=0.05,
            standby=0.01,
        )

    monitors = [monitor() for _ in range(4)]
    for one in monitors:
        one.start()
    leader = await first_leader(monitors)
    await until_sampled(control, 1)
    others = [one for one in monitors if one is not leader]
    await leader.close()
    await first_leader(others)

    assert sum(one.leading.is_set() for one in others) == 1
    before = await control.fetchval("SELECT sum(samples) FROM tenantry.sampled")
    await until_sampled(control, before + 1)
    for one in monitors:
        await one.close()
        await one.close()
    assert await control.fetchval("SELECT count(*) FROM tenantry.reporter WHERE stopped_at IS NULL") == 0


async def first_leader(monitors: list[DatabaseMonitor]) -> DatabaseMonitor:
    waits = [asyncio.create_task(one.leading.wait()) for one in monitors]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    (leader,) = [one for one in monitors if one.leading.is_set()]
    return leader


async def until_sampled(control: Pool, samples: int) -> None:
    """Until so many samples are written; the test's own timeout is the bound."""
    while not (await control.fetchval("SELECT sum(samples) FROM tenantry.sampled") or 0) >= samples:
        pass


async def test_a_watch_outlives_its_database_and_its_control_database(
    make_server: EmbeddedServer, clock: Clock
) -> None:
    server = make_server
    async with asyncpg.create_pool(server.dsn(), min_size=0, statement_cache_size=0) as control:
        monitor = DatabaseMonitor(
            "shared",
            lambda: asyncpg.connect(server.dsn()),
            control,
            sample=0.01,
            flush=0.02,
            standby=0.01,
        )
        monitor.start()
        await monitor.leading.wait()
        server.crash()
        while monitor.leading.is_set():  # noqa: ASYNC110 - the end of a lead has no event
            await asyncio.sleep(0)
        server.restart()
        await monitor.leading.wait()
        await monitor.close()


async def test_watching_a_fleet_follows_the_directory_and_estimates_storage_once_a_day(
    pg: EmbeddedServer, database: str, control: Pool
) -> None:
    pg.psql("CREATE TABLE t (tenant_id text); INSERT INTO t VALUES ('a'), ('a'), ('b')", database)

    def connect() -> Any:
        return asyncpg.connect(pg.dsn(database))

    monitors = MonitorSet(control, tenancy=Tenancy(), sample=0.01, flush=0.01, standby=0.01)
    await monitors.follow({"shared": connect})
    await monitors["shared"].leading.wait()
    await until(lambda: stored(control))
    await monitors.follow({"shared": connect, "twin": connect})
    assert monitors.leading == ["shared"]  # the same database under another name has one leader too
    await monitors.follow({"twin": connect})
    await monitors["twin"].leading.wait()
    await until_sampled(control, 1)
    await monitors.close()
    await monitors.close()

    (_, found) = (await storage.latest(control))["shared"]
    assert found.share("a") == pytest.approx(2 / 3, abs=0.01)
    assert monitors.leading == []


async def stored(control: Pool) -> bool:
    return bool(await storage.latest(control))
