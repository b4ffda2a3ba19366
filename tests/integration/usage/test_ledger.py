"""G12: recorded use is never lost beyond one interval, never counted twice, survives crashes."""

from __future__ import annotations

import asyncio
import logging
from uuid import UUID, uuid4

import asyncpg
import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.errors import DatabaseUnavailable
from tenantry.events import DatabaseDown, ScopeEnded
from tenantry.usage.ledger import Batch, Ledger
from tenantry.usage.meter import Meter
from tests.integration.usage.conftest import NOON, Clock, Pool
from tests.support.proxy import Proxy, Verdict
from tests.support.until import until

TENANT = UUID(int=7)


def scope(busy: float = 1.0, outcome: str = "commit", tenant: UUID | int | str = TENANT) -> ScopeEnded:
    return ScopeEnded(tenant, "shared", outcome, busy, 2 * busy, 0.5, 3)


def ledger(meter: Meter, pool: Pool, clock: Clock, rows: int = 5000) -> Ledger:
    return Ledger(meter, pool, uuid4(), clock=clock.time, monotonic=clock.monotonic, every=5.0, rows=rows)


async def busy(pool: Pool) -> float:
    found = await pool.fetchval("SELECT coalesce(sum(busy_seconds), 0) FROM tenantry.usage")
    assert isinstance(found, float)
    return found


async def test_use_is_added_up_per_hour_database_and_tenant(control: Pool, meter: Meter, clock: Clock) -> None:
    pen = ledger(meter, control, clock)
    for outcome in ("commit", "commit", "rollback", "error"):
        meter(scope(0.25, outcome))
    meter(DatabaseDown("shared", "OSError", 1.0))  # not ours: ignored
    await pen.flush()
    meter(scope(0.25))
    clock.pass_(3600)
    meter(scope(1.0))
    meter(scope(1.0, tenant=8))
    await pen.flush()

    rows = await control.fetch("SELECT * FROM tenantry.usage ORDER BY hour, tenant")

    assert [(row["hour"].timestamp(), row["tenant"], row["busy_seconds"], row["commits"]) for row in rows] == [
        (NOON, str(TENANT), 1.25, 3),
        (NOON + 3600, str(TENANT), 1.0, 1),
        (NOON + 3600, "8", 1.0, 1),
    ]
    assert (rows[0]["rollbacks"], rows[0]["errors"], rows[0]["statements"]) == (1, 1, 15)
    assert (rows[0]["held_seconds"], rows[0]["waited_seconds"]) == (2.5, 2.5)


async def test_flushing_the_ledger_again_changes_nothing(control: Pool, meter: Meter, clock: Clock) -> None:
    pen = ledger(meter, control, clock)
    meter(scope())
    await pen.flush()
    before = await control.fetch("SELECT * FROM tenantry.usage")

    await pen.flush()
    await pen.close()
    await pen.close()

    assert await control.fetch("SELECT * FROM tenantry.usage") == before


@pytest.mark.parametrize("verdict", [Verdict.RESET, Verdict.CUT_AFTER])
@pytest.mark.parametrize("side", ["client", "server"])
async def test_a_flush_whose_answer_is_lost_counts_once(
    pg: EmbeddedServer,
    control_name: str,
    control: Pool,
    meter: Meter,
    clock: Clock,
    verdict: Verdict,
    side: str,
) -> None:
    """The connection breaks before or after the statement, before or after its answer."""
    async with (
        Proxy(pg.host, pg.port) as proxy,
        asyncpg.create_pool(proxy.dsn(pg.dsn(control_name)), min_size=0, statement_cache_size=0) as flaky,
    ):
        pen = ledger(meter, flaky, clock)
        await pen.flush()
        meter(scope(3.0))
        # Bind carries the tenant's id; the answer that gets lost is the data row.
        pattern = str(TENANT).encode() if side == "client" else b"D\x00\x00\x00\x0b\x00\x01"
        met = proxy.stop_when(pattern, "client" if side == "client" else "server", verdict)
        with pytest.raises(DatabaseUnavailable):
            await pen.flush()
        assert met.passed.is_set()
        meter(scope(4.0))  # goes into the next interval, never into the one in doubt
        assert pen.waiting == 1

        done = await pen.flush()

        assert done.batches == 2
        assert await busy(control) == 7.0
        assert pen.waiting == 0


async def test_a_repetition_that_overtakes_its_first_copy_waits_and_counts_once(
    pg: EmbeddedServer, control_name: str, control: Pool, meter: Meter, clock: Clock
) -> None:
    """The first copy still runs in the server, its client gone, when the second arrives."""
    pen = ledger(meter, control, clock)
    meter(scope(1.0))
    await pen.flush()
    meter(scope(3.0))
    async with control.acquire() as blocker:
        block = blocker.transaction()
        await block.start()
        await blocker.execute("SELECT FROM tenantry.usage FOR UPDATE")
        first = asyncio.create_task(pen.flush())
        await until_waiting(control, 1)
        second = asyncio.create_task(pen._send(pen._pending[0]))
        await until_waiting(control, 2)
        await block.rollback()
    await first

    assert await second is False
    assert await busy(control) == 4.0


async def until_waiting(pool: Pool, sessions: int) -> None:
    """Until that many sessions wait for a lock; the test's own timeout is the bound."""
    while True:
        waiting = await pool.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        if waiting >= sessions:
            return


