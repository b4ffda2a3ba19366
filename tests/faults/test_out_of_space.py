"""F10: the target runs out of space while rows are copied, while changes are applied, while indexes are built.

No small file system is needed: the kernel limits the size of the files that the target's server writes
(RLIMIT_FSIZE, `prlimit` on its processes), and a table that would grow beyond it gets "File too large" where it
would get "No space left on device". The limit is above a segment of the log, so that only data meets it.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.embedded.folder import server_user
from tenantry.move import MoveStopped, State
from tests.support.estate import Estate
from tests.support.load import check, load
from tests.support.process import MoverProcess

MB = 2**20
#: Above a segment of the log (16 MB), below the tenant's large table, which has some 30 MB.
LIMIT = 17 * MB
ENDS = ("resume", "abort")


#: Sets the soft limit (its last argument) of processes as the user that they run as: root may lack the capability.
_LIMIT = """
import os, resource, sys
uid, gid, size, *pids = map(int, sys.argv[1:])
if os.geteuid() == 0 and uid:
    os.setgroups([]); os.setgid(gid); os.setuid(uid)
for pid in pids:
    try:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    except ProcessLookupError:
        pass  # has ended meanwhile
"""


def limit(server: EmbeddedServer, size: int) -> None:
    """Let no process of the server, nor any that it starts, write a file beyond `size`."""
    assert server.pid is not None
    user = server_user()
    ids = [user.pw_uid, user.pw_gid] if user else [0, 0]
    # The server first: what it starts from now on has the limit; what it has started is told after it.
    for pids in ([server.pid], [*children(server.pid)]):
        arguments = map(str, [*ids, size, *pids])
        subprocess.run([sys.executable, "-I", "-S", "-c", _LIMIT, *arguments], check=True)


def children(pid: int) -> Iterator[int]:
    """The processes that a process has started."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        yield from map(int, (task / "children").read_text().split())


@pytest.fixture(params=[16, 18])
async def large(request: pytest.FixtureRequest) -> AsyncIterator[Estate]:
    """An estate whose moving tenant has a table larger than the limit, and a target server of its own."""
    quick = {"wal_retrieve_retry_interval": "200ms", "max_slot_wal_keep_size": "-1"}
    with (
        EmbeddedServer.start(request.param, settings=quick) as near,
        EmbeddedServer.start(request.param, settings=quick) as far,
    ):
        estate = await Estate.make(near, far)
        owner = await asyncpg.connect(near.dsn(estate.shared))
        await owner.execute(
            'INSERT INTO "Blob" (tenant_id, "Key", raw) SELECT $1::uuid, \'big\' || i, '
            # Nothing that could be compressed: an index over it is as large as it looks.
            "(SELECT decode(string_agg(md5((i * 100 + j)::text), ''), 'hex') FROM generate_series(1, 60) AS j) "
            "FROM generate_series(1, 30000) AS i",
            estate.tenant,
        )
        await owner.execute('ANALYZE "Blob"')
        await owner.close()
        yield estate
        limit(far, resource.RLIM_INFINITY)
        estate.drop()


async def finish(estate: Estate, move: str, end: str) -> None:
    """The limit is lifted: resume goes on to the flip, abort leaves nothing, in either database."""
    mover = estate.mover()
    if end == "resume":
        limit(estate.far, resource.RLIM_INFINITY)
        assert (await mover.resume(move)).state is State.FLIPPED
        return
    assert (await mover.abort(move)).state is State.ABORTED  # needs no room
    assert await mover.leftovers() == []
    assert estate.near.psql("SELECT count(*) FROM pg_replication_slots") == "0", (
        "an old slot keeps the log for ever"
    )
    assert estate.near.psql("SELECT count(*) FROM pg_publication", estate.shared) == "0"
    limit(estate.far, resource.RLIM_INFINITY)
    assert (await mover.run(await mover.plan(estate.tenant, "acme"))).state is State.FLIPPED


def names_the_target(said: str) -> None:
    assert "File too large" in said, said
    assert "acme" in said, said


