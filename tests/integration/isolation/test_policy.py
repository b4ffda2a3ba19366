"""The policy template on real servers."""

from __future__ import annotations

import asyncpg
import pytest

from tenantry.catalog.tenancy import Tenancy
from tenantry.ids import IdType
from tenantry.isolation import policy
from tenantry.runtime.sqltext import identifier, literal
from tests.integration.isolation.conftest import Connection, enroll, install

IDS = {
    IdType.UUID: (
        "11111111-1111-4111-8111-111111111111",
        "22222222-2222-4222-8222-222222222222",
    ),
    IdType.BIGINT: ("1", "2"),
    IdType.TEXT: ("acme", "it's \\ ünïque"),
}
CASES = [
    (IdType.UUID, "uuid"),
    (IdType.UUID, "varchar(36)"),
    (IdType.BIGINT, "bigint"),
    (IdType.BIGINT, "integer"),
    (IdType.BIGINT, "text"),
    (IdType.TEXT, "text"),
    (IdType.TEXT, "varchar(20)"),
]


async def _made(connection: Connection, role: str, id_type: IdType, column_type: str) -> None:
    await install(connection, id_type)
    await connection.execute("SELECT tenantry.grant_application($1)", role)
    await enroll(connection, *IDS[id_type])
    await connection.execute(
        f'CREATE SCHEMA "My App"; CREATE TABLE "My App"."Order" ("TenantId" {column_type}, n integer);'
    )
    for tenant in IDS[id_type]:
        await connection.execute(f'INSERT INTO "My App"."Order" VALUES ({literal(tenant)}, 1)')
    shown = await connection.fetchval(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = '\"My App\".\"Order\"'::regclass AND attname = 'TenantId'"
    )
    for _ in range(2):  # the second run is harmless
        for statement in policy.table_sql(
            "My App", "Order", "TenantId", Tenancy(id_type=id_type), role=role, column_type=shown
        ):
            await connection.execute(statement)
    await connection.execute(f"SET ROLE {identifier(role)}")


@pytest.mark.parametrize(("id_type", "column_type"), CASES)
async def test_a_bound_connection_sees_and_writes_its_own_tenants_rows_only(
    connection: Connection, role: str, id_type: IdType, column_type: str
) -> None:
    await _made(connection, role, id_type, column_type)
    mine, other = IDS[id_type]
    async with connection.transaction():
        await connection.execute("SELECT tenantry.bind($1)", mine)
        await connection.execute('INSERT INTO "My App"."Order" (n) VALUES (2)')  # by default mine
        rows = await connection.fetch('SELECT "TenantId"::text AS tenant FROM "My App"."Order"')
        assert {row["tenant"] for row in rows} == {mine}
        assert len(rows) == 2
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            async with connection.transaction():
                await connection.execute(f'INSERT INTO "My App"."Order" VALUES ({literal(other)})')
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            async with connection.transaction():
                await connection.execute(f'UPDATE "My App"."Order" SET "TenantId" = {literal(other)}')
        assert await connection.execute('DELETE FROM "My App"."Order"') == "DELETE 2"


@pytest.mark.parametrize("state", ["never set", "set and forgotten", "empty"])
async def test_an_unbound_connection_sees_nothing_and_no_error(
    connection: Connection, role: str, state: str
) -> None:
    await _made(connection, role, IdType.UUID, "uuid")
    if state == "set and forgotten":
        async with connection.transaction():
            await connection.execute("SELECT tenantry.bind($1)", IDS[IdType.UUID][0])
    if state == "empty":
        await connection.execute("SET app.current_tenant = ''")
    assert await connection.fetchval('SELECT count(*) FROM "My App"."Order"') == 0


@pytest.mark.parametrize(
    ("id_type", "column_type", "tenant"),
    [(IdType.BIGINT, "integer", str(2**40)), (IdType.TEXT, "varchar(4)", "acmeandmore")],
)
async def test_a_tenant_that_the_column_could_not_hold_reads_nothing_and_nobody_elses_rows(
    connection: Connection, role: str, id_type: IdType, column_type: str, tenant: str
) -> None:
    await install(connection, id_type)
    await connection.execute("SELECT tenantry.grant_application($1)", role)
    await enroll(connection, tenant)
    first = "acme" if id_type is IdType.TEXT else "0"
    await connection.execute(f"CREATE TABLE t (tenant_id {column_type})")
    await connection.execute(f"INSERT INTO t VALUES ('{first}')")
    shown = "integer" if column_type == "integer" else "character varying(4)"
    for statement in policy.table_sql(
        "public", "t", "tenant_id", Tenancy(id_type=id_type), role=role, column_type=shown
    ):
        await connection.execute(statement)
    await connection.execute(f"SET ROLE {identifier(role)}")
    async with connection.transaction():
        await connection.execute("SELECT tenantry.bind($1)", tenant)
        assert await connection.fetchval("SELECT count(*) FROM t") == 0
        await connection.execute("SET LOCAL enable_seqscan = off")
        plan = await connection.fetch("EXPLAIN SELECT * FROM t")
        assert any("Index Cond" in row[0] for row in plan)  # and the index serves all the same


async def test_the_index_is_made_only_where_none_serves(connection: Connection, role: str) -> None:
    await install(connection, IdType.BIGINT)
    await connection.execute(
        "CREATE TABLE served (tenant_id bigint, n int, PRIMARY KEY (tenant_id, n));"
        "CREATE TABLE partly (tenant_id bigint, n int);"
        "CREATE INDEX ON partly (tenant_id) WHERE n > 0;"
    )
    for table in ("served", "partly"):
        for statement in policy.table_sql("public", table, "tenant_id", Tenancy(id_type=IdType.BIGINT)):
            await connection.execute(statement)
    made = await connection.fetch("SELECT tablename FROM pg_indexes WHERE indexname LIKE '%tenantry_idx'")
    assert [row["tablename"] for row in made] == ["partly"]
