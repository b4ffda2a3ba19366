"""A target that is registered but not there: the move makes it, an abort takes away only what the move made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.move import Endpoint, MoveStopped, State
from tests.support.estate import Estate
from tests.support.load import check, load
from tests.support.process import MoverProcess

ADMIN = "postgres"


@pytest.fixture
async def planned(pg18: EmbeddedServer, far16: EmbeddedServer) -> AsyncIterator[Estate]:
    """An estate whose dedicated database is not there yet, on a server of another version."""
    made = await Estate.make(pg18, far16)
    far16.psql(f'DROP DATABASE "{made.dedicated}"')
    yield made
    if not exists(made):
        far16.psql(f'CREATE DATABASE "{made.dedicated}"')  # so that the estate can be dropped as always
    made.drop()


def ends(estate: Estate) -> dict[str, Endpoint]:
    acme = replace(
        estate.endpoints["acme"],
        server_dsn=estate.far.dsn(ADMIN),
        autovacuum={"*": {"vacuum_scale_factor": "0.02"}, "public.entry": {"vacuum_threshold": "77"}},
    )
    return {**estate.endpoints, "acme": acme}


def exists(estate: Estate, name: str | None = None) -> bool:
    query = f"SELECT 1 FROM pg_database WHERE datname = '{name or estate.dedicated}'"
    return estate.far.psql(query) == "1"


def of_database(estate: Estate, what: str) -> str:
    return estate.far.psql(f"SELECT {what} FROM pg_database AS d WHERE datname = '{estate.dedicated}'")


async def test_a_target_is_made_like_the_source_and_its_tables_are_tuned(planned: Estate) -> None:
    for server in (planned.near, planned.far):
        server.psql("CREATE ROLE keeper")
    try:
        planned.near.psql(
            f'ALTER DATABASE "{planned.shared}" OWNER TO keeper; '
            f'REVOKE ALL ON DATABASE "{planned.shared}" FROM PUBLIC; '
            f'GRANT CONNECT ON DATABASE "{planned.shared}" TO app; '
            f"ALTER DATABASE \"{planned.shared}\" SET work_mem = '7MB'; "
            f'ALTER DATABASE "{planned.shared}" SET search_path = public, "$user"'
        )
        mover = planned.mover(endpoints=ends(planned))
        plan = await mover.plan(planned.tenant, "acme")
        assert plan.refusals == ()
        assert plan.creation is not None
        assert not exists(planned), "a plan touches nothing"
        async with load(planned) as running:
            record = await mover.run(plan)
            await running.reach(planned.tenant, 10)
        assert record.state is State.FLIPPED
        print(await check(planned, running))
        assert of_database(planned, "pg_get_userbyid(datdba)") == "keeper"
        model = planned.near.psql(
            "SELECT encoding, datcollate, datctype FROM pg_database WHERE datname = current_database()",
            planned.shared,
        )
        assert of_database(planned, "encoding, datcollate, datctype") == model
        assert "=" not in of_database(planned, "datacl::text").replace("keeper=", "").replace("app=", "")
        assert record.id in of_database(planned, "shobj_description(d.oid, 'pg_database')")
        assert planned.far.psql("SHOW work_mem", planned.dedicated) == "7MB"
        assert planned.far.psql("SHOW search_path", planned.dedicated) == 'public, "$user"'
        options = "SELECT array_to_string(reloptions, ' ') FROM pg_class WHERE relname = '{}'"
        assert planned.far.psql(options.format("account"), planned.dedicated) == (
            "autovacuum_vacuum_scale_factor=0.02"
        )
        assert "autovacuum_vacuum_threshold=77" in planned.far.psql(options.format("entry"), planned.dedicated)
        assert [left.kind for left in await mover.leftovers() if left.kind in ("database", "schema", "rows")] == []
        assert (await mover.rollback(record.id)).state is State.ROLLED_BACK
        assert exists(planned), "what was once the tenant's home is not dropped"
    finally:
        planned.near.psql(f'ALTER DATABASE "{planned.shared}" OWNER TO postgres; DROP ROLE keeper')
        if exists(planned):
            planned.far.psql(f'ALTER DATABASE "{planned.dedicated}" OWNER TO postgres')
        planned.far.psql("DROP ROLE keeper")


#: Nothing is made yet; it has not its name yet; it has been filled. The others are between them.
SHORT = (
    ("target.started", "abort"),
    ("database.created", "resume"),
    ("database.renamed", "abort"),
    ("indexes.built", "abort"),
)


@pytest.mark.parametrize(
    ("point", "end"),
    [
        pytest.param(point, end, marks=() if (point, end) in SHORT else pytest.mark.faults)
        for point in ("target.started", "database.created", "database.renamed", "schema.loaded", "indexes.built")
        for end in ("resume", "abort")
    ],
)
async def test_a_mover_killed_while_it_makes_the_target_is_resumed_or_leaves_nothing(
    planned: Estate, point: str, end: str
) -> None:
    process = MoverProcess(
        planned, "move", str(planned.tenant), failpoints=f"{point}=kill", endpoints=ends(planned)
    )
    await process.killed()
    mover = planned.mover(endpoints=ends(planned))
    (record,) = await mover.list()
    before = set(planned.far.psql("SELECT datname FROM pg_database").splitlines())
    assert before & {planned.dedicated, f"tenantry_{record.id}"} or point == "target.started"
    if end == "resume":
        assert (await mover.resume(record.id)).state is State.FLIPPED
        assert exists(planned)
    else:
        assert (await mover.abort(record.id)).state is State.ABORTED
        assert (await mover.abort(record.id)).state is State.ABORTED
        assert not exists(planned)
        assert await mover.leftovers() == []
    assert not exists(planned, f"tenantry_{record.id}")


async def test_somebody_elses_database_of_that_name_is_neither_used_nor_dropped(planned: Estate) -> None:
    mover = planned.mover(endpoints=ends(planned))
    plan = await mover.plan(planned.tenant, "acme")
    planned.far.psql(f'CREATE DATABASE "{planned.dedicated}"')
    theirs = "CREATE TABLE account (tenant_id uuid, precious text); INSERT INTO account VALUES (NULL, 'x')"
    planned.far.psql(theirs, planned.dedicated)
    with pytest.raises(MoveStopped, match="did not make"):
        await mover.run(plan)
    assert (await mover.abort(plan.id)).state is State.ABORTED
    assert planned.far.psql("SELECT precious FROM account", planned.dedicated) == "x"
    assert await mover.leftovers() == []


@pytest.mark.parametrize("use", ["a table of an operator's", "a session"])
async def test_a_made_target_that_somebody_uses_is_emptied_but_not_dropped(planned: Estate, use: str) -> None:
    process = MoverProcess(
        planned, "move", str(planned.tenant), failpoints="indexes.built=kill", endpoints=ends(planned)
    )
    await process.killed()
    mover = planned.mover(endpoints=ends(planned))
    (record,) = await mover.list()
    dsn = planned.far.dsn(planned.dedicated)
    stranger = await asyncpg.connect(dsn)
    try:
        if use != "a session":
            await stranger.execute("CREATE TABLE mine (x int); INSERT INTO mine VALUES (1)")
            await stranger.close()
        assert (await mover.abort(record.id)).state is State.ABORTED
        assert exists(planned)
        assert planned.far.psql("SELECT count(*) FROM account", planned.dedicated) == "0"
        assert [left.kind for left in await mover.leftovers()] == ["database"]
    finally:
        await asyncio.wait_for(stranger.close(), 5)
