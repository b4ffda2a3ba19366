"""The copy: several tables at once, no faster than it may be, and reference tables that stay in step."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tenantry.move import CopyProgressed, State, StepEnded, StepStarted, mover
from tenantry.move.steps import copy
from tenantry.move.throttle import Throttle
from tests.support.estate import LIMITS, Estate


async def test_as_many_tables_as_the_limit_says_are_copied_at_once(
    estate18: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each table's copy waits until three are under way: one after the other, they would wait in vain."""
    together, real = asyncio.Barrier(3), copy.copy_table
    arrived = 0

    async def copy_table(work: Any, table: Any, *sides: Any) -> int:
        nonlocal arrived
        arrived += 1
        if arrived <= 3:
            async with asyncio.timeout(20):
                await together.wait()
        return await real(work, table, *sides)

    monkeypatch.setattr(copy, "copy_table", copy_table)
    carrier = estate18.mover(limits=replace(LIMITS, jobs=3))
    record = await carrier.run(await carrier.plan(estate18.tenant, "acme"))
    assert record.state is State.FLIPPED
    assert arrived == 4  # three tables of the tenant's and the price list


async def test_every_byte_of_a_copy_passes_the_throttle(estate18: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Counting] = []

    class Counting(Throttle):
        def __init__(self, rate: float | None) -> None:
            super().__init__(rate, clock=lambda: self.now, sleep=self.pass_time)
            self.rate = rate
            self.now = 0.0
            self.bytes = 0
            made.append(self)

        async def pass_time(self, seconds: float) -> None:
            self.now += seconds

        async def passed(self, count: int) -> None:
            self.bytes += count
            await super().passed(count)

    monkeypatch.setattr(mover, "Throttle", Counting)
    carrier = estate18.mover(limits=replace(LIMITS, copy_rate=10_000.0))
    record = await carrier.run(await carrier.plan(estate18.tenant, "acme"))
    (throttle,) = made
    assert throttle.rate == 10_000.0
    assert throttle.bytes == record.result.found()["copied_bytes"] > 10_000
    assert throttle.now == pytest.approx(throttle.bytes / 10_000.0)  # what it would have taken


async def test_a_reference_table_that_changes_during_the_move_is_in_step_at_the_new_home(estate18: Estate) -> None:
    """Before the copy, while following, and after the flip: each change arrives; a deletion too."""
    changes = {
        ("copy", StepStarted): "INSERT INTO currency VALUES ('CHF', 'Franc'), ('XXX', 'None')",
        ("copy", StepEnded): "INSERT INTO currency VALUES ('GBP', 'Pound')",
        ("catch_up", StepEnded): "UPDATE currency SET name = 'US Dollar' WHERE code = 'USD'",
        ("verify", StepEnded): "DELETE FROM currency WHERE code = 'XXX'",
        ("audit", StepEnded): "INSERT INTO currency VALUES ('JPY', 'Yen')",
    }
    made = set()

    def tell(event: object) -> None:
        if isinstance(event, StepStarted | StepEnded) and (event.step, type(event)) in changes:
            made.add((event.step, type(event)))
            estate18.near.psql(changes[event.step, type(event)], estate18.shared)

    carrier = estate18.mover()
    record = await carrier.run(await carrier.plan(estate18.tenant, "acme"), tell)
    assert made == set(changes)
    await in_step(estate18)
    await carrier.release(record.id)
    estate18.near.psql("UPDATE currency SET name = 'Swiss franc' WHERE code = 'CHF'", estate18.shared)
    await in_step(estate18)  # until the tenant leaves that database again


async def in_step(estate: Estate) -> None:
    query = "SELECT code, name FROM currency ORDER BY 1"
    async with asyncio.timeout(20):
        while await estate.fetch("acme", query) != await estate.fetch("shared", query):  # noqa: ASYNC110  told by rows
            await asyncio.sleep(0.02)


async def test_rows_are_counted_while_a_table_is_being_copied(
    estate18: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the middle of the table on, each piece takes a while, until rows were told of."""
    await estate18.fetch(
        "shared",
        "INSERT INTO entry (tenant_id, op, account, amount, currency) "
        "SELECT $1, gen_random_uuid(), 1, 0, 'EUR' FROM generate_series(1, 30000)",
        estate18.tenant,
    )
    told: list[CopyProgressed] = []
    seen = asyncio.Event()

    def tell(event: object) -> None:
        if isinstance(event, CopyProgressed) and "entry" in event.table:
            told.append(event)
            if event.rows:
                seen.set()

    class Slow(Throttle):
        def __init__(self, _: float | None) -> None:
            super().__init__(None)
            self.bytes = 0

        async def passed(self, count: int) -> None:
            self.bytes += count
            if self.bytes > 1_000_000 and not seen.is_set():
                await asyncio.sleep(0.25)

    monkeypatch.setattr(mover, "Throttle", Slow)
    carrier = estate18.mover()
    await carrier.run(await carrier.plan(estate18.tenant, "acme"), tell)
    halfway = [event.rows for event in told if not event.complete and event.rows]
    assert halfway
    assert all(0 < rows <= 30_200 for rows in halfway)
    assert (told[-1].rows, told[-1].complete) == (30_200, True)
