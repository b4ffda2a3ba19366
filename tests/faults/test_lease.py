"""The lease: a mover whose control database was away goes on by itself, unless somebody else has gone on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.move import LeaseLost, State
from tenantry.move.lease import lease
from tenantry.runtime.connection_errors import TRANSIENT
from tests.faults.test_crashes import LAZY
from tests.faults.test_f18_two_movers import END_SESSIONS, frozen
from tests.support.estate import Estate
from tests.support.load import check, load
from tests.support.process import MoverProcess
from tests.support.proxy import Proxy, Verdict


@contextlib.asynccontextmanager
async def without_lease(estate: Estate, point: str) -> AsyncIterator[tuple[MoverProcess, str]]:
    """A mover, frozen at the point, whose lease is gone; and its move."""
    async with frozen(estate, point, "acme") as process:
        (record,) = await estate.mover().list()
        await estate.fetch("control", END_SESSIONS, f"tenantry move lease {record.id}")
        yield process, record.id


@pytest.mark.parametrize("point", ["copy.half", pytest.param("reverse.prepared", marks=pytest.mark.faults)])
async def test_a_mover_outlives_a_crash_of_its_control_database(point: str) -> None:
    """The source's server, where the control database is: everything the mover has open breaks at once."""
    with EmbeddedServer.start(18, settings=LAZY) as near, EmbeddedServer.start(18) as far:
        estate = await Estate.make(near, far)
        async with load(estate) as running:
            process = MoverProcess(estate, "move", str(estate.tenant), failpoints=f"{point}=stop")
            try:
                await process.stopped()
                await asyncio.to_thread(near.crash)
                await asyncio.to_thread(near.restart)
                process.go_on()
                code, output = await process.ended()
            finally:
                process.end()
            assert code == 0, output
            (record,) = await estate.mover().list()
            assert record.state is State.FLIPPED, output
        await check(estate, running, unknown=True)


@pytest.mark.parametrize("point", ["identities.set", pytest.param("indexes.built", marks=pytest.mark.faults)])
async def test_a_lost_lease_is_taken_again_while_the_move_stands_where_it_stood(
    estate18: Estate, point: str
) -> None:
    async with without_lease(estate18, point) as (process, move):
        process.go_on()
        code, output = await process.ended()
    assert code == 0, output
    assert (await estate18.mover().show(move)).state is State.FLIPPED


async def test_a_lost_lease_that_another_has_is_not_taken_again(estate18: Estate) -> None:
    async with without_lease(estate18, "identities.set") as (process, move), lease(estate18.control_dsn, move):
        process.go_on()
        code, output = await process.ended()
    assert (code, "LeaseLost" in output) == (1, True), output
    assert (await estate18.mover().resume(move)).state is State.FLIPPED


async def test_a_lost_lease_of_a_move_that_went_on_is_not_taken_again(estate18: Estate) -> None:
    """Another mover has brought it to its end, and is gone."""
    async with without_lease(estate18, "identities.set") as (process, move):
        assert (await estate18.mover().resume(move)).state is State.FLIPPED
        process.go_on()
        code, output = await process.ended()
    assert (code, "LeaseLost" in output) == (1, True), output
    assert (await estate18.mover().show(move)).state is State.FLIPPED


async def test_a_lease_whose_taking_got_no_answer_is_not_held(
    estate18: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control database stalls just then, another mover has the lease, and the database answers again."""
    monkeypatch.setattr("tenantry.move.lease._ANSWER_SECONDS", 0.5)
    async with (
        Proxy(estate18.near.host, estate18.near.port) as proxy,
        lease(proxy.dsn(estate18.control_dsn), "m1") as held,
    ):
        proxy.stop_when(b"pg_try_advisory_lock", verdict=Verdict.HOLD)
        await estate18.fetch("control", END_SESSIONS, "tenantry move lease m1")
        with pytest.raises(TRANSIENT):
            await held.check()
        await estate18.fetch("control", END_SESSIONS, "tenantry move lease m1")
        async with lease(estate18.control_dsn, "m1"):
            with pytest.raises(LeaseLost):
                await held.check()
