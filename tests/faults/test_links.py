"""F3 to F6: links between mover, source and target are cut, held, slow, or lose the one answer that matters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tenantry.move import Endpoint, FenceTried, Limits, MoveStopped, Progress, Retrying, State, StepStarted
from tests.support.estate import LIMITS, Estate
from tests.support.load import check, load
from tests.support.process import MoverProcess
from tests.support.proxy import Proxy, Stop, Verdict
from tests.support.wire import Message


def through(estate: Estate, proxy: Proxy, *, peer: bool = False) -> dict[str, Endpoint]:
    """The estate's endpoints with the source behind a proxy: for the mover, or for the subscription."""
    ends = estate.endpoints
    dsn = proxy.dsn(ends["shared"].dsn)
    ends["shared"] = replace(ends["shared"], peer_dsn=dsn) if peer else replace(
        ends["shared"], dsn=dsn, peer_dsn=ends["shared"].dsn
    )  # fmt: skip
    return ends


async def moves_through(
    estate: Estate, proxy: Proxy, tell: Callable[[Progress], None], *, peer: bool = False, **limits: Any
) -> None:
    """The tenant moves under load, and nobody notices."""
    mover = estate.mover(endpoints=through(estate, proxy, peer=peer), limits=replace(LIMITS, **limits))
    async with load(estate) as running:
        record = await mover.run(await mover.plan(estate.tenant, "acme"), tell)
        assert record.state is State.FLIPPED
        await running.reach(estate.tenant, 20)
    print(await check(estate, running), f"longest {running.longest(estate.tenant):.3f} s")


LOCK, MARKER, TABLES = b"pg_advisory_xact_lock", b"INTO tenantry.move_marker", b"LOCK TABLE"
COPY, FLIP = b"COPY (SELECT", b"tenantry.move_gate SET state"


def long(*values: object, id: str) -> Any:
    return pytest.param(*values, id=id, marks=pytest.mark.faults)


@pytest.mark.parametrize(
    ("step", "pattern", "verdict"),
    [
        long("copy", COPY, Verdict.CUT, id="copy-cut"),
        long("copy", COPY, Verdict.RESET, id="copy-reset"),
        long("copy", COPY, Verdict.HOLD, id="copy-half-open"),
        long("catch_up", MARKER, Verdict.RESET, id="subscription.enabled-reset"),
        long("verify", LOCK, Verdict.CUT, id="verify.started-cut"),
        long("verify", MARKER, Verdict.HOLD, id="verify.started-half-open"),
        long("flip", LOCK, Verdict.CUT, id="fence.locked-cut"),
        long("flip", TABLES, Verdict.HOLD, id="fence.marker_written-half-open"),
        long("flip", TABLES, Verdict.CUT, id="fence.marker_written-cut"),
        pytest.param("flip", FLIP, Verdict.RESET, id="fence.placement_updated-reset"),
        long("flip", FLIP, Verdict.HOLD, id="fence.placement_updated-half-open"),
    ],
)
async def test_a_broken_link_to_the_source_is_survived(
    estate18: Estate, step: str, pattern: bytes, verdict: Verdict
) -> None:
    """F3. From the step's beginning on, the first message with the pattern meets the fault."""
    seen: list[Progress] = []
    stops: list[Stop] = []
    near = estate18.near
    async with Proxy(near.host, near.port) as proxy:

        def tell(event: Progress) -> None:
            seen.append(event)
            if isinstance(event, StepStarted) and event.step == step and not stops:
                stops.append(proxy.stop_when(pattern, verdict=verdict))

        await moves_through(estate18, proxy, tell, stall=2.0)
        assert stops[0].passed.is_set()
    if step == "flip":
        assert [event for event in seen if isinstance(event, FenceTried) and not event.flipped]
    elif step != "verify":  # the comparison's fence is tried again without a word
        assert [event for event in seen if isinstance(event, Retrying) and event.step == step]


async def test_a_commit_whose_answer_is_lost_counts_once(estate18: Estate) -> None:
    """F6 at `fence.commit_sent`."""
    fence: set[int] = set()
    dropped: list[Message] = []

    def lose(message: Message) -> Verdict | None:
        if message.side == "client" and b"tenantry.move_gate SET state" in message.raw:
            fence.add(message.connection)
        if message.connection in fence and message.side == "server" and b"COMMIT\0" in message.raw:
            dropped.append(message)
            return Verdict.RESET
        return None

    seen: list[Progress] = []
    async with Proxy(estate18.near.host, estate18.near.port) as proxy:
        proxy.hooks.append(lose)
        await moves_through(estate18, proxy, seen.append)
    assert len(dropped) == 1
    assert [event.flipped for event in seen if isinstance(event, FenceTried)] == [True]


