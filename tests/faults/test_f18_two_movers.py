"""F18: two movers at once. The first stands frozen at every point in turn, and others come meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from tenantry.move import AlreadyThere, Deleted, MoveBusy, MoveError, MoveRecord, Progress, State
from tenantry.move.failpoints import POINTS
from tests.support.databases import drop_database, new_database
from tests.support.estate import LIMITS, Estate
from tests.support.load import check, home_of, load
from tests.support.process import MoverProcess

#: From here on the tenant lives at the first mover's target; the directory is told before `directory.updated`.
FLIPPED = frozenset({"fence.commit_sent", "directory.updated", "audit.started", "release.deleting"})
TOLD = FLIPPED - {"fence.commit_sent"}
#: The first mover's source and target.
PROMOTION, DEMOTION = ("shared", "acme"), ("acme", "shared")
END_SESSIONS = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name LIKE $1"
#: What the tenants' clients do.
STYLES = ("read committed", "serializable", "read only")
DIRECTIONS = pytest.mark.parametrize("way", [PROMOTION, DEMOTION], ids=["promotion", "demotion"])


@contextlib.asynccontextmanager
async def a_third(estate: Estate) -> AsyncIterator[None]:
    """While the body runs there is one more dedicated database, "third"."""
    estate.third = third = new_database(estate.far, "third")
    try:
        await estate.fetch(
            "control", "INSERT INTO tenantry.database (name, kind, dsn) VALUES ('third', 'dedicated', 'config')"
        )
        yield
    finally:
        estate.third = None
        drop_database(estate.far, third)


async def moved(estate: Estate, tenant: object, to: str) -> MoveRecord:
    """Move a tenant, by a mover of our own, and give the way back up."""
    mover = estate.mover()
    record = await mover.run(await mover.plan(tenant, to))
    assert record.state is State.FLIPPED
    released = await mover.release(record.id)
    assert released.state is State.RELEASED
    return released


@contextlib.asynccontextmanager
async def frozen(estate: Estate, point: str, to: str, **limits: Any) -> AsyncIterator[MoverProcess]:
    """A first mover of the tenant, frozen at the point."""
    if point == "release.deleting":
        mover = estate.mover()
        record = await mover.run(await mover.plan(estate.tenant, to))
        process = MoverProcess(estate, "release", record.id, failpoints="release.deleting=stop", delete_batch=50)
    else:
        failpoints = f"{point}=stop"
        process = MoverProcess(estate, "move", str(estate.tenant), failpoints=failpoints, to=to, **limits)
    try:
        await process.stopped()
        yield process
    finally:
        process.end()


async def belongings(estate: Estate, move: str) -> dict[str, Any]:
    """What the journal says of a move, what it has made on both sides, and where the tenant lives."""
    mine, tenant = f"%{move}%", str(estate.tenant)
    queries = {
        "journal": ("control", "SELECT * FROM tenantry.move WHERE id = $1", move),
        "objects": ("control", "SELECT * FROM tenantry.move_object WHERE move = $1 ORDER BY 1, 2, 3, 4", move),
        "events": ("control", "SELECT kind FROM tenantry.event WHERE detail ->> 'move' = $1 ORDER BY id", move),
        "directory": ("control", "SELECT database, epoch FROM tenantry.tenant WHERE id = $1", tenant),
    }
    for name in ("shared", "acme"):
        queries |= {
            f"publications {name}": (
                name,
                "SELECT p.*, t.tablename, t.rowfilter FROM pg_publication AS p "
                "JOIN pg_publication_tables AS t USING (pubname) WHERE pubname LIKE $1 ORDER BY 1, tablename",
                mine,
            ),
            f"subscriptions {name}": (
                name, "SELECT subname, subenabled FROM pg_subscription WHERE subname LIKE $1 ORDER BY 1", mine
            ),
            f"slots {name}": (
                name, "SELECT slot_name FROM pg_replication_slots WHERE slot_name LIKE $1 ORDER BY 1", mine
            ),
        }  # fmt: skip
        if await estate.fetch(name, "SELECT 1 WHERE to_regclass('tenantry.placement') IS NOT NULL"):
            queries |= {
                f"gates {name}": (
                    name, "SELECT direction, state FROM tenantry.move_gate WHERE move = $1 ORDER BY 1", move
                ),
                f"placement {name}": (
                    name, "SELECT database, epoch FROM tenantry.placement WHERE tenant = $1", tenant
                ),
            }  # fmt: skip
    return {what: [tuple(row) for row in await estate.fetch(*query)] for what, query in queries.items()}


async def others_are_refused(estate: Estate, point: str, way: tuple[str, str], move: str) -> None:
    """Whatever somebody else asks for the tenant, or of the move: refused, and told why; nothing is touched."""
    mover = estate.mover()
    before = await belongings(estate, move)
    for command in (mover.resume, mover.abort, mover.rollback, mover.release):
        with pytest.raises(MoveBusy, match=f"move {move} is in the way: another mover is running it"):
            await command(move)
    known = way[1] if point in TOLD else way[0]
    for to in ("shared", "acme", "third"):
        if to == known:
            with pytest.raises(AlreadyThere, match=f"lives in {to} already"):
                await mover.plan(estate.tenant, to)
        else:
            plan = await mover.plan(estate.tenant, to)
            assert [f.code for f in plan.refusals if move in f.problem] == ["being-moved"]
            with pytest.raises(
                MoveBusy, match=f"move {move} is in the way: tenant {estate.tenant} is being moved"
            ):
                await mover.run(plan)
    assert await belongings(estate, move) == before
    assert move not in [left.move for left in await mover.leftovers()]  # it is at work


async def two_movers(estate: Estate, point: str, way: tuple[str, str]) -> None:
    target, (tenant, other, bystander) = way[1], estate.tenants
    async with a_third(estate):
        mover = estate.mover()
        if way == DEMOTION:
            await moved(estate, tenant, "acme")
        before = await sums_of(estate, bystander)
        async with load(estate, tenants=(tenant, other), styles=STYLES) as running:
            async with frozen(estate, point, target) as first, asyncio.TaskGroup() as group:
                others = group.create_task(moved(estate, other, "third"))  # begins inside the fence, if it is one
                await running.reach(tenant, 20)
                move = (await mover.list(tenant))[0].id
                await others_are_refused(estate, point, way, move)
                assert (await others).target == "third"
                first.go_on()
                code, output = await first.ended()
            assert code == 0, output
            assert (await mover.show(move)).state is (
                State.RELEASED if point == "release.deleting" else State.FLIPPED
            )
            await running.reach(tenant, 20)
            assert (await mover.release(move)).state is State.RELEASED
            assert await mover.leftovers() == []
            await running.reach(tenant, 20)
            await running.reach(other, 20)
        print(await check(estate, running))
        assert await home_of(estate, tenant) == target
        assert await home_of(estate, other) == "third"
        assert await sums_of(estate, bystander) == before


async def sums_of(estate: Estate, tenant: uuid.UUID) -> dict[str, tuple[int, Any]]:
    """Rows and checksum of a tenant's tables in the shared database."""
    return {key[0]: value for key, value in (await estate.checksums("shared")).items() if key[1] == tenant}


