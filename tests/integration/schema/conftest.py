"""Databases that an earlier release has made."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.proof import database_key, pads
from tests.support.databases import drop_database, new_database

SECRET: Final = "a secret of these tests, long enough"
KEY: Final = database_key(SECRET, "shared")
ROLE: Final = "tenantry_old_app"
A, LEFT, SUSPENDED, NEW = (f"00000000-0000-0000-0000-00000000000{n}" for n in range(1, 5))
_OLD: Final = Path(__file__).parent / "release_0"


async def made_by_release_0(connection: Any, *, hardened: bool) -> None:
    """What `tenantry init` and `rls apply` of commit 8b181d9 left.

    A tenant that lives here, one that has left, one suspended.

    The control database is the same. Its migrations and policies stand in `release_0/`, as they were.
    """
    await connection.execute(
        "CREATE SCHEMA tenantry; CREATE TABLE tenantry.migration (side text, number int, name text NOT NULL, "
        "applied_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (side, number))"
    )
    for side in ("control", "data"):
        for path in sorted((_OLD / side).glob("*.sql")):
            await connection.execute(path.read_text(encoding="utf-8"))
            number, _, name = path.stem.partition("_")
            await connection.execute("INSERT INTO tenantry.migration VALUES ($1, $2, $3)", side, int(number), name)
    if hardened:
        await connection.execute("INSERT INTO tenantry.secret (inner_pad, outer_pad) VALUES ($1, $2)", *pads(KEY))
    await connection.execute(
        "SELECT tenantry.configure('shared', 'shared', 'app.current_tenant', 'uuid', NULL, $1)", hardened
    )
    await connection.execute("SELECT tenantry.grant_application($1)", ROLE)
    await connection.execute(
        "INSERT INTO tenantry.database (name, kind, dsn) VALUES ('shared', 'shared', 'config')"
    )
    await connection.execute(
        f"INSERT INTO tenantry.tenant (id, database, epoch, state) VALUES ('{A}', 'shared', 1, 'active'), "
        f"('{SUSPENDED}', 'shared', 1, 'suspended'); "
        "INSERT INTO tenantry.placement (tenant, home, epoch, suspended) VALUES "
        f"('{A}', 'shared', 1, false), ('{LEFT}', 'acme', 2, false), ('{SUSPENDED}', 'shared', 1, true)"
    )
    policies = _OLD / "policies" / f"{'hardened' if hardened else 'plain'}.sql"
    await connection.execute(
        "CREATE TABLE note (tenant_id uuid NOT NULL, text text); ALTER TABLE note ENABLE ROW LEVEL SECURITY; "
        "ALTER TABLE note FORCE ROW LEVEL SECURITY; "
        + policies.read_text(encoding="utf-8")
        + f"GRANT SELECT, INSERT ON note TO {ROLE}; INSERT INTO note VALUES ('{A}', 'mine'), ('{LEFT}', 'gone')"
    )


@pytest.fixture
async def admin(pg: EmbeddedServer) -> AsyncIterator[Any]:
    """The superuser's connection to an empty database."""
    database = new_database(pg)
    connection = await asyncpg.connect(pg.dsn(database))
    try:
        await connection.execute(
            f"DO $$ BEGIN CREATE ROLE {ROLE} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
        )
        yield connection
    finally:
        await connection.close()
        drop_database(pg, database)