async def test_a_comparison_whose_fence_ended_before_both_snapshots_is_made_again(estate18: Estate) -> None:
    """F3 at `verify.started`: the dead man's switch ends the fence while the far snapshot is late, and the
    tenant writes on."""
    tasks: list[asyncio.Task[None]] = []
    async with Proxy(estate18.far.host, estate18.far.port) as proxy, load(estate18) as running:
        ends = estate18.endpoints
        ends["acme"] = replace(ends["acme"], dsn=proxy.dsn(ends["acme"].dsn), peer_dsn=ends["acme"].dsn)
        limits = replace(LIMITS, pause=3.0, lock=2.0)  # the server ends an idle fence after one second
        mover = estate18.mover(endpoints=ends, limits=limits)

        async def release_late(stop: Stop) -> None:
            await stop.passed.wait()
            await running.reach(estate18.tenant, 10)
            proxy.release()

        def tell(event: Progress) -> None:
            if isinstance(event, StepStarted) and event.step == "verify":
                stop = proxy.stop_when(b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", verdict=Verdict.HOLD)
                tasks.append(asyncio.create_task(release_late(stop)))

        record = await mover.run(await mover.plan(estate18.tenant, "acme"), tell)
        assert record.state is State.FLIPPED
        await tasks[0]
    print(await check(estate18, running))


@pytest.mark.faults
@pytest.mark.parametrize("step", ["catch_up", "prepare_reverse", "verify", "flip"])
async def test_a_broken_link_between_the_servers_is_survived(estate18: Estate, step: str) -> None:
    """F4. The apply worker comes back by itself, after wal_retrieve_retry_interval."""
    async with Proxy(estate18.near.host, estate18.near.port) as proxy:

        def cut(event: Progress) -> None:
            if isinstance(event, StepStarted) and event.step == step:
                proxy.reset()

        await moves_through(estate18, proxy, cut, peer=True)
        assert proxy.connections >= 2


@pytest.mark.faults
@pytest.mark.parametrize("point", ["fence.marker_written", "fence.marker_seen", "fence.marker_flushed"])
async def test_a_link_between_the_servers_broken_inside_the_fence_is_survived(
    estate18: Estate, point: str
) -> None:
    """F4: the marker is written, seen, or flushed when the apply worker loses its publisher."""
    async with Proxy(estate18.near.host, estate18.near.port) as proxy, load(estate18) as running:
        ends = through(estate18, proxy, peer=True)
        process = MoverProcess(estate18, "move", str(estate18.tenant), failpoints=f"{point}=stop", endpoints=ends)
        try:
            await process.stopped()
            before = proxy.connections
            proxy.reset()
            process.go_on()
            code, output = await process.ended()
        finally:
            process.end()
        assert code == 0, output
        await running.reach(estate18.tenant, 20)
        # An attempt that missed had to wait until the link was there again.
        assert "flipped=False" not in output or proxy.connections > before
    print(await check(estate18, running))


@pytest.mark.faults
async def test_a_slow_link_between_the_servers_only_takes_longer(estate18: Estate) -> None:
    """F5."""
    async with Proxy(estate18.near.host, estate18.near.port) as proxy:
        proxy.latency, proxy.rate = 0.05, 1_000_000
        await moves_through(estate18, proxy, print, peer=True, latency=0.4)


@pytest.mark.faults
async def test_no_fence_while_probes_are_slow(estate18: Estate) -> None:
    """F5: the gate refuses to fence until probe markers are fast."""
    seen: list[Progress] = []
    async with Proxy(estate18.near.host, estate18.near.port) as proxy:
        proxy.latency = 0.2
        mover = estate18.mover(
            endpoints=through(estate18, proxy, peer=True), limits=Limits(latency=0.15, catch_up=5.0)
        )
        plan = await mover.plan(estate18.tenant, "acme")
        with pytest.raises(MoveStopped, match="did not catch up"):
            await mover.run(plan, seen.append)
        assert not [event for event in seen if isinstance(event, FenceTried)]
        assert (await mover.abort(plan.id)).state is State.ABORTED