@pytest.mark.faults
@pytest.mark.parametrize("end", ENDS)
async def test_a_target_without_room_for_the_copy_stops_the_move_and_harms_nobody(large: Estate, end: str) -> None:
    """F10 at the copy."""
    others = {key: value for key, value in (await large.checksums("shared")).items() if key[1] != large.tenant}
    async with load(large, tenants=[large.tenant]) as running:
        limit(large.far, LIMIT)
        mover = large.mover()
        with pytest.raises(MoveStopped) as stopped:
            await mover.run(await mover.plan(large.tenant, "acme"))
        names_the_target(str(stopped.value))
        (record,) = await mover.list()
        names_the_target(record.error or "")
        await running.reach(large.tenant, 20)
        await finish(large, record.id, end)
        await running.reach(large.tenant, 20)
    print(await check(large, running))
    left = await large.checksums("shared")
    assert {key: value for key, value in left.items() if key[1] != large.tenant} == others


@pytest.mark.faults
@pytest.mark.parametrize("end", ENDS)
async def test_a_target_without_room_for_the_indexes_stops_the_move_and_harms_nobody(
    large: Estate, end: str
) -> None:
    """F10 at `indexes.built`: the rows fit, an index over them does not."""
    wide = """CREATE INDEX wide ON "Blob" (tenant_id, raw, (raw || '\\x00'::bytea))"""
    large.near.psql(wide, large.shared)
    async with load(large, tenants=[large.tenant]) as running:
        process = MoverProcess(large, "move", str(large.tenant), failpoints="copy.last_table=stop")
        try:
            await process.stopped()
            limit(large.far, biggest_file(large) + 4 * MB)
            process.go_on()
            code, output = await process.ended()
        finally:
            process.end()
        assert code == 1, output
        names_the_target(output)
        (record,) = await large.mover().list()
        assert record.step == "copy"
        await running.reach(large.tenant, 20)
        await finish(large, record.id, end)
        await running.reach(large.tenant, 20)
    print(await check(large, running))


@pytest.mark.faults
@pytest.mark.parametrize("end", ENDS)
async def test_a_target_that_fills_up_while_it_follows_stops_the_move_and_harms_nobody(
    large: Estate, end: str
) -> None:
    """F10 at `subscription.enabled`: what has been copied fits, what comes after it does not."""
    async with load(large, tenants=[large.tenant]) as running:
        process = MoverProcess(large, "move", str(large.tenant), failpoints="indexes.built=stop", catch_up=25.0)
        try:
            await process.stopped()
            limit(large.far, max(biggest_file(large), 16 * MB) + MB // 2)
            await grow(large, large.tenant)
            process.go_on()
            started = time.monotonic()
            code, output = await process.ended()
        finally:
            process.end()
        print(f"stopped after {time.monotonic() - started:.0f} s")
        assert code == 1, output
        assert "acme" in output, output
        (record,) = await large.mover().list()
        await running.reach(large.tenant, 20)
        await finish(large, record.id, end)
        await running.reach(large.tenant, 20)
    print(await check(large, running))


def biggest_file(estate: Estate) -> int:
    """Bytes of the target database's largest file."""
    estate.far.psql("CHECKPOINT")
    folder = estate.far.psql(
        "SELECT 'base/' || oid FROM pg_database WHERE datname = current_database()", estate.dedicated
    )
    return max(entry.stat().st_size for entry in os.scandir(estate.far.folder / "data" / folder))


async def grow(estate: Estate, tenant: uuid.UUID) -> None:
    """Let the tenant write some 6 MB more into its large table."""
    owner = await asyncpg.connect(estate.near.dsn(estate.shared))
    try:
        await owner.execute(
            'INSERT INTO "Blob" (tenant_id, "Key", raw) SELECT $1::uuid, \'more\' || i, '
            "decode(repeat(md5(i::text), 30), 'hex') FROM generate_series(1, 10000) AS i",
            tenant,
        )
    finally:
        await owner.close()
