"""The fleet on paper: its clock, and that what it simulates keeps the limits that routers keep."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fleet.simulate import SCOPE, Fleet, connections, directory_reads, ledger_rows, zipf
from benchmarks.fleet.virtual_time import run

SMALL = Fleet(routers=100, shared=3, dedicated=20, tenants=1_000, requests=1_000.0, seconds=60.0)


def test_an_hour_of_sleep_takes_no_time_and_timers_keep_their_order() -> None:
    woken: list[int] = []

    async def sleeper(hours: int) -> None:
        await asyncio.sleep(3600 * hours)
        woken.append(hours)

    async def all_of_them() -> float:
        await asyncio.gather(*(sleeper(hours) for hours in (3, 1, 2)))
        return asyncio.get_running_loop().time()

    assert run(all_of_them()) == pytest.approx(3 * 3600)
    assert woken == [1, 2, 3]


def test_who_waits_for_nothing_is_told_and_not_waited_for() -> None:
    async def forever() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="does not come"):
        run(forever())


@settings(max_examples=10)
@given(
    limit=st.integers(1, 30),
    pool=st.integers(1, 8),
    idle=st.sampled_from([1.0, 10.0, 600.0]),
    sticky=st.sampled_from([None, 5]),
    seed=st.integers(0, 1_000),
)
def test_no_limit_is_exceeded_and_every_request_is_served(
    limit: int, pool: int, idle: float, sticky: int | None, seed: int
) -> None:
    fleet = Fleet(
        routers=100, shared=3, dedicated=20, tenants=1_000, requests=500.0, connections=limit, pool=pool,
        idle=idle, sticky=sticky, seconds=20.0,
    )  # fmt: skip
    seen = connections(fleet, seed)
    assert seen.most <= limit
    assert seen.shared <= pool
    assert fleet.shared * seen.shared + seen.dedicated <= limit
    assert seen.served == len(seen.waits) > 0
    assert min(seen.waits) > -SCOPE / 1e6, "nobody is served before it came"


def test_more_of_what_saves_saves_more() -> None:
    spread, kept = connections(SMALL), connections(replace(SMALL, sticky=5))
    assert kept.dedicated < spread.dedicated
    reads = directory_reads(SMALL)
    assert reads.steady < reads.doubtful, "what is cached is not asked for"
    assert ledger_rows(SMALL, 30.0) < 6 * ledger_rows(SMALL, 5.0), "a row a tenant, not a request"


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 1_000_000))
def test_ranks_of_tenants_are_those_that_there_are(chance: float, tenants: int) -> None:
    assert 1 <= zipf(chance, tenants) <= tenants


def test_the_largest_tenant_sends_its_part_of_the_requests() -> None:
    dice = random.Random(1)
    first = sum(zipf(dice.random(), 1_000) == 1 for _ in range(20_000)) / 20_000
    assert first == pytest.approx(0.1, abs=0.01)  # log 2 / log 1001
