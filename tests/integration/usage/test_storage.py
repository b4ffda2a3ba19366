"""Storage shares: near the truth, at a bounded cost, never from a part of the rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import date

import asyncpg
import pytest

from tenantry.catalog.tenancy import Tenancy
from tenantry.embedded import EmbeddedServer
from tenantry.usage import storage
from tenantry.usage.storage import SampledTable, Storage
from tests.integration.usage.conftest import Pool

SCHEMA = """
CREATE TABLE orders (tenant_id text, id int, body text, PRIMARY KEY (tenant_id, id));
INSERT INTO orders SELECT CASE WHEN i % 10 < 6 THEN 'heavy' WHEN i % 10 < 9 THEN 'medium' ELSE 'light' END,
    i, repeat('x', 100) FROM generate_series(1, 60000) AS i;
CREATE TABLE files (tenant_id text, data bytea STORAGE EXTERNAL);
INSERT INTO files SELECT 'light', convert_to(repeat('y', 10000), 'UTF8') FROM generate_series(1, 50);
INSERT INTO files VALUES ('heavy', ''), (NULL, '');
CREATE TABLE "odd ""name" (tenant_id text);
CREATE TABLE unrelated (id int);
"""


@pytest.fixture
async def data(pg: EmbeddedServer, database: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    pg.psql(SCHEMA, database)
    connection = await asyncpg.connect(pg.dsn(database))
    yield connection
    await connection.close()


async def test_every_table_with_the_tenant_column_is_found(
    data: asyncpg.Connection[asyncpg.Record],
) -> None:
    found = await storage.tables(data, Tenancy())

    assert [table.name for table in found] == ["files", 'odd "name', "orders"]


async def test_tables_that_overrides_make_tenants_or_not_count_accordingly(
    data: asyncpg.Connection[asyncpg.Record],
) -> None:
    await data.execute(
        "CREATE TABLE big (org text, x text); INSERT INTO big SELECT 'heavy', repeat('x', 100) "
        "FROM generate_series(1, 9900)"
    )
    await data.execute("CREATE TABLE small (tenant_id text, x text); INSERT INTO small VALUES ('light', 'x')")
    overrides = {"public.big": "org", "public.orders": "ignore", "public.files": "reference"}
    found = await storage.tables(data, Tenancy(tables=overrides))
    assert {table.name: table.column for table in found} == {
        "big": "org",
        "small": "tenant_id",
        'odd "name': "tenant_id",
    }
    share = (await storage.estimate(data, [t for t in found if t.name != 'odd "name'])).share("heavy")
    assert share is not None
    assert share > 0.9


async def test_a_sample_is_within_two_points_of_the_truth_and_reads_few_pages(
    data: asyncpg.Connection[asyncpg.Record],
) -> None:
    table = [SampledTable("public", "orders", "tenant_id")]

    exact = await storage.estimate(data, table, pages=10**6)
    sampled = await storage.estimate(data, table, pages=100, seed=1)

    assert exact.pages > 900
    assert sampled.pages == 100
    for tenant in ("heavy", "medium", "light"):
        there, here = exact.share(tenant), sampled.share(tenant)
        assert there is not None
        assert here == pytest.approx(there, abs=0.02)
    assert exact.total == pytest.approx(await data.fetchval("SELECT pg_total_relation_size('orders')"), abs=5)


async def test_large_values_count_where_they_lie_without_being_read(
    data: asyncpg.Connection[asyncpg.Record],
) -> None:
    found = await storage.estimate(data, await storage.tables(data, Tenancy()))
    files = await storage.estimate(data, [SampledTable("public", "files", "tenant_id")])

    assert not found.skipped
    share = files.share("light")
    assert share is not None
    assert share > 0.99
    assert files.total > 500_000


async def test_what_has_no_time_left_is_skipped_and_named(
    data: asyncpg.Connection[asyncpg.Record],
) -> None:
    found = await storage.estimate(data, await storage.tables(data, Tenancy()), seconds=0.0)

    assert [table.name for table in found.skipped] == ["files", 'odd "name', "orders"]
    assert found.share("heavy") is None


async def test_a_table_that_is_locked_or_gone_is_skipped_in_time_and_the_others_are_estimated(
    pg: EmbeddedServer, database: str, data: asyncpg.Connection[asyncpg.Record]
) -> None:
    """VACUUM FULL holds a table for as long as it takes; another may be dropped after the list was made."""
    listed = [SampledTable("public", "gone", "tenant_id"), *await storage.tables(data, Tenancy())]
    owner = await asyncpg.connect(pg.dsn(database))
    try:
        await owner.execute("BEGIN; LOCK TABLE files IN ACCESS EXCLUSIVE MODE")
        async with asyncio.timeout(60):
            found = await storage.estimate(data, listed, seconds=600.0, patience=0.1)
    finally:
        await owner.close()

    assert [table.name for table in found.skipped] == ["gone", "files"]
    assert found.share("heavy") is not None


async def test_a_role_that_sees_a_part_of_the_rows_is_refused(
    pg: EmbeddedServer, database: str, data: asyncpg.Connection[asyncpg.Record]
) -> None:
    pg.psql(
        "CREATE ROLE partial LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO partial; "
        "ALTER TABLE orders ENABLE ROW LEVEL SECURITY",
        database,
    )
    try:
        connection = await asyncpg.connect(pg.dsn(database, "partial"))
        try:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await storage.estimate(connection, [SampledTable("public", "orders", "tenant_id")])
        finally:
            await connection.close()
    finally:
        pg.psql("DROP OWNED BY partial; DROP ROLE partial", database)


async def test_the_largest_are_kept_by_name_and_the_rest_in_sum(control: Pool) -> None:
    day = date(2026, 11, 21)
    many = Storage({f"t{number}": number for number in range(1, 101)})

    await storage.keep(control, "shared", date(2026, 11, 20), many)
    await storage.keep(control, "shared", day, many)
    await storage.keep(control, "shared", day, many, kept=10)

    when, found = (await storage.latest(control))["shared"]
    assert when == day
    assert found.total == many.total
    assert set(found.bytes) == {f"t{number}" for number in range(91, 101)} | {""}