async def test_use_survives_a_crash_of_the_control_database(
    make_server: EmbeddedServer, meter: Meter, clock: Clock
) -> None:
    server = make_server
    async with asyncpg.create_pool(server.dsn(), min_size=0, statement_cache_size=0) as pool:
        pen = ledger(meter, pool, clock)
        meter(scope(1.0))
        await pen.flush()
        server.crash()
        for _ in range(5):
            meter(scope(1.0))
            with pytest.raises(DatabaseUnavailable):
                await pen.flush()
        assert pen.waiting == 1
        assert len(meter) == 1  # all later use is merged: it was never sent
        server.restart()

        await pen.flush()

        assert await busy(pool) == 6.0


async def test_memory_stays_bounded_while_the_control_database_is_away(clock: Clock) -> None:
    meter = Meter(clock=clock.time, limit=100)
    for _ in range(72):
        for tenant in range(50):
            meter(scope(0.5, tenant=tenant))
        clock.pass_(3600)

    assert len(meter) <= 4 * 50 + 100 + 50
    assert sum(cell.busy for _, _, cell in meter.take()) == 72 * 50 * 0.5
    assert len(meter) == 0


async def test_a_large_interval_goes_in_batches_that_each_count_once(
    control: Pool, meter: Meter, clock: Clock
) -> None:
    pen = ledger(meter, control, clock, rows=10)
    for tenant in range(95):
        meter(scope(1.0, tenant=tenant))
    clock.pass_(5)

    done = await pen.flush()

    assert (done.batches, done.rows, done.repeated) == (10, 95, 0)
    assert await busy(control) == 95.0
    assert await control.fetchval("SELECT batch FROM tenantry.reporter") == 10
    assert await control.fetchval("SELECT sum(seconds) FROM tenantry.reported") == 5.0


async def test_routers_that_count_the_same_tenants_at_once_do_not_deadlock(control: Pool, clock: Clock) -> None:
    async def one(number: int) -> None:
        meter = Meter(clock=clock.time)
        pen = ledger(meter, control, clock, rows=50)
        for _ in range(5):
            order = range(200) if number % 2 else range(199, -1, -1)
            for tenant in order:
                meter(scope(1.0, tenant=tenant))
            await pen.flush()

    await asyncio.gather(*(one(number) for number in range(6)))

    assert await busy(control) == 6 * 5 * 200


async def test_a_mistake_in_one_flush_does_not_end_the_flushing(
    control: Pool, meter: Meter, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pen = Ledger(meter, control, uuid4(), clock=clock.time, monotonic=clock.monotonic, every=0.01)
    right, wrong = pen._send, asyncio.Event()

    async def send(batch: Batch) -> bool:
        if not wrong.is_set():
            wrong.set()
            raise ValueError("a mistake")
        return await right(batch)

    monkeypatch.setattr(pen, "_send", send)
    meter(scope(3.0))
    pen.start()
    await wrong.wait()

    async def written() -> bool:
        return await busy(control) == 3.0

    await until(written)
    await pen.close()

    assert await busy(control) == 3.0
    assert "a mistake" in caplog.text


async def test_close_writes_the_rest_and_says_good_bye(control: Pool, meter: Meter, clock: Clock) -> None:
    pen = ledger(meter, control, clock)
    pen.start()
    clock.pass_(2)
    meter(scope(2.0))

    await pen.close()

    row = await control.fetchrow("SELECT * FROM tenantry.reporter")
    assert row is not None
    assert row["stopped_at"].timestamp() == NOON + 2
    assert row["started_at"].timestamp() == NOON
    assert await busy(control) == 2.0


async def test_a_cancelled_close_still_writes_the_rest(control: Pool, meter: Meter, clock: Clock) -> None:
    pen = ledger(meter, control, clock)
    meter(scope(2.0))
    closing = asyncio.create_task(pen.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing

    assert await busy(control) == 2.0


async def test_close_without_a_control_database_says_what_is_lost(
    meter: Meter, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncpg.create_pool("postgresql://nobody@127.0.0.1:1/x", min_size=0) as pool:
        pen = ledger(meter, pool, clock)
        meter(scope(2.0))
        with caplog.at_level(logging.ERROR, "tenantry"):
            await pen.close()

    assert "lost up to 2.0 busy seconds of 1 tenants" in caplog.text


async def test_an_interval_over_the_turn_of_the_hour_is_reported_in_both_hours(
    control: Pool, meter: Meter, clock: Clock
) -> None:
    pen = ledger(meter, control, clock)
    clock.pass_(3590)
    await pen.flush()
    clock.pass_(30)
    await pen.flush()

    rows = await control.fetch("SELECT hour, seconds FROM tenantry.reported ORDER BY hour")

    assert [(row["hour"].timestamp(), row["seconds"]) for row in rows] == [
        (NOON, 3600.0),
        (NOON + 3600, 20.0),
    ]


async def test_a_step_of_the_clock_neither_makes_nor_loses_time(control: Pool, meter: Meter, clock: Clock) -> None:
    pen = ledger(meter, control, clock)
    clock.pass_(10)
    await pen.flush()
    clock.wall += 7200  # NTP at work
    clock.pass_(10)
    meter(scope(1.0))
    await pen.flush()
    clock.wall -= 10800
    clock.pass_(10)
    meter(scope(1.0))
    await pen.flush()

    assert await control.fetchval("SELECT sum(seconds) FROM tenantry.reported") == 30.0
    assert await busy(control) == 2.0
