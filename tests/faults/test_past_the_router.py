"""F27: writers past the routers on tables with the product's own policies, before, during and after the flip."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
import pytest

from tenantry.move import State
from tests.support.estate import Estate
from tests.support.until import until

WRITERS = 3
OWN = """
CREATE TABLE "Log's" (tenant_id uuid NOT NULL, id uuid, PRIMARY KEY (tenant_id, id));
ALTER TABLE "Log's" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "the product's" ON "Log's" USING (tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid);
CREATE POLICY tenantry_guard ON "Log's" AS RESTRICTIVE USING ((SELECT tenantry.admitted()));
GRANT SELECT, INSERT ON "Log's" TO app;
"""  # noqa: E501  as the product typed it


@dataclass
class Told:
    """What the writers were told."""

    acknowledged: list[uuid.UUID] = field(default_factory=list)
    refused: int = 0


@asynccontextmanager
async def past_the_router(estate: Estate) -> AsyncIterator[Told]:
    """Sessions of the application's role at the old home, with nothing but the setting, and no transaction."""
    told, ended = Told(), asyncio.Event()

    async def write() -> None:
        session = await asyncpg.connect(estate.application_dsns()["shared"])
        await session.execute(f"SET app.current_tenant = '{estate.tenant}'")
        while not ended.is_set():
            row = uuid.uuid4()
            try:
                await session.execute('INSERT INTO "Log\'s" VALUES ($1, $2)', estate.tenant, row)
            except asyncpg.PostgresError as error:
                if not (error.sqlstate or "").startswith("TN"):
                    raise
                told.refused += 1
                await asyncio.sleep(0.01)
            else:
                told.acknowledged.append(row)
        await session.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(WRITERS):
            group.create_task(write())
        try:
            yield told
        finally:
            ended.set()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("ending", ["rollback", "release"])
async def test_writers_past_the_router_on_a_products_own_policies_lose_nothing_that_was_acknowledged(
    estate18: Estate, ending: str
) -> None:
    estate18.near.psql(OWN, estate18.shared)
    mover = estate18.mover()
    async with past_the_router(estate18) as told:
        await until(lambda: len(told.acknowledged) > 50)
        record = await mover.run(await mover.plan(estate18.tenant, "acme"))
        assert record.state is State.FLIPPED
        refused = told.refused
        await until(lambda: told.refused > refused + 10)
        if ending == "rollback":
            assert (await mover.rollback(record.id)).state is State.ROLLED_BACK
            before = len(told.acknowledged)
            await until(lambda: len(told.acknowledged) > before + 50)
        else:
            assert (await mover.release(record.id)).state is State.RELEASED
    home, other = ("shared", "acme") if ending == "rollback" else ("acme", "shared")
    rows = await estate18.fetch(home, 'SELECT id FROM "Log\'s" WHERE tenant_id = $1', estate18.tenant)
    assert sorted(row["id"] for row in rows) == sorted(told.acknowledged)
    if ending == "release":
        assert await estate18.fetch(other, 'SELECT FROM "Log\'s" WHERE tenant_id = $1', estate18.tenant) == []
