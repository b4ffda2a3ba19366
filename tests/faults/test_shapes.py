"""What a move carries: tables of every shape, between majors and clusters, and a tenant without rows."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from pathlib import Path

import asyncpg
import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.move import State
from tests.support.estate import Estate
from tests.support.load import check, load

SHAPES = Path(__file__).with_name("shapes.sql")
#: Source and target; the same twice is one cluster.
PAIRS = [
    ("pg18", "far18"),
    *(
        pytest.param(*pair, marks=pytest.mark.faults)
        for pair in (("pg16", "far16"), ("pg16", "far18"), ("pg18", "far16"), ("pg15", "far18"), ("pg16", "pg16"))
    ),
]


async def rows(estate: Estate, database: str, tenant: uuid.UUID) -> dict[str, Sequence[str]]:
    """Every row of the tenant as text, by table: the same text on every version."""
    ends = estate.endpoints
    settings = {"app.current_tenant": "", "extra_float_digits": "3", "timezone": "UTC", "DateStyle": "ISO"}
    connection = await asyncpg.connect(ends[database].dsn, server_settings=settings)
    try:
        tables = await connection.fetch(
            "SELECT c.oid::regclass::text AS name, a.attname AS tenant, ARRAY("
            "  SELECT quote_ident(b.attname) FROM pg_attribute AS b "
            "  WHERE b.attrelid = c.oid AND b.attnum > 0 AND NOT b.attisdropped ORDER BY 1) AS c "
            "FROM pg_class AS c JOIN pg_attribute AS a "
            "ON a.attrelid = c.oid AND a.attname IN ('tenant_id', 'TenantId') "
            "WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition "
            "AND c.relnamespace::regnamespace::text NOT IN ('tenantry', 'pg_catalog')"
        )
        found: dict[str, Sequence[str]] = {}
        for table in tables:
            query = (
                f"SELECT ROW({', '.join(table['c'])})::text AS row FROM {table['name']} "
                f'WHERE "{table["tenant"]}" = $1 ORDER BY 1'
            )
            found[table["name"]] = [row["row"] for row in await connection.fetch(query, tenant)]
        return found
    finally:
        await connection.close()


@pytest.mark.parametrize(("near", "far"), PAIRS)
async def test_a_tenant_of_many_shapes_goes_and_comes_back_unchanged(
    request: pytest.FixtureRequest, near: str, far: str
) -> None:
    """Partitions, cycles of foreign keys, generated columns, enums, all built-in types, names in mixed case."""
    estate = await Estate.make(request.getfixturevalue(near), request.getfixturevalue(far), rows=20)
    try:
        tenant, other = estate.tenants[:2]
        estate.near.psql(SHAPES.read_text(), estate.shared)
        for each in (tenant, other):
            estate.near.psql(f"SELECT fill_shapes('{each}')", estate.shared)
        before, beside = [await rows(estate, "shared", each) for each in (tenant, other)]
        assert len(before) == 11
        assert all(before.values()), "every table has rows of the tenant, or nothing was compared"
        mover = estate.mover()
        plan = await mover.plan(tenant, "acme")
        assert plan.refusals == ()
        record = await mover.run(plan)
        assert record.state is State.FLIPPED
        assert await rows(estate, "acme", tenant) == before
        estate.far.psql(f"SELECT change_shapes('{tenant}')", estate.dedicated)
        changed = await rows(estate, "acme", tenant)
        assert all(
            changed[table] != before[table] for table in before if table not in ("account", "entry", '"Blob"')
        )
        assert (await mover.rollback(record.id)).state is State.ROLLED_BACK
        assert await rows(estate, "shared", tenant) == changed
        assert await rows(estate, "shared", other) == beside
    finally:
        estate.drop()


@pytest.mark.faults
async def test_a_tenant_without_rows_moves_and_fills(estate18: Estate) -> None:
    """0 rows: nothing to compare is not a failure where nothing was expected, and the tenant can write."""
    tenant = uuid.uuid4()
    await estate18.fetch(
        "control", "INSERT INTO tenantry.tenant (id, database) VALUES ($1, 'shared')", str(tenant)
    )
    await estate18.fetch("shared", "SELECT tenantry.enroll($1, 1)", str(tenant))
    mover = estate18.mover()
    record = await mover.run(await mover.plan(tenant, "acme"))
    assert record.state is State.FLIPPED
    await estate18.fetch("acme", "INSERT INTO account (tenant_id, id) VALUES ($1, 1)", tenant)
    assert (await mover.rollback(record.id)).state is State.ROLLED_BACK
    assert await estate18.fetch("shared", "SELECT 1 FROM account WHERE tenant_id = $1", tenant)


@pytest.mark.faults
async def test_two_tenants_move_at_once_to_databases_of_their_own(
    pg18: EmbeddedServer, far18: EmbeddedServer
) -> None:
    """F18: different tenants do not get in each other's way."""
    estate = await Estate.make(pg18, far18)
    second = await Estate.make(pg18, far18, tenants=1)
    try:
        pairs = [(each.mover(), each) for each in (estate, second)]
        async with load(estate) as running:
            plans = [await mover.plan(each.tenant, "acme") for mover, each in pairs]
            records = await asyncio.gather(
                *(mover.run(plan) for (mover, _), plan in zip(pairs, plans, strict=True))
            )
            await running.reach(estate.tenant, 20)
        assert [record.state for record in records] == [State.FLIPPED] * 2
        await check(estate, running)
    finally:
        estate.drop()
        second.drop()