@pytest.mark.parametrize("point", ["fence.marker_flushed"])
async def test_two_movers_of_one_move_of_which_one_is_frozen_do_no_harm(estate18: Estate, point: str) -> None:
    await two_movers(estate18, point, PROMOTION)


@pytest.mark.faults
@DIRECTIONS
@pytest.mark.parametrize("point", POINTS[1:])
async def test_two_movers_of_one_move_of_which_one_is_frozen_anywhere_do_no_harm(
    estate: Estate, point: str, way: tuple[str, str]
) -> None:
    await two_movers(estate, point, way)


@pytest.mark.faults
@DIRECTIONS
@pytest.mark.parametrize(("to", "released"), [("same", False), ("same", True), ("third", True)])
async def test_two_movers_one_overtaken_before_its_journal(
    estate: Estate, way: tuple[str, str], to: str, released: bool
) -> None:
    """`run.started`: nothing is journalled yet, so the second wins. The first is told that it is too late,
    touches nothing,
    and leaves no move behind that would have to be aborted."""
    tenant, target = estate.tenant, way[1] if to == "same" else to
    async with a_third(estate):
        mover = estate.mover()
        if way == DEMOTION:
            await moved(estate, tenant, "acme")
        async with load(estate, tenants=estate.tenants[:2], styles=STYLES) as running:
            async with frozen(estate, "run.started", way[1]) as first:
                won = await mover.run(await mover.plan(tenant, target))
                if released:
                    await mover.release(won.id)
                moves, has = await mover.list(tenant), await belongings(estate, won.id)
                first.go_on()
                code, output = await first.ended()
            assert code == 1, output
            if released:
                assert f"MoveRefused: moving tenant {tenant} to {way[1]} is refused, nothing was touched" in output
                assert f"tenant {tenant} lives in {target} at epoch {won.plan.epoch + 1} now" in output
            else:
                assert f"MoveBusy: move {won.id} is in the way: tenant {tenant} is being moved already" in output
            assert await mover.list(tenant) == moves
            assert await belongings(estate, won.id) == has
            await running.reach(tenant, 20)
            assert (await mover.release(won.id)).state is State.RELEASED
            assert await mover.leftovers() == []
        print(await check(estate, running))
        assert await home_of(estate, tenant) == target


