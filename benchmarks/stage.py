"""Where the benchmarks play: an embedded server, the schema, a router's configuration."""

from __future__ import annotations

import random
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from tenantry import Config
from tenantry.catalog.tenancy import Tenancy
from tenantry.embedded import EmbeddedServer
from tenantry.ids import IdType, Kind
from tenantry.isolation.guard import Guard, guard_sql
from tenantry.isolation.policy import policy_sql, table_sql
from tenantry.proof import database_key
from tenantry.schema import install_control, install_data

SETTING = "app.current_tenant"
APP = "app"

#: What a team writes that has read the first page about row-level security; all who are compared get it.
SIMPLE_POLICY = f"""
    ALTER TABLE {{table}} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
    CREATE POLICY simple ON {{table}} USING (tenant_id = nullif(current_setting('{SETTING}', true), '')::uuid);
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """A server with one database, in which a product and tenantry live."""

    server: EmbeddedServer
    database: str = "shared"
    secret: str | None = None
    """Hardened mode's; None: plain mode."""
    through: int | None = None
    """The application's connections go to this port instead of the server's."""

    @property
    def owner_dsn(self) -> str:
        """Of the superuser."""
        return self.server.dsn(self.database)

    @property
    def app_dsn(self) -> str:
        """Of the application role, which is subject to row-level security."""
        straight = self.server.dsn(self.database, user=APP)
        if self.through is None:
            return straight
        return straight.replace(f"@{self.server.host}:{self.server.port}/", f"@127.0.0.1:{self.through}/")

    @asynccontextmanager
    async def owner(self, database: str | None = None) -> AsyncIterator[Any]:
        """A connection of the superuser."""
        connection = await asyncpg.connect(self.server.dsn(database or self.database))
        try:
            yield connection
        finally:
            await connection.close()

    def config(
        self, *, size: int = 8, app_dsn: str | None = None, router: Mapping[str, Any] | None = None
    ) -> Config:
        """Of a router with one shared database, the control schema in it.

        Args:
            size: connections of the pool.
            app_dsn: where the data are, if not straight here: through a proxy.
            router: the section `router:`.
        """
        return Config.parse(
            {
                "tenancy": {"hardened": True, "secret": self.secret} if self.secret else {},
                "control": {"dsn": self.owner_dsn},
                "databases": {"shared": {"kind": "shared", "dsn": app_dsn or self.app_dsn, "pool": {"max": size}}},
                "router": dict(router or {}),
            }
        )


@contextmanager
def server(version: int, settings: Mapping[str, str] | None = None) -> Iterator[EmbeddedServer]:
    """An embedded server that does not wait for the disk: the router is measured, not the disk."""
    with EmbeddedServer.start(version, settings=settings) as running:
        yield running


async def prepare(running: EmbeddedServer, database: str = "shared", *, secret: str | None = None) -> Stage:
    """A database with tenantry's schema in it, control and data, hardened where there is a secret; the
    application role too.
    """
    stage = Stage(running, database, secret)
    async with stage.owner("postgres") as connection:
        if not await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", APP):
            await connection.execute(f"CREATE ROLE {APP} LOGIN")
        await connection.execute(f"CREATE DATABASE {database}")
    async with stage.owner() as connection:
        await install_control(connection)
        await install_data(
            connection,
            name="shared",
            kind=Kind.SHARED,
            setting=SETTING,
            id_type=IdType.UUID,
            application_role=APP,
            key=database_key(secret, "shared") if secret else None,
        )
        await connection.execute(
            "INSERT INTO tenantry.database (name, kind, dsn) VALUES ('shared', 'shared', 'config')"
        )
    return stage


async def settle(connection: Any, tenants: list[UUID], *, home: str = "shared") -> None:
    """Write tenants into the directory and into the database's placements, both in one go."""
    texts = [str(tenant) for tenant in tenants]
    await connection.execute(
        "INSERT INTO tenantry.tenant (id, database) SELECT unnest($1::text[]), $2", texts, home
    )
    await connection.execute(
        "INSERT INTO tenantry.placement (tenant, database, epoch) SELECT unnest($1::text[]), $2, 1", texts, home
    )


def tenant_ids(count: int, seed: int = 1) -> list[UUID]:
    """The same ids in every run."""
    dice = random.Random(seed)
    return [uuid.UUID(int=dice.getrandbits(128), version=4) for _ in range(count)]


SCHEMA = """
    CREATE TABLE {table} (tenant_id uuid NOT NULL, id bigint NOT NULL, name text NOT NULL,
                          PRIMARY KEY (tenant_id, id))
"""


async def fill(connection: Any, tables: Sequence[str], tenants: list[UUID], *, rows: int) -> None:
    """The same rows in each of the tables, `rows` per tenant."""
    for table in tables:
        await connection.execute(SCHEMA.format(table=table))
        await connection.execute(
            f"INSERT INTO {table} SELECT t::uuid, n, 'student ' || n "
            "FROM unnest($1::text[]) AS t, generate_series(1, $2::int) AS n",
            [str(tenant) for tenant in tenants],
            rows,
        )


async def protect(connection: Any, table: str, *, hardened: bool = False) -> None:
    """Bring a table to tenantry's standard."""
    for statement in table_sql("public", table, "tenant_id", Tenancy(hardened=hardened), role=APP):
        await connection.execute(statement)


async def protect_without_index(connection: Any, table: str) -> None:
    """tenantry's policies, but no index: that is what is compared."""
    await connection.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    await connection.execute(policy_sql("public", table, "tenant_id", Tenancy()))
    await connection.execute(guard_sql("public", table, "tenant_id", Tenancy(), Guard.FENCE))
    await connection.execute(f"GRANT SELECT ON {table} TO {APP}")


async def protect_simply(connection: Any, table: str) -> None:
    """Give a table the policy of a hand-written wrapper."""
    await connection.execute(SIMPLE_POLICY.format(table=table))
    await connection.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {APP}")
