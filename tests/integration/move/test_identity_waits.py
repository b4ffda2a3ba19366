"""The lock for a replica identity is waited for without holding up those who use the table, and not for ever."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import asyncpg
import pytest

from tenantry import sql
from tenantry.move import MoveStopped, Progress, State
from tenantry.move.progress import Retrying
from tests.support.estate import LIMITS, Estate

#: Milliseconds for which somebody behind the move's lock would wait no longer: the move asks for 100 at a time.
_SOON = 40


async def _reader(estate: Estate) -> asyncpg.Connection[asyncpg.Record]:
    """Somebody who has read the table, for longer than a second, and keeps the transaction open."""
    connection = await asyncpg.connect(
        estate.endpoints["shared"].dsn, server_settings={"application_name": "nightly report"}
    )
    await connection.execute("BEGIN; SELECT FROM entry LIMIT 1")
    async with asyncio.timeout(20):
        users = sql.query("move/users")
        while not any(row["long"] for row in await estate.fetch("shared", users, "public.entry")):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return connection


async def test_beside_an_idle_reader_nobody_waits_and_the_move_stops_and_names_it(estate18: Estate) -> None:
    mover = estate18.mover(limits=replace(LIMITS, patience=3.0))
    plan = await mover.plan(estate18.tenant, "acme")
    reader = await _reader(estate18)
    writer = await asyncpg.connect(estate18.endpoints["shared"].dsn)
    try:
        await writer.execute(f"SET lock_timeout = {_SOON}")
        told: list[str] = []

        def tell(event: Progress) -> None:
            if isinstance(event, Retrying):
                told.append(event.error)

        moving = asyncio.create_task(mover.run(plan, tell))
        written = 0
        while not moving.done():
            await writer.execute("UPDATE entry SET amount = amount + 1 WHERE tenant_id = $1", estate18.tenants[1])
            written += 1
            await asyncio.sleep(0.01)
        with pytest.raises(MoveStopped, match=r"public\.entry had to wait too long for: .*nightly report"):
            await moving
        assert told
        assert "nightly report" in told[0]
        assert written > 10
    finally:
        await writer.close()
        await reader.close()
    record = await estate18.mover().resume(plan.id)
    assert record.state is State.FLIPPED


async def test_a_move_held_up_by_an_idle_reader_goes_on_as_soon_as_the_reader_has_ended(estate18: Estate) -> None:
    mover = estate18.mover()
    plan = await mover.plan(estate18.tenant, "acme")
    reader = await _reader(estate18)

    def tell(event: Progress) -> None:
        if isinstance(event, Retrying) and not reader.is_closed():
            reader.terminate()

    record = await mover.run(plan, tell)
    assert reader.is_closed()
    assert record.state is State.FLIPPED
