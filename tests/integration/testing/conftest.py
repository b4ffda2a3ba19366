"""A small product for the testing kit to look at, and the faults that it must find."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tenantry import Router
from tenantry.embedded import EmbeddedServer
from tenantry.ids import TenantId
from tenantry.testing import Product, Server, two_tenants

SCHEMA = """
CREATE TABLE customers (tenant_id uuid, id int, name text, doubled text GENERATED ALWAYS AS (name || name) STORED,
    PRIMARY KEY (tenant_id, id));
CREATE TABLE orders (tenant_id uuid, id int GENERATED ALWAYS AS IDENTITY, customer int, placed date,
    PRIMARY KEY (tenant_id, id, placed),
    FOREIGN KEY (tenant_id, customer) REFERENCES customers (tenant_id, id)) PARTITION BY RANGE (placed);
CREATE TABLE orders_2025 PARTITION OF orders FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE orders_2026 PARTITION OF orders FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE SCHEMA "Odd Names";
CREATE TABLE "Odd Names"."Line Item" ("tenantId" varchar(40), "No" int, mood "char", tags text[],
    PRIMARY KEY ("tenantId", "No"));
CREATE TABLE tokens (tenant_id uuid, token text PRIMARY KEY DEFAULT gen_random_uuid());
CREATE TABLE countries (code text PRIMARY KEY);
CREATE VIEW big_orders WITH (security_invoker = true) AS SELECT * FROM orders;
CREATE VIEW counts WITH (security_invoker = true) AS SELECT count(*) AS n FROM orders;
GRANT SELECT ON big_orders, counts, countries TO {role};
"""
TABLES = {"public.countries": "reference"}


async def seed(connection: Any) -> None:
    """The same keys for every tenant, but for the tokens, whose key has no tenant in it."""
    await connection.execute(
        "INSERT INTO customers (id, name) VALUES (1, 'Ann'), (2, 'Ben');"
        "INSERT INTO orders (id, customer, placed) OVERRIDING SYSTEM VALUE "
        "VALUES (1, 1, '2025-05-05'), (2, 2, '2026-05-05');"
        'INSERT INTO "Odd Names"."Line Item" ("No", mood, tags) VALUES (1, \'x\', \'{a,"b c"}\');'
        "INSERT INTO tokens DEFAULT VALUES"
    )


class Stage:
    """A product, a router and two tenants with rows."""

    def __init__(self, product: Product, router: Router, a: TenantId, b: TenantId) -> None:
        self.product = product
        self.router = router
        self.a = a
        self.b = b

    async def sql(self, statement: str, *args: Any) -> list[Any]:
        """As the owner."""
        async with self.product.server.connect(self.product.database) as owner:
            return list(await owner.fetch(statement, *args))

    async def script(self, statements: str) -> None:
        """Several statements, as the owner; `{role}` is the application role."""
        async with self.product.server.connect(self.product.database) as owner:
            await owner.execute(statements.replace("{role}", self.product.role))


@asynccontextmanager
async def stage_on(server: Server) -> AsyncIterator[Stage]:
    async with (
        Product.installed(server, SCHEMA, tables=TABLES) as product,
        product.router() as router,
        two_tenants(router, seed) as (a, b),
    ):
        yield Stage(product, router, a, b)


@pytest.fixture
async def stage(pg: EmbeddedServer) -> AsyncIterator[Stage]:
    """On each version."""
    async with stage_on(Server(pg.dsn())) as made:
        yield made


@pytest.fixture
async def breakable(pg18: EmbeddedServer) -> AsyncIterator[Stage]:
    """One to break, on PostgreSQL 18."""
    async with stage_on(Server(pg18.dsn())) as made:
        yield made
