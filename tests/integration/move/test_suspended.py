"""A tenant that is suspended, or let in again, at any moment of a move is so at its new home."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Final

import pytest

from tenantry import Router, TenantSuspended
from tenantry.embedded import EmbeddedServer
from tenantry.move import Mechanism, State, failpoints
from tenantry.move.context import Direction, MoveContext
from tenantry.move.results import MoveResult
from tenantry.move.session import Connection
from tenantry.move.steps import finalize, offline
from tests.support.estate import LIMITS, Estate

#: Moments of a move, by its failpoints: before the slot and after it, and under the fence before and after the
#: marker that proves what the other side has.
THERE: Final = ["placement.closed", "reverse.prepared", "fence.locked", "fence.reverse_opened"]
#: A rollback has only the fence.
BACK: Final = ["fence.locked", "fence.sequences_set"]
AFTER_MARKER: Final = {"fence.sequences_set", "fence.reverse_opened"}
SUSPEND: Final = "UPDATE tenantry.placement SET suspended = {} WHERE tenant = '{}'"
#: Keeps the flip's own word from the new home, which the mover's must do without.
DISABLE: Final = """
DO $$ DECLARE s record; BEGIN
    FOR s IN SELECT subname FROM pg_subscription JOIN pg_database d ON d.oid = subdbid
             WHERE d.datname = current_database()
    LOOP EXECUTE format('ALTER SUBSCRIPTION %I DISABLE', s.subname); END LOOP;
END $$
"""
STOPPED: Final = """
DO $$ BEGIN
    WHILE EXISTS (SELECT FROM pg_stat_subscription AS w JOIN pg_subscription AS s ON s.oid = w.subid
                  JOIN pg_database d ON d.oid = s.subdbid
                  WHERE d.datname = current_database() AND w.pid IS NOT NULL)
    LOOP PERFORM pg_sleep(0.01); END LOOP;
END $$
"""
#: Time for these statements under the fence.
PATIENT: Final = dataclasses.replace(LIMITS, pause=10.0)


def at(point: str, action: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do something once, when a mover reaches a failpoint."""
    done: list[str] = []

    def reach(name: str) -> None:
        if name == point and not done:
            done.append(name)
            action()

    monkeypatch.setattr(failpoints, "reach", reach)


async def lets_in(estate: Estate) -> bool:
    async with Router.open(estate.config(), metrics=False) as router:
        try:
            await router.fetchval(estate.tenant, "SELECT count(*) FROM account")
        except TenantSuspended:
            return False
    return True


async def suspended(estate: Estate, database: str) -> bool:
    query = "SELECT suspended FROM tenantry.placement WHERE tenant = $1"
    return bool((await estate.fetch(database, query, str(estate.tenant)))[0][0])


async def way_of(estate: Estate, direction: str) -> tuple[str, str, Callable[[], Awaitable[object]]]:
    """The home, the new one, and the move between them that is to be begun."""
    mover = estate.mover(limits=PATIENT)
    plan = await mover.plan(estate.tenant, "acme")
    if direction == "promote":
        return "shared", "acme", lambda: mover.run(plan)
    record = await mover.run(plan)
    if direction == "rollback":
        return "acme", "shared", lambda: mover.rollback(record.id)
    await mover.release(record.id)
    plan = await mover.plan(estate.tenant, "shared")
    return "acme", "shared", lambda: mover.run(plan)


#: In every run: each direction, and on the way there before and after the marker.
SHORT: Final = {
    ("promote", "placement.closed", True),
    *((direction, point, True) for direction in ("promote", "rollback", "demote") for point in AFTER_MARKER),
}
CELLS: Final = [
    pytest.param(
        direction,
        point,
        wish,
        marks=[] if (direction, point, wish) in SHORT else [pytest.mark.faults],
    )
    for direction, points in (("promote", THERE), ("rollback", BACK), ("demote", THERE))
    for point in points
    for wish in (True, False)
]


@pytest.mark.parametrize(("direction", "point", "wish"), CELLS)
async def test_a_suspended_tenant_stays_suspended_through_a_move(
    estate18: Estate, monkeypatch: pytest.MonkeyPatch, direction: str, point: str, wish: bool
) -> None:
    home, new, move = await way_of(estate18, direction)
    servers = {
        "shared": (estate18.near, estate18.shared),
        "acme": (estate18.far, estate18.dedicated),
    }
    await estate18.fetch(home, SUSPEND.format(not wish, estate18.tenant))

    def change() -> None:
        near, database = servers[home]
        if point in AFTER_MARKER:
            far, other = servers[new]
            far.psql(DISABLE, other)
            far.psql(STOPPED, other)
        near.psql(SUSPEND.format(wish, estate18.tenant), database)

    at(point, change, monkeypatch)
    await move()
    assert [await suspended(estate18, new), await lets_in(estate18)] == [wish, not wish]


@pytest.mark.parametrize("wish", [True, pytest.param(False, marks=pytest.mark.faults)])
async def test_a_suspended_tenant_stays_suspended_through_a_copy_under_the_fence(
    far16: EmbeddedServer, monkeypatch: pytest.MonkeyPatch, wish: bool
) -> None:
    """Changed when the rows have been copied: the target knows it before the source's commit."""
    with EmbeddedServer.start(16, settings={"wal_level": "replica"}) as plain:
        estate = await Estate.make(plain, far16)
        await estate.fetch("shared", SUSPEND.format(not wish, estate.tenant))
        carry, admit_in_new_sessions = offline._carry, finalize.admit_in_new_sessions
        told: list[bool] = []

        async def carried(work: MoveContext, beside: Connection, there: Connection) -> MoveResult:
            moved = await carry(work, beside, there)
            plain.psql(SUSPEND.format(wish, estate.tenant), estate.shared)
            return moved

        async def settled(work: MoveContext, way: Direction) -> None:
            told.append(await suspended(estate, "acme"))
            await admit_in_new_sessions(work, way)

        monkeypatch.setattr(offline, "_carry", carried)
        monkeypatch.setattr(finalize, "admit_in_new_sessions", settled)
        mover = estate.mover()
        plan = await mover.plan(estate.tenant, "acme", consent=8.0)
        assert plan.mechanism is Mechanism.COPY
        assert (await mover.run(plan)).state is State.FLIPPED
        assert [*told, await suspended(estate, "acme"), await lets_in(estate)] == [wish, wish, not wish]
        estate.drop()
