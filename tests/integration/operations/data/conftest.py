"""A fleet of two majors with every shape of table that a tenant's data can be in."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tenantry import Config, Operations
from tenantry.embedded import EmbeddedServer
from tenantry.ids import Kind
from tests.support.estate import SCHEMA, Estate
from tests.support.installing import make_data

#: Beside the estate's: rows that reference each other, an identity that is always generated, a table of nothing
#: but the tenant, text that COPY has to escape, a trigger that would count rows a second time, partitions.
MORE = """
CREATE TABLE node (
    tenant_id uuid NOT NULL, id bigint GENERATED ALWAYS AS IDENTITY, parent bigint, label text,
    PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, parent) REFERENCES node (tenant_id, id)
);
CREATE TABLE flag (tenant_id uuid PRIMARY KEY);
CREATE TABLE counted (tenant_id uuid NOT NULL, n bigint NOT NULL);
CREATE FUNCTION count_node() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO public.counted VALUES (NEW.tenant_id, NEW.id); RETURN NULL; END $$;
CREATE TRIGGER counts AFTER INSERT ON node FOR EACH ROW EXECUTE FUNCTION count_node();
CREATE TABLE event (tenant_id uuid NOT NULL, at date NOT NULL, what text, PRIMARY KEY (tenant_id, at))
    PARTITION BY RANGE (at);
CREATE TABLE event_old PARTITION OF event FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
CREATE TABLE event_new PARTITION OF event FOR VALUES FROM ('2026-01-01') TO (MAXVALUE);
"""
TABLES = ("account", "entry", '"Blob"', "node", "flag", "counted", "event")
#: A value of each kind of character that COPY's text writes in its own way.
ODD = "tab\t feed\n return\r back\\slash \\N \\. \b\f\v end\\"


async def more_rows(connection: Any, tenant: uuid.UUID) -> None:
    await connection.execute("INSERT INTO flag VALUES ($1)", tenant)
    top = await connection.fetchval(
        "INSERT INTO node (tenant_id, label) VALUES ($1, $2) RETURNING id", tenant, ODD
    )
    leaf = "INSERT INTO node (tenant_id, parent, label) VALUES ($1, $2, $3) RETURNING id"
    low = await connection.fetchval(leaf, tenant, top, "")
    await connection.execute("UPDATE node SET parent = $2 WHERE tenant_id = $1 AND id = $3", tenant, low, top)
    await connection.execute(
        "INSERT INTO event SELECT $1, date '2025-06-01' + i, NULL FROM generate_series(1, 400) AS i", tenant
    )


@dataclass
class World:
    """The estate, and operations over it."""

    estate: Estate
    ops: Operations
    folder: Path

    @property
    def tenant(self) -> uuid.UUID:
        return self.estate.tenant

    @property
    def file(self) -> Path:
        return self.folder / "tenant.zip"

    async def rows(self, database: str, tenant: object = None, *, named: object = None) -> dict[str, list[str]]:
        """All of a tenant's rows as text, by table; `named`: as if this were its id."""
        text = str(tenant or self.tenant)
        found = {}
        async with self.estate.admin(database) as connection:
            for table in TABLES:
                rows = await connection.fetch(
                    f"SELECT t::text AS row FROM {table} AS t WHERE tenant_id = '{text}' ORDER BY t::text"
                )
                found[table] = sorted(row["row"].replace(text, str(named or text)) for row in rows)
        return found

    async def others(self, database: str = "shared") -> dict[str, dict[str, list[str]]]:
        """The rows of everybody else."""
        return {str(one): await self.rows(database, one) for one in self.estate.tenants[1:]}


def sections(estate: Estate) -> dict[str, Any]:
    """The configuration of operators."""
    near, far = estate.near, estate.far
    return {
        "control": {"dsn": estate.control_dsn},
        "databases": {
            "shared": {
                "kind": "shared",
                "dsn": near.dsn(estate.shared, user="app"),
                "operator_dsn": near.dsn(estate.shared),
            },
            "acme": {
                "kind": "dedicated",
                "dsn": far.dsn(estate.dedicated, user="app"),
                "operator_dsn": far.dsn(estate.dedicated),
            },
        },
    }


async def make_world(near: EmbeddedServer, far: EmbeddedServer, *, rows: int = 200) -> Estate:
    """Three tenants in the shared database on `near`; a dedicated one on `far` with tables, and nobody in it."""
    estate = await Estate.make(near, far, rows=rows)
    async with estate.admin("shared") as shared, estate.admin("acme") as acme:
        await make_data(acme, "app", name="acme", kind=Kind.DEDICATED)
        await acme.execute(SCHEMA.read_text())
        for connection in (shared, acme):
            await connection.execute(MORE)
        for tenant in estate.tenants:
            await more_rows(shared, tenant)
    return estate


@pytest.fixture
async def world(pg16: EmbeddedServer, far18: EmbeddedServer, tmp_path: Path) -> AsyncIterator[World]:
    """From 16 to 18."""
    estate = await make_world(pg16, far18)
    try:
        async with Operations.open(Config.parse(sections(estate)), actor="a test") as ops:
            yield World(estate, ops, tmp_path)
    finally:
        estate.drop()
