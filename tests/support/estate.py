"""Two databases with tenants in them, and a mover between them: what every move test starts from."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg

from tenantry import Config
from tenantry.embedded import EmbeddedServer
from tenantry.ids import Kind
from tenantry.move import Endpoint, Limits, Mover
from tests.support.databases import drop_database, new_database, new_database_like
from tests.support.installing import SETTING, make_control, make_data

SCHEMA = Path(__file__).with_name("estate.sql")
#: Quick for tests: a missed fence is tried again soon.
END_SUBSCRIPTIONS = """
SELECT format('ALTER SUBSCRIPTION %1$I DISABLE; ALTER SUBSCRIPTION %1$I SET (slot_name = NONE);'
              ' DROP SUBSCRIPTION %1$I;', subname)
FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database()
"""
LIMITS = Limits(backoff=0.1, patience=30.0, catch_up=60.0)

# Mutable state of this module: the tenants of the estates on a server that are alike, by their number and rows.
_tenants: dict[tuple[EmbeddedServer, int, int], list[uuid.UUID]] = {}


@dataclass
class Estate:
    """A shared and a dedicated database; the control schema lives in a third, on the shared server."""

    near: EmbeddedServer
    far: EmbeddedServer
    shared: str
    dedicated: str
    control: str
    tenants: list[uuid.UUID] = field(default_factory=list)
    third: str | None = None
    """Another database on the far server, which movers and services know as "third"."""

    @classmethod
    async def make(cls, near: EmbeddedServer, far: EmbeddedServer, *, tenants: int = 3, rows: int = 200) -> Estate:
        """With `tenants` of so many `rows` each. All that are alike on a server are copies, with equal ids."""
        for server in {near, far}:
            server.psql("DO $$ BEGIN CREATE ROLE app LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
        ids = _tenants.setdefault((near, tenants, rows), [uuid.uuid4() for _ in range(tenants)])
        kind = f"estate, {tenants} tenants, {rows} rows"
        return cls(
            near,
            far,
            new_database_like(near, f"{kind}: shared", partial(_shared, near, ids, rows), "shared"),
            new_database(far, "acme"),
            new_database_like(near, f"{kind}: control", partial(_control, near, ids), "control"),
            [*ids],
        )

    def drop(self) -> None:
        # Each database's subscriptions stream from the other's slots: all of them end before any slot goes.
        for server, name in ((self.far, self.dedicated), (self.near, self.shared)):
            if server.pid is not None and (statements := server.psql(END_SUBSCRIPTIONS, name)):
                server.psql(statements, name)
        for server, name in (
            (self.far, self.dedicated), (self.near, self.shared), (self.near, self.control)
        ):  # fmt: skip
            if server.pid is not None:
                drop_database(server, name)

    @property
    def tenant(self) -> uuid.UUID:
        """The one that moves."""
        return self.tenants[0]

    @property
    def control_dsn(self) -> str:
        return self.near.dsn(self.control)

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        known = {
            "shared": Endpoint("shared", Kind.SHARED, self.near.dsn(self.shared)),
            "acme": Endpoint("acme", Kind.DEDICATED, self.far.dsn(self.dedicated)),
        }
        if self.third is not None:
            known["third"] = Endpoint("third", Kind.DEDICATED, self.far.dsn(self.third))
        return known

    def mover(self, **options: Any) -> Mover:
        return Mover(
            self.control_dsn,
            options.pop("endpoints", self.endpoints),
            limits=options.pop("limits", LIMITS),
            **options,
        )

    def application_dsns(self) -> dict[str, str]:
        """What the product's services connect with, by database."""
        known = {
            "shared": self.near.dsn(self.shared, user="app"),
            "acme": self.far.dsn(self.dedicated, user="app"),
        }
        if self.third is not None:
            known["third"] = self.far.dsn(self.third, user="app")
        return known

    def sections(self, *, connections: int = 10) -> dict[str, Any]:
        """The configuration of the product's services. `connections`: of each pool, at most."""
        return {
            "tenancy": {"type": "uuid", "setting": SETTING},
            "control": {"dsn": self.control_dsn},
            "databases": {
                name: {"kind": self.endpoints[name].kind.value, "dsn": dsn, "pool": {"max": connections}}
                for name, dsn in self.application_dsns().items()
            },
            "usage": {"record": False},
        }

    def config(self, *, connections: int = 10) -> Config:
        """The same, checked: what a router is opened with."""
        return Config.parse(self.sections(connections=connections))

    @asynccontextmanager
    async def admin(self, database: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        """A superuser's connection, past everything."""
        dsn = {"control": self.control_dsn} | {n: e.dsn for n, e in self.endpoints.items()}
        connection = await asyncpg.connect(dsn[database])
        try:
            yield connection
        finally:
            await connection.close()

    async def fetch(self, database: str, query: str, *args: Any) -> Sequence[asyncpg.Record]:
        """As superuser, past everything."""
        async with self.admin(database) as connection:
            return list(await connection.fetch(query, *args))

    async def checksums(self, database: str) -> dict[tuple[str, uuid.UUID], tuple[int, Any]]:
        """Rows and hash of each table and tenant, as they are on disk."""
        found = {}
        async with self.admin(database) as connection:
            for table in ("account", "entry", '"Blob"'):
                rows = await connection.fetch(
                    "SELECT tenant_id, count(*) AS n, sum(hashtextextended(t::text, 0)) AS h "
                    f"FROM {table} AS t GROUP BY 1",
                )
                found.update({(table, r["tenant_id"]): (r["n"], r["h"]) for r in rows})
        return found

    async def homes(self, tenant: uuid.UUID | None = None) -> dict[str, tuple[str, int] | None]:
        """What each database, and the directory, say about where the tenant lives."""
        said: dict[str, tuple[str, int] | None] = {}
        for database in self.endpoints:
            said[database] = None
            async with self.admin(database) as connection:
                if await connection.fetchval("SELECT to_regclass('tenantry.placement') IS NOT NULL"):
                    rows = await connection.fetch(
                        "SELECT database, epoch FROM tenantry.placement WHERE tenant = $1",
                        str(tenant or self.tenant),
                    )
                    said[database] = tuple(rows[0]) if rows else None
        [row] = await self.fetch(
            "control", "SELECT database, epoch FROM tenantry.tenant WHERE id = $1", str(tenant or self.tenant)
        )
        said["control"] = (row["database"], row["epoch"])
        return said


async def _shared(server: EmbeddedServer, tenants: Sequence[uuid.UUID], rows: int, database: str) -> None:
    connection = await asyncpg.connect(server.dsn(database))
    await make_data(connection, "app")
    await connection.execute(SCHEMA.read_text())
    for tenant in tenants:
        await connection.execute("SELECT tenantry.enroll($1, 1)", str(tenant))
        await fill(connection, tenant, rows)
    await connection.execute("ANALYZE")
    await connection.close()


async def _control(server: EmbeddedServer, tenants: Sequence[uuid.UUID], database: str) -> None:
    connection = await asyncpg.connect(server.dsn(database))
    await make_control(connection, shared=Kind.SHARED, acme=Kind.DEDICATED)
    for tenant in tenants:
        await connection.execute("INSERT INTO tenantry.tenant (id, database) VALUES ($1, 'shared')", str(tenant))
    await connection.close()


async def fill(connection: asyncpg.Connection[asyncpg.Record], tenant: uuid.UUID, rows: int) -> None:
    """Give a tenant accounts, entries and blobs."""
    await connection.execute(
        "INSERT INTO account (tenant_id, id) SELECT $1::uuid, i FROM generate_series(1, 10) AS i "
        "ON CONFLICT DO NOTHING",
        tenant,
    )
    await connection.execute(
        "INSERT INTO entry (tenant_id, op, account, amount, currency, note) "
        "SELECT $1::uuid, gen_random_uuid(), 1 + i % 10, 0, 'EUR', repeat('x', i % 90) "
        "FROM generate_series(1, $2::int) AS i",
        tenant,
        rows,
    )
    await connection.execute(
        """INSERT INTO "Blob" SELECT $1::uuid, 'k' || i, jsonb_build_object('i', i, 't', repeat('ä', 5)),
           decode(md5(i::text), 'hex'), ARRAY['a', i::text], i / 7.0, tstzrange(now(), now() + '1 day'),
           '10.0.0.1', point(i, 1), i / 3.0::float8 FROM generate_series(1, greatest($2 / 10, 1)) AS i
           ON CONFLICT DO NOTHING""",
        tenant,
        rows,
    )
