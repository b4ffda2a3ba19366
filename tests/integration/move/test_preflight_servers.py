"""Preflight refuses servers on which a move's subscriptions could not run, and no others."""

from __future__ import annotations

from dataclasses import replace

import asyncpg
import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.move import MovePlan
from tests.support.estate import Estate

CARRIER = "CREATE ROLE carrier LOGIN BYPASSRLS REPLICATION"


def _codes(plan: MovePlan) -> set[str]:
    return {finding.code for finding in plan.findings}


async def _plan(estate: Estate, *, role: str = "postgres") -> MovePlan:
    """The plan of a mover that knows acme's server as `role`."""
    ends = estate.endpoints
    ends["acme"] = replace(ends["acme"], dsn=ends["acme"].dsn.replace("postgres@", f"{role}@"))
    return await estate.mover(endpoints=ends).plan(estate.tenant, "acme")


async def test_a_standby_is_refused_at_either_end_until_it_is_promoted() -> None:
    with EmbeddedServer.start(18) as server:
        estate = await Estate.make(server, server)
        assert "standby" not in _codes(await _plan(estate))
        (server.folder / "data" / "standby.signal").touch()
        server.restart()
        said = {f.problem: f.fix for f in (await _plan(estate)).refusals if f.code == "standby"}
        assert {problem.split()[0] for problem in said} == {"shared", "acme"}
        assert all("pg_promote" in fix for fix in said.values())
        assert server.psql("SELECT pg_promote()") == "t"
        assert "standby" not in _codes(await _plan(estate))


async def test_ends_that_are_read_only_by_default_are_written_all_the_same(estate18: Estate) -> None:
    ends = ((estate18.near, estate18.shared), (estate18.far, estate18.dedicated))
    for server, name in ends:
        server.psql(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    try:
        mover = estate18.mover()
        await mover.run(await mover.plan(estate18.tenant, "acme"))
        assert (await estate18.homes())["acme"] == ("acme", 2)
    finally:
        for server, name in ends:
            server.psql(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')


@pytest.mark.parametrize("role", ["postgres", "carrier"])
async def test_a_server_without_a_free_background_worker_is_refused(pg18: EmbeddedServer, role: str) -> None:
    # One of the two is the launcher of logical replication. The move wants one for the tenant's tables and one for
    # the reference tables.
    with EmbeddedServer.start(18, settings={"max_worker_processes": "2"}) as far:
        far.psql(CARRIER)
        estate = await Estate.make(pg18, far)
        try:
            refused = (await _plan(estate, role=role)).refusals
            (finding,) = [finding for finding in refused if finding.code == "no-worker-processes"]
            assert "acme has 1 of max_worker_processes left, the move needs 2" in finding.problem
            assert "ALTER SYSTEM SET max_worker_processes = 4" in finding.fix
        finally:
            estate.drop()


async def test_the_way_back_wants_a_background_worker_at_the_source(far18: EmbeddedServer) -> None:
    with EmbeddedServer.start(18, settings={"max_worker_processes": "1"}) as near:
        estate = await Estate.make(near, far18)
        try:
            refused = (await _plan(estate)).refusals
            (finding,) = [finding for finding in refused if finding.code == "no-worker-processes"]
            assert "shared has 0 of max_worker_processes left, the move needs 1" in finding.problem
        finally:
            estate.drop()


async def test_a_server_with_just_enough_workers_and_origins_is_taken_and_is_enough(pg18: EmbeddedServer) -> None:
    settings = {"max_worker_processes": "3", "max_active_replication_origins": "2"}
    with EmbeddedServer.start(18, settings=settings) as far:
        estate = await Estate.make(pg18, far)
        try:
            mover = estate.mover()
            record = await mover.run(await mover.plan(estate.tenant, "acme"))
            assert record.plan.references
            assert (await estate.homes())["acme"] == ("acme", 2)
        finally:
            estate.drop()


@pytest.mark.parametrize(
    ("version", "setting"), [(16, "max_replication_slots"), (18, "max_active_replication_origins")]
)
async def test_a_server_that_tracks_its_last_origins_is_refused_and_idle_ones_do_not_count(
    pg18: EmbeddedServer, version: int, setting: str
) -> None:
    with EmbeddedServer.start(version, settings={setting: "4"}) as far:
        far.psql(CARRIER)
        far.psql("SELECT pg_replication_origin_create('o' || i) FROM generate_series(1, 4) AS i")
        estate = await Estate.make(pg18, far)
        try:
            assert "no-origins" not in _codes(await _plan(estate))

            # A role that can't see which are in use must take all of them for used, until it may look.
            blind = [f for f in (await _plan(estate, role="carrier")).refusals if f.code == "no-origins"]
            assert ["acme has 0 of" in finding.problem for finding in blind] == [True]
            grant, _, _ = blind[0].fix.partition(";")
            far.psql(grant, estate.dedicated)
            assert "no-origins" not in _codes(await _plan(estate, role="carrier"))

            far.psql("SELECT pg_replication_origin_advance('o' || i, '0/1') FROM generate_series(1, 3) AS i")
            for role in ("postgres", "carrier"):
                refused = (await _plan(estate, role=role)).refusals
                (finding,) = [finding for finding in refused if finding.code == "no-origins"]
                assert f"acme has 1 of {setting} left, the move needs 2" in finding.problem
                assert f"ALTER SYSTEM SET {setting} = 6" in finding.fix
            far.psql("SELECT pg_replication_origin_drop('o1')")
            assert "no-origins" not in _codes(await _plan(estate))
        finally:
            far.psql("DROP OWNED BY carrier", estate.dedicated)
            estate.drop()


async def test_ends_on_one_server_share_its_origins() -> None:
    settings = {"max_active_replication_origins": "2"}
    with EmbeddedServer.start(18, settings=settings) as server:
        estate = await Estate.make(server, server)
        refused = (await _plan(estate)).refusals
        (finding,) = [finding for finding in refused if finding.code == "no-origins"]
        assert "left, the move needs 3" in finding.problem


async def test_sessions_that_the_mover_may_not_see_are_told_and_the_fix_shows_them(looked_at: Estate) -> None:
    other = await asyncpg.connect(looked_at.endpoints["acme"].dsn)
    looked_at.far.psql(CARRIER)
    try:
        (told,) = [f for f in (await _plan(looked_at, role="carrier")).findings if f.code == "sessions-hidden"]
        assert not told.refuses
        assert "carrier" in told.problem
        assert "acme" in told.problem
        looked_at.far.psql(told.fix)
        assert "sessions-hidden" not in _codes(await _plan(looked_at, role="carrier"))
    finally:
        await other.close()
        looked_at.far.psql("DROP ROLE carrier")
    assert "sessions-hidden" not in _codes(await _plan(looked_at))
