"""Ids that are texts, whatever characters they have, in hardened databases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import asyncpg

from tenantry import Config, Operations
from tenantry.embedded import EmbeddedServer
from tenantry.ids import IdType, Kind
from tenantry.proof import database_key
from tests.support.installing import HARDENED, SECRET, make_control, make_data

IDS = ("a\tb\\c\nd\\.", "'; DROP TABLE item; --", "../../x", "Ärger\u202e", "a", "A")


async def test_ids_of_any_characters_go_out_and_come_back_to_their_own_rows(
    pg18: EmbeddedServer, make_database: Callable[[EmbeddedServer], str], tmp_path: Path
) -> None:
    control, data = make_database(pg18), make_database(pg18)
    at_control, shared = await asyncpg.connect(pg18.dsn(control)), await asyncpg.connect(pg18.dsn(data))
    try:
        await make_control(at_control, shared=Kind.SHARED)
        await make_data(shared, None, IdType.TEXT, key=database_key(SECRET, "shared"))
        await shared.execute("CREATE TABLE item (tenant_id text NOT NULL, id int, PRIMARY KEY (tenant_id, id))")
        config = {
            "tenancy": {"type": "text", **HARDENED},
            "control": {"dsn": pg18.dsn(control)},
            "databases": {"shared": {"kind": "shared", "dsn": pg18.dsn(data), "operator_dsn": pg18.dsn(data)}},
        }
        for number, tenant in enumerate(IDS):
            await at_control.execute("INSERT INTO tenantry.tenant (id, database) VALUES ($1, 'shared')", tenant)
            await shared.execute("INSERT INTO tenantry.placement VALUES ($1, 'shared', 1)", tenant)
            await shared.execute("INSERT INTO item SELECT $1, generate_series(1, $2)", tenant, number + 1)
        every = "SELECT tenant_id, id FROM item ORDER BY 1, 2"
        before = await shared.fetch(every)
        async with Operations.open(Config.parse(config)) as ops:
            for number, tenant in enumerate(IDS):
                file = tmp_path / f"{number}.zip"
                assert (await ops.data.export(tenant, file)).rows == number + 1
                assert (await ops.data.erase(tenant)).deleted == number + 1
                assert len(await shared.fetch(every)) == len(before) - number - 1
                assert (await ops.data.import_(file)).tenant == tenant
                assert await shared.fetch(every) == before
    finally:
        await at_control.close()
        await shared.close()
