"""No wait of a move is without an end: each stops, and names what it has waited for."""

from __future__ import annotations

from typing import cast

import asyncpg
import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.move import MoveStopped, State
from tenantry.move.session import SETTINGS
from tenantry.move.worker import find_error
from tests.support.estate import Estate

LOG = """2026-11-26 10:00:01 UTC [77] ERROR:  new row for relation "entry" violates check constraint "short"
2026-11-26 10:00:01 UTC [77] DETAIL:  Failing row contains (1, 2).
2026-11-26 10:00:01 UTC [77] CONTEXT:  processing remote data for replication origin "pg_16543" during message type "INSERT"
2026-11-26 10:00:02 UTC [78] ERROR:  canceling statement due to user request
2026-11-26 10:00:03 UTC [79] LOG:  background worker "logical replication apply worker" (PID 77) exited with exit code 1
"""  # noqa: E501  as the server writes it


def test_the_workers_own_error_is_found_in_the_servers_log() -> None:
    assert find_error(LOG, "16543") == 'new row for relation "entry" violates check constraint "short"'
    assert find_error(LOG, "1654") is None


async def test_a_way_back_whose_worker_fails_for_good_ends_with_the_workers_own_error(
    far18: EmbeddedServer,
) -> None:
    """F28: the old home refuses what the new one has written. The rollback ends, and so does the release."""
    quick = {"wal_level": "logical", "logging_collector": "on", "wal_retrieve_retry_interval": "200ms"}
    with EmbeddedServer.start(18, settings=quick) as near:
        estate = await Estate.make(near, far18)
        mover = estate.mover()
        record = await mover.run(await mover.plan(estate.tenant, "acme"))
        near.psql("ALTER TABLE entry ADD CONSTRAINT short CHECK (note <> 'long') NOT VALID", estate.shared)
        far18.psql(f"UPDATE entry SET note = 'long' WHERE tenant_id = '{estate.tenant}'", estate.dedicated)
        with pytest.raises(MoveStopped, match='violates check constraint "short"') as caught:
            await mover.rollback(record.id)
        assert f"tenantry_{record.id}_reverse in shared" in str(caught.value)
        assert (await mover.show(record.id)).state is State.FLIPPED
        assert (await mover.release(record.id)).state is State.RELEASED
        assert await mover.leftovers() == []
        estate.drop()


async def test_a_release_that_waits_for_somebodys_lock_ends_and_names_who_holds_it(
    estate18: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    mover = estate18.mover()
    record = await mover.run(await mover.plan(estate18.tenant, "acme"))
    monkeypatch.setitem(cast("dict[str, str]", SETTINGS), "lock_timeout", "1500ms")
    holder = await asyncpg.connect(estate18.near.dsn(estate18.shared))
    try:
        async with holder.transaction():
            await holder.execute("SELECT FROM entry WHERE tenant_id = $1 FOR UPDATE", estate18.tenant)
            with pytest.raises(MoveStopped, match="lock timeout") as caught:
                await mover.release(record.id)
            assert f"pid {holder.get_server_pid()} (postgres" in str(caught.value)
    finally:
        await holder.close()
    assert (await mover.resume(record.id)).state is State.RELEASED
