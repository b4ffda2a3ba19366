"""Reference tables are compared while somebody writes to them, and nobody waits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, cast

import asyncpg
import pytest

from tenantry.move import Compared, DataDiffers, MoveStopped, Progress, Retrying, State
from tenantry.move.session import SETTINGS
from tenantry.move.steps import verify_references
from tests.integration.move.rated import (
    CORRUPTIONS,
    CURRENCY,
    QUIET,
    RATE,
    TOO_OFTEN,
    WRITERS,
    at,
    at_home,
    carrier,
    writing,
)
from tests.support.estate import Estate
from tests.support.load import check, load


@pytest.mark.parametrize(
    "writer",
    [pytest.param(writer, marks=() if writer == "come and go" else pytest.mark.faults) for writer in WRITERS],
)
async def test_a_reference_table_that_is_changed_now_and_then_is_compared_and_the_tenant_moves(
    rated: Estate, writer: str
) -> None:
    mover = carrier(rated)
    async with writing(rated, WRITERS[writer], pause=0.1):
        record = await mover.run(await mover.plan(rated.tenant, "acme"))
    assert record.state is State.FLIPPED
    assert record.result.found()["verified_rows"] >= record.result.found()["audited_rows"] + 1603


@pytest.mark.parametrize(
    ("writer", "pause"),
    [
        pytest.param(writer, pause, marks=() if (writer, pause) == ("one row", 0.004) else pytest.mark.faults)
        for writer in WRITERS
        for pause in (0.02, 0.004, 0.0)
    ],
)
async def test_a_reference_table_that_is_changed_all_the_time_is_never_called_different(
    rated: Estate, writer: str, pause: float
) -> None:
    """It is compared, or the move says that it can't be, and goes on when the writers rest."""
    mover = carrier(rated, attempts=4)
    plan = await mover.plan(rated.tenant, "acme")
    async with contextlib.AsyncExitStack() as writers:
        for _ in range(3 if writer == "one row" else 1):
            await writers.enter_async_context(writing(rated, WRITERS[writer], pause))
        with contextlib.suppress(MoveStopped):
            await mover.run(plan)
    record = await mover.show(plan.id)
    print(record.state)
    if record.state is not State.FLIPPED:
        await at_home(rated, record)
        assert TOO_OFTEN in str(record.error)
        assert (await mover.resume(plan.id)).state is State.FLIPPED


@pytest.mark.parametrize("pause", [0.1, pytest.param(0.004, marks=pytest.mark.faults)])
async def test_a_differing_row_stops_the_move_whoever_writes_to_its_table(rated: Estate, pause: float) -> None:
    mover = carrier(rated, attempts=4)
    plan = await mover.plan(rated.tenant, "acme")
    harm, said, _ = CORRUPTIONS["extra"]
    async with writing(rated, WRITERS["one row"], pause):
        with pytest.raises(MoveStopped) as caught:
            await mover.run(plan, at("verify", lambda: rated.far.psql(QUIET + harm, rated.dedicated)))
    if isinstance(caught.value, DataDiffers):
        assert caught.value.differences == (said,)
    else:
        assert pause < 0.1
        assert TOO_OFTEN in caught.value.reason
    await at_home(rated, await mover.show(plan.id))
    with pytest.raises(DataDiffers):
        await mover.resume(plan.id)


