"""Products whose keys have no tenant in them are proven too; kits and codecs are there as in production."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.kits import QuotaExceeded
from tenantry.testing import IsolationBroken, Product, Server, assert_isolated, two_tenants

KEYS = """
CREATE TABLE author (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid, name text, extra jsonb);
CREATE TABLE book (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), tenant_id uuid,
    author bigint REFERENCES author, title text UNIQUE);
SELECT tenantry.quota_on('public.author');
INSERT INTO tenantry.quota_limit VALUES ('default', 'author', 2);
"""


async def seed_ordinary(conn: Any) -> None:
    author = await conn.fetchval("INSERT INTO author (name) VALUES ('Ann') RETURNING id")
    await conn.execute("INSERT INTO book (author, title) VALUES ($1, gen_random_uuid()::text)", author)


@pytest.fixture
async def bookshop(pg18: EmbeddedServer) -> AsyncIterator[Product]:
    """Ordinary keys, the quotas kit, and a codec."""

    async def on_connect(conn: Any) -> None:
        await conn.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")

    made = Product.installed(Server(pg18.dsn()), KEYS, kits="quotas", on_connect=on_connect)
    async with made as product:
        yield product


async def test_a_product_with_ordinary_keys_alone_is_proven_and_told_what_was_not_tried(bookshop: Product) -> None:
    async with bookshop.router() as router, two_tenants(router, seed_ordinary) as (a, b):
        report = await assert_isolated(router, a, b)
        assert {"public.author", "public.book"} <= {one.object for one in report.held}
        untried = {one.object: one.detail for one in report.untried if one.attack == "rows under the same key"}
        assert "has no tenant in it" in untried["public.author"]


async def test_a_leak_behind_ordinary_keys_is_found(bookshop: Product) -> None:
    async with bookshop.server.connect(bookshop.database) as owner:
        await owner.execute("CREATE POLICY extra ON book FOR SELECT USING (true)")
    async with bookshop.router() as router, two_tenants(router, seed_ordinary) as (a, b):
        with pytest.raises(IsolationBroken, match=r"public\.book"):
            await assert_isolated(router, a, b)


async def test_a_kit_of_the_product_works_in_its_tests(bookshop: Product) -> None:
    async with bookshop.router() as router, two_tenants(router, seed_ordinary) as (a, _):
        await router.execute(a, "INSERT INTO author (name) VALUES ('Ben')")
        with pytest.raises(QuotaExceeded):
            await router.execute(a, "INSERT INTO author (name) VALUES ('Cyd')")


async def test_connections_are_set_up_as_the_product_sets_them_up(bookshop: Product) -> None:
    async def nothing(conn: Any) -> None:
        pass

    async with bookshop.router() as router, two_tenants(router, seed_ordinary) as (a, _):
        await router.execute(a, "UPDATE author SET extra = $1", {"born": 1815})
        assert await router.fetchval(a, "SELECT extra FROM author") == {"born": 1815}
        async with bookshop.router(on_connect=nothing) as other:
            assert await other.fetchval(a, "SELECT extra FROM author") == '{"born": 1815}'
