"""F31: the password of the mover's role is rotated in the middle of a move."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import asyncpg
import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.move import Endpoint, State
from tests.support.estate import Estate
from tests.support.load import check, load
from tests.support.process import MoverProcess
from tests.support.until import until

QUICK = {"wal_retrieve_retry_interval": "200ms"}
POINTS = ["copy.half", "subscription.enabled", "fence.marker_seen", "directory.updated", "audit.started"]


def rotate(server: EmbeddedServer, password: str) -> None:
    """Another password; whoever is connected as a publisher's reader has to log in again."""
    server.psql(f"ALTER ROLE mover PASSWORD '{password}'")
    server.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication")


async def asking(server: EmbeddedServer) -> None:
    """Let the server ask the mover for its password."""
    server.psql("CREATE ROLE mover LOGIN SUPERUSER PASSWORD 'old'")
    rules = server.folder / "data" / "pg_hba.conf"
    rules.write_text("host all mover 127.0.0.1/32 scram-sha-256\n" + rules.read_text())
    server.psql("SELECT pg_reload_conf()")

    async def refused() -> bool:
        try:
            opened = await asyncpg.connect(f"postgresql://mover:wrong@127.0.0.1:{server.port}/postgres")
        except asyncpg.InvalidPasswordError:
            return True
        await opened.close()
        return False

    await until(refused)


def ends(estate: Estate, password: str) -> dict[str, Endpoint]:
    return {
        name: replace(end, dsn=end.dsn.replace("postgres@", f"mover:{password}@"))
        for name, end in estate.endpoints.items()
    }


async def rotated_cell(point: str) -> None:
    with EmbeddedServer.start(18, settings=QUICK) as near, EmbeddedServer.start(18, settings=QUICK) as far:
        estate = await Estate.make(near, far)
        for server in (near, far):
            await asking(server)
        async with load(estate) as running:
            process = MoverProcess(
                estate, "move", str(estate.tenant), failpoints=f"{point}=stop", endpoints=ends(estate, "old")
            )
            try:
                await process.stopped()
                for server in (near, far):
                    await asyncio.to_thread(rotate, server, "new")
                await running.reach(estate.tenant, 10)
                process.go_on()
                code, output = await process.ended()
            finally:
                process.end()
            assert code, output
            assert "password" in output
            mover = estate.mover(endpoints=ends(estate, "new"))
            (record,) = await mover.list()
            assert (await mover.resume(record.id)).state is State.FLIPPED
            await running.reach(estate.tenant, 20)
            assert (await mover.rollback(record.id)).state is State.ROLLED_BACK
            await running.reach(estate.tenant, 20)
        print(await check(estate, running))


@pytest.mark.timeout(240)
async def test_a_password_rotated_while_the_target_follows_costs_a_resume() -> None:
    await rotated_cell("subscription.enabled")


@pytest.mark.faults
@pytest.mark.timeout(240)
@pytest.mark.parametrize("point", POINTS)
async def test_a_password_rotated_anywhere_costs_a_resume(point: str) -> None:
    """F31."""
    await rotated_cell(point)