async def test_two_movers_at_once_one_wins(estate18: Estate) -> None:
    mover = estate18.mover()
    plans = [await mover.plan(estate18.tenant, "acme") for _ in range(2)]
    results = await asyncio.gather(*(mover.run(plan) for plan in plans), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["MoveBusy", "MoveRecord"]
    assert "is being moved already" in str(next(r for r in results if isinstance(r, MoveBusy)))


@pytest.mark.faults
async def test_two_movers_at_once_to_two_sides_one_wins(estate: Estate) -> None:
    """The tenant lives at acme; one mover demotes it, the other wants it in a third database."""
    async with a_third(estate):
        await moved(estate, estate.tenant, "acme")
        mover = estate.mover()
        async with load(estate, styles=STYLES) as running:
            plans = [await mover.plan(estate.tenant, to) for to in ("shared", "third")]
            results = await asyncio.gather(*(mover.run(plan) for plan in plans), return_exceptions=True)
            assert sorted(type(result).__name__ for result in results) == ["MoveBusy", "MoveRecord"], results
            (won,) = [result for result in results if isinstance(result, MoveRecord)]
            assert won.state is State.FLIPPED
            await running.reach(estate.tenant, 20)
        print(await check(estate, running))
        assert await home_of(estate, estate.tenant) == won.target


async def test_a_zombie_can_not_flip_what_was_aborted(estate18: Estate) -> None:
    """Its lease was lost with its session, somebody aborts, and only then it goes on to the commit."""
    mover, tenant = estate18.mover(), estate18.tenant
    async with load(estate18) as running:
        async with frozen(estate18, "fence.reverse_opened", "acme", attempts=1) as first:
            (record,) = await mover.list()
            await estate18.fetch("control", END_SESSIONS, f"tenantry move lease {record.id}")
            assert (await mover.abort(record.id)).state is State.ABORTED
            first.go_on()
            code, output = await first.ended()
            assert code == 1, output
        await running.reach(tenant, 20)
    await check(estate18, running)
    assert (await estate18.homes())["shared"] == ("shared", 1)
    again = await mover.run(await mover.plan(tenant, "acme"))
    assert again.state is State.FLIPPED


@pytest.mark.faults
@pytest.mark.parametrize(
    "point",
    [
        "schema.loaded",
        "slot.created",
        "copy.half",
        "copy.last_table",
        "subscription.enabled",
        "reverse.prepared",
        "fence.marker_flushed",
        "fence.placement_updated",
        "directory.updated",
        "audit.started",
    ],
)
async def test_a_zombie_touches_nothing_of_its_successors(estate18: Estate, point: str) -> None:
    """All its sessions are gone while it stands frozen, somebody aborts the move, and a new one brings the tenant
    to the same target; what the first was about to do there would be done to the tenant's home."""
    mover, tenant = estate18.mover(), estate18.tenant
    async with load(estate18, tenants=estate18.tenants[:1], styles=STYLES) as running:
        async with frozen(estate18, point, "acme", patience=600) as first:
            (record,) = await mover.list(tenant)
            for database in ("control", "shared", "acme"):
                await estate18.fetch(database, END_SESSIONS, f"tenantry move%{record.id}")
            if (await mover.abort(record.id)).state is State.ABORTED:
                await moved(estate18, tenant, "acme")
            else:
                await mover.release(record.id)
            before = await rows_of(estate18, "acme")
            first.go_on()
            code, output = await first.ended()
        assert code == 1, output
        assert any(f"{error}: " in output for error in ("LeaseLost", "MoveStopped", "SlotLost")), output
        after = await rows_of(estate18, "acme")
        assert all(after.get(table, 0) >= rows for table, rows in before.items()), (before, after)
        await running.reach(tenant, 20)
    await check(estate18, running)
    assert await mover.leftovers() == []


async def rows_of(estate: Estate, database: str) -> dict[str, int]:
    """Rows of the tenant by table: its clients add some, and delete none."""
    sums = await estate.checksums(database)
    return {table: rows for (table, tenant), (rows, _) in sums.items() if tenant == estate.tenant}


@pytest.mark.faults
async def test_a_zombie_that_deletes_old_rows_spares_those_of_a_tenant_that_came_back(estate18: Estate) -> None:
    """It releases, has lost its lease, and stands still between two batches while the release is ended by another
    mover, and the tenant demoted to where its old rows were."""
    mover, tenant = estate18.mover(limits=replace(LIMITS, delete_batch=50)), estate18.tenant
    asleep, awake = threading.Event(), threading.Event()

    def sleep(event: Progress) -> None:
        if isinstance(event, Deleted) and not asleep.is_set():
            asleep.set()
            awake.wait(60)

    async with load(estate18, tenants=estate18.tenants[:1], styles=STYLES) as running:
        record = await mover.run(await mover.plan(tenant, "acme"))
        zombie = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(mover.release(record.id, sleep))))
        try:
            assert await asyncio.to_thread(asleep.wait, 30)
            await estate18.fetch("control", END_SESSIONS, f"tenantry move lease {record.id}")
            assert (await mover.resume(record.id)).state is State.RELEASED
            back = await mover.run(await mover.plan(tenant, "shared"))
            before = await rows_of(estate18, "shared")
        finally:
            awake.set()
        with pytest.raises(MoveError, match="at home in shared: its rows stay"):
            await zombie
        after = await rows_of(estate18, "shared")
        assert all(after.get(table, 0) >= rows for table, rows in before.items()), (before, after)
        await running.reach(tenant, 20)
        await mover.release(back.id)
    await check(estate18, running)