async def test_a_change_between_the_two_snapshots_of_every_attempt_refuses_the_flip_and_names_the_table(
    rated: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    mover = carrier(rated, attempts=3)
    plan = await mover.plan(rated.tenant, "acme")
    real, told = verify_references.writers, list[Retrying]()

    async def writers(*args: Any) -> Sequence[str]:
        # Under the target's lock. Whoever writes at the source is not made to wait, not even now.
        rated.near.psql(f"SET lock_timeout = '1ms'; {WRITERS['one row'][0]}", rated.shared)
        return await real(*args)

    def tell(event: Progress) -> None:
        if isinstance(event, Retrying):
            told.append(event)

    with monkeypatch.context() as patched:
        patched.setattr(verify_references, "writers", writers)
        with pytest.raises(MoveStopped) as caught:
            await mover.run(plan, tell)
    assert not isinstance(caught.value, DataDiffers)
    assert caught.value.reason.startswith(f"reference table {CURRENCY} is written {TOO_OFTEN}")
    assert "pause" in caught.value.reason
    assert [(event.step, CURRENCY in event.error) for event in told] == [("verify", True)] * 2
    await at_home(rated, await mover.show(plan.id))
    assert (await mover.resume(plan.id)).state is State.FLIPPED


@pytest.mark.faults
async def test_a_stranger_that_keeps_the_target_from_applying_a_change_is_told_from_busy_writers(
    rated: Estate,
) -> None:
    mover = carrier(rated, attempts=4)
    plan = await mover.plan(rated.tenant, "acme")

    def collide() -> None:
        rated.far.psql(QUIET + CORRUPTIONS["extra"][0], rated.dedicated)
        rated.near.psql(CORRUPTIONS["extra"][0], rated.shared)

    with pytest.raises(MoveStopped, match="acme meets errors when it applies their changes") as caught:
        await mover.run(plan, at("verify", collide))
    assert not isinstance(caught.value, DataDiffers)
    await at_home(rated, await mover.show(plan.id))
    rated.far.psql(QUIET + CORRUPTIONS["extra"][2], rated.dedicated)
    assert (await mover.resume(plan.id)).state is State.FLIPPED


async def test_a_commit_that_the_target_has_and_the_source_does_not_show_yet_is_no_difference(
    rated: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is while a synchronous standby keeps a commit waiting: here for one that does not exist, and that
    everybody waits for but the mover."""
    assert SETTINGS["synchronous_commit"] == "on"
    mover = carrier(rated)
    plan = await mover.plan(rated.tenant, "acme")
    standby = "ALTER SYSTEM SET synchronous_standby_names = '{}'"
    writing, told = list[asyncio.Task[Any]](), list[Retrying]()

    def wait_for(name: str) -> None:
        rated.near.psql(standby.format(name))
        rated.near.psql("SELECT pg_reload_conf()")

    def tell(event: Progress) -> None:
        if isinstance(event, Retrying):
            told.append(event)
            wait_for("")

    async def writers(*args: Any) -> Sequence[str]:
        if not writing:
            wait_for("nobody")
            writing.append(asyncio.create_task(rated.fetch("shared", WRITERS["one row"][0])))
            await in_target(rated, "SELECT 1 FROM currency WHERE name LIKE 'Euro at %'")
        return await real(*args)

    real = verify_references.writers
    monkeypatch.setitem(cast("dict[str, str]", SETTINGS), "synchronous_commit", "local")
    monkeypatch.setattr(verify_references, "writers", writers)
    try:
        record = await mover.run(plan, tell)
        await writing[0]
    finally:
        wait_for("")
    assert record.state is State.FLIPPED
    assert [event.error for event in told] == [f"a transaction was perhaps at its commit that writes {CURRENCY}"]


async def in_target(estate: Estate, query: str) -> None:
    async with asyncio.timeout(20):
        while not await estate.fetch("acme", query):  # noqa: ASYNC110  told by rows
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("then", ["", "SELECT pg_sleep(600)"], ids=["idle", "at work"])
async def test_an_open_transaction_that_writes_does_not_hinder_the_comparison(
    rated: Estate, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    """Only one that is at work might be at its commit, for all that anybody can see."""
    mover = carrier(rated, attempts=1)
    plan = await mover.plan(rated.tenant, "acme")
    writer = await asyncpg.connect(rated.endpoints["shared"].dsn)
    real, found, begun = verify_references.writers, list[Sequence[str]](), list[asyncio.Task[Any]]()

    async def writers(*args: Any) -> Sequence[str]:
        if not begun:
            await writer.execute("BEGIN; UPDATE currency SET name = 'open' WHERE code = 'EUR'")
            begun.append(asyncio.create_task(writer.execute(then or "SELECT 1")))
            await asyncio.wait(begun, timeout=0.2)
        found.append(await real(*args))
        return found[-1]

    monkeypatch.setattr(verify_references, "writers", writers)
    try:
        record = await mover.run(plan)
    finally:
        writer.terminate()
    await asyncio.wait(begun)
    assert record.state is State.FLIPPED
    assert found == [[CURRENCY] if then else []] * 2


async def test_nobody_waits_while_reference_tables_are_compared(rated: Estate) -> None:
    """The tenant's fence is gone by then, and at the source nobody holds a lock that a writer would wait for."""
    mover, locks = carrier(rated), list[str]()
    query = (
        "SELECT mode FROM pg_locks WHERE granted AND (locktype = 'advisory' AND "
        "classid = tenantry.lock_space()::oid AND mode = 'ExclusiveLock' OR locktype = 'relation' AND relation = "
        "ANY (ARRAY['public.currency', 'public.\"Rate\"']::regclass[]) AND mode <> 'AccessShareLock')"
    )

    def tell(event: Progress) -> None:
        if isinstance(event, Compared) and event.table in (RATE, CURRENCY):
            rated.near.psql(f"SET lock_timeout = '1ms'; {WRITERS['one row'][0]}", rated.shared)
            locks.append(rated.near.psql(query, rated.shared))

    record = await mover.run(await mover.plan(rated.tenant, "acme"), tell)
    assert record.state is State.FLIPPED
    assert len(locks) >= 4
    assert set(locks) == {""}


@pytest.mark.faults
@pytest.mark.parametrize("pause", [0.1, 0.004])
async def test_every_corruption_of_a_reference_row_is_found_under_load(rated: Estate, pause: float) -> None:
    """The tenants work, reference tables are written, and nobody notices that the move was stopped and fixed."""
    mover = carrier(rated, attempts=4)
    plan = await mover.plan(rated.tenant, "acme")
    harm, said, fix = CORRUPTIONS["numeric scale"]
    async with load(rated) as running:
        async with writing(rated, WRITERS["one row"], pause):
            with pytest.raises(MoveStopped) as caught:
                await mover.run(plan, at("verify", lambda: rated.far.psql(QUIET + harm, rated.dedicated)))
            assert TOO_OFTEN in caught.value.reason or said in caught.value.reason
        with pytest.raises(DataDiffers, match="C3,2010"):
            await mover.resume(plan.id)
        rated.far.psql(QUIET + fix, rated.dedicated)
        async with writing(rated, WRITERS["one row"], pause=0.1):
            assert (await mover.resume(plan.id)).state is State.FLIPPED
        await running.reach(rated.tenant, 20)
    await check(rated, running)
