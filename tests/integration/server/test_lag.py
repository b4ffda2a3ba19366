"""The lag of a move is read from its slot, whatever its plan's format calls the direction."""

from __future__ import annotations

import pytest

from tenantry.config import ResolvedDatabase
from tenantry.embedded import EmbeddedServer
from tenantry.ids import Kind
from tenantry.server.lag import FollowedMove, lags
from tests.support.databases import database, drop_slots


@pytest.mark.parametrize(
    ("word", "flipped"), [("forward", False), ("reverse", True), ("out", False), ("back", True)]
)
async def test_the_lag_of_a_move_is_read_by_the_slot_of_its_direction(
    pg18: EmbeddedServer, word: str, flipped: bool
) -> None:
    slot = f"tenantry_m0000000009_{word}"
    with database(pg18) as name:
        pg18.psql(f"SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')", name)
        try:
            pg18.psql("SELECT pg_logical_emit_message(false, 'test', 'something to confirm')", name)
            home = ResolvedDatabase("shared", Kind.SHARED, "config", pg18.dsn(name), None)
            found = await lags({"shared": home}, [FollowedMove("m0000000009", "t", "shared", flipped)])
            assert list(found) == ["t"]
            other = await lags({"shared": home}, [FollowedMove("m0000000009", "t", "shared", not flipped)])
            assert other == {}
        finally:
            drop_slots(pg18, f"slot_name = '{slot}'")
