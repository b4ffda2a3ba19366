"""Tenants move between two shared databases, by `balance` and by hand: nobody else's row is touched."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from tenantry import Config, Operations
from tenantry.embedded import EmbeddedServer
from tenantry.ids import Kind
from tenantry.move import State
from tests.support.databases import drop_database, new_database
from tests.support.estate import END_SUBSCRIPTIONS, SCHEMA, Estate, fill
from tests.support.installing import make_data

ROWS = "SELECT tenant_id::text AS tenant, count(*), sum(hashtext(entry::text)) FROM entry GROUP BY 1"


async def second(estate: Estate, far: EmbeddedServer) -> tuple[str, Config]:
    """Another shared database, on another server, where a tenant lives already; and the fleet's configuration."""
    name = new_database(far, "second")
    connection = await asyncpg.connect(far.dsn(name))
    try:
        await make_data(connection, "app", name="second", kind=Kind.SHARED)
        await connection.execute(SCHEMA.read_text())
        async with estate.admin("control") as control:
            await control.execute(
                "INSERT INTO tenantry.database (name, kind, dsn) VALUES ('second', 'shared', 'config')"
            )
            resident = estate.tenants[2]
            await control.execute("UPDATE tenantry.tenant SET database = 'second' WHERE id = $1", str(resident))
        await connection.execute("SELECT tenantry.enroll($1, 1)", str(resident))
        await fill(connection, resident, 50)
        await connection.execute("ANALYZE")
    finally:
        await connection.close()
    async with estate.admin("shared") as shared:
        for table in ('"Blob"', "entry", "account"):
            await shared.execute(f"DELETE FROM {table} WHERE tenant_id = $1", resident)
        await shared.execute("DELETE FROM tenantry.placement WHERE tenant = $1", str(resident))
    sections = estate.sections()
    del sections["databases"]["acme"]
    sections["databases"]["shared"]["operator_dsn"] = estate.near.dsn(estate.shared)
    sections["databases"]["second"] = {
        "kind": "shared",
        "dsn": far.dsn(name, user="app"),
        "operator_dsn": far.dsn(name),
    }
    return name, Config.parse(sections)


@asynccontextmanager
async def two_shared(
    estate: Estate, far: EmbeddedServer, *, tenant_keys: bool
) -> AsyncIterator[tuple[Any, Any, Operations]]:
    """Connections to both, and the fleet's operations. `tenant_keys`: the keys of all tables have the tenant."""
    name, config = await second(estate, far)
    try:
        near, there = await asyncpg.connect(estate.near.dsn(estate.shared)), await asyncpg.connect(far.dsn(name))
        if tenant_keys:
            for one in (near, there):
                await one.execute("ALTER TABLE entry DROP CONSTRAINT entry_pkey, ADD PRIMARY KEY (tenant_id, id)")
        async with Operations.open(config) as ops:
            yield near, there, ops
        await near.close()
        await there.close()
    finally:
        for server, database in ((far, name), (estate.near, estate.shared)):
            server.psql(server.psql(END_SUBSCRIPTIONS, database), database)
        drop_database(far, name)


async def rows(*databases: Any) -> dict[str, Any]:
    """What each tenant has, over the databases: each in one only."""
    found = [row for one in databases for row in await one.fetch(ROWS)]
    assert len({row["tenant"] for row in found}) == len(found)
    return {row["tenant"]: row for row in found}


@pytest.mark.parametrize("back", [False, True], ids=["released", "rolled back"])
async def test_a_tenant_moves_from_one_shared_database_to_another(
    estate18: Estate, far18: EmbeddedServer, back: bool
) -> None:
    async with two_shared(estate18, far18, tenant_keys=True) as (near, there, ops):
        before = await rows(near, there)
        assert len(before) == 3
        plan = await ops.moves.plan(estate18.tenant, "second")
        assert plan.refusals == ()
        moved = await ops.moves.run(plan)
        assert moved.state is State.FLIPPED
        await (ops.moves.rollback if back else ops.moves.release)(moved.id)
        assert await rows(near, there) == before
        assert (str(estate18.tenant) in await rows(near)) is back
        assert (str(estate18.tenant) in await rows(there)) is not back


async def test_one_whose_ids_may_be_others_there_is_refused_with_the_table_and_the_fix(
    estate18: Estate, far18: EmbeddedServer
) -> None:
    async with two_shared(estate18, far18, tenant_keys=False) as (near, there, ops):
        before = await rows(near, there)
        [refusal] = (await ops.moves.plan(estate18.tenant, "second")).refusals
        assert refusal.code == "ids-would-collide"
        assert '"entry"' in refusal.problem
        assert "others' in the target" in refusal.problem
        assert await rows(near, there) == before
