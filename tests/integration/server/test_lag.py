"""The lag of a move is what its slot says at that moment, whatever its plan's format calls the direction."""

from __future__ import annotations

import pytest

from tenantry.config import ResolvedDatabase
from tenantry.embedded import EmbeddedServer
from tenantry.ids import Kind
from tenantry.move import State
from tenantry.server.lag import FollowedMove, lags
from tests.support.databases import database, drop_slots
from tests.support.estate import Estate
from tests.support.estate_fixtures import estate18
from tests.support.until import until

__all__ = ["estate18"]

#: Bytes of a message in the log, more than a server at rest writes beside it.
WRITTEN = 1_000_000
#: With its commit on disk.
WRITE = f"SELECT pg_logical_emit_message(true, 'test', repeat('x', {WRITTEN}))"
BEHIND = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint FROM pg_replication_slots"


@pytest.mark.parametrize(
    ("word", "flipped"), [("forward", False), ("reverse", True), ("out", False), ("back", True)]
)
async def test_the_lag_of_a_move_is_read_by_the_slot_of_its_direction(
    pg18: EmbeddedServer, word: str, flipped: bool
) -> None:
    """Nobody reads from the slot: its lag is at least the server's before we look, and at most the one after."""
    slot = f"tenantry_m0000000009_{word}"
    with database(pg18) as name:
        pg18.psql(f"SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')", name)

        def behind() -> int:
            return int(pg18.psql(f"{BEHIND} WHERE slot_name = '{slot}'", name))

        async def lag(flipped: bool) -> dict[str, int]:
            home = ResolvedDatabase("shared", Kind.SHARED, "config", pg18.dsn(name), None)
            return await lags({"shared": home}, [FollowedMove("m0000000009", "t", "shared", flipped)])

        try:
            pg18.psql(WRITE, name)
            low, found, high = behind(), await lag(flipped), behind()
            assert WRITTEN <= low <= found["t"] <= high
            assert await lag(not flipped) == {}
            confirmed = f"SELECT pg_replication_slot_advance('{slot}', pg_current_wal_lsn())"
            pg18.psql(confirmed, name)
            low, found, high = behind(), await lag(flipped), behind()
            assert 0 <= low <= found["t"] <= high
        finally:
            drop_slots(pg18, f"slot_name = '{slot}'")


async def test_the_old_home_that_stops_following_is_behind_and_has_caught_up_when_it_follows_again(
    estate18: Estate,
) -> None:
    mover = estate18.mover()
    record = await mover.run(await mover.plan(estate18.tenant, "acme"))
    assert record.state is State.FLIPPED
    home = ResolvedDatabase("acme", Kind.DEDICATED, "config", estate18.endpoints["acme"].dsn, None)
    link = f"tenantry_{record.id}_reverse"

    async def lag() -> int:
        found = await lags({"acme": home}, [FollowedMove(record.id, "t", "acme", True)])
        return found["t"]

    async def nobody_reads() -> bool:
        (slot,) = await estate18.fetch(
            "acme", "SELECT active FROM pg_replication_slots WHERE slot_name = $1", link
        )
        return not slot["active"]

    async def is_close() -> bool:
        return await lag() < WRITTEN

    await estate18.fetch("shared", f'ALTER SUBSCRIPTION "{link}" DISABLE')
    await until(nobody_reads)
    await estate18.fetch("acme", WRITE)
    (low,) = await estate18.fetch("acme", f"{BEHIND} WHERE slot_name = $1", link)
    assert WRITTEN <= low[0] <= await lag()
    await estate18.fetch("shared", f'ALTER SUBSCRIPTION "{link}" ENABLE')
    await until(is_close)
    assert (await mover.release(record.id)).state is State.RELEASED
