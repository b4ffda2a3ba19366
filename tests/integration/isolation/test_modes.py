"""Plan, audit and probe in hardened mode, and on the oldest PostgreSQL that is supported."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest

from tenantry.catalog.read import read
from tenantry.catalog.tenancy import Tenancy
from tenantry.embedded import EmbeddedServer
from tenantry.ids import IdType
from tenantry.isolation.apply import adopt, compute
from tenantry.isolation.attacks import probe
from tenantry.isolation.audit import audit
from tenantry.isolation.policy import table_sql
from tenantry.proof import bind_proof, database_key
from tenantry.runtime.sqltext import identifier
from tests.integration.isolation.conftest import Connection, enroll, install
from tests.integration.isolation.test_audit import clean, look
from tests.schemas import SCHEMAS, SHOP, Schema
from tests.support.installing import SECRET, make_data


@pytest.fixture
async def oldest(
    pg15: EmbeddedServer, make_database: Callable[[EmbeddedServer], str]
) -> AsyncIterator[Connection]:
    """The superuser's connection to an empty database on PostgreSQL 15, with an application role."""
    opened = await asyncpg.connect(pg15.dsn(make_database(pg15)))
    await opened.execute("CREATE ROLE oldest_app LOGIN")
    try:
        yield opened
    finally:
        await opened.execute("DROP OWNED BY oldest_app CASCADE; DROP ROLE oldest_app")
        await opened.close()


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.name)
async def test_on_postgresql_15_a_plan_applied_is_clean_and_holds(oldest: Connection, schema: Schema) -> None:
    await clean(oldest, schema, "oldest_app")
    assert (await compute(oldest, schema.tenancy, role="oldest_app", foreign_keys=True)).steps == ()
    assert (await look(oldest, schema, "oldest_app")).findings == ()
    report = await probe(oldest, await read(oldest), schema.tenancy, "oldest_app")
    assert report.broken == ()


@pytest.mark.parametrize("id_type", list(IdType))
@pytest.mark.parametrize("column_type", ["own", "text", "varchar(40)"])
async def test_the_hardened_template_is_recognised_and_holds(
    connection: Connection, role: str, id_type: IdType, column_type: str
) -> None:
    column_type = id_type.value if column_type == "own" else column_type
    tenants = SHOP.tenants if id_type is IdType.UUID else ("1", "2")
    tenancy = Tenancy(id_type=id_type, hardened=True)
    key = database_key(SECRET, "shared")
    await make_data(connection, role, id_type, setting=tenancy.setting, key=key)
    await connection.execute(f"CREATE TABLE t (tenant_id {column_type}, id bigint PRIMARY KEY)")
    for number, tenant in enumerate(tenants):
        await connection.execute(
            "INSERT INTO tenantry.placement (tenant, database, epoch) VALUES ($1, 'shared', 1)", tenant
        )
        await connection.execute(f"INSERT INTO t VALUES ('{tenant}', {number})")
    await adopt(connection, tenancy, role=role)
    assert (await compute(connection, tenancy, role=role)).steps == ()
    catalog = await read(connection)
    newest = dataclasses.replace(catalog, version=180099)
    assert audit(newest, tenancy, role=role).findings == ()

    async def bind(connection: Connection, tenant: str) -> None:
        backend = await connection.fetchval("SELECT pg_backend_pid()")
        proof = bind_proof(key, backend, tenant)
        await connection.execute("SELECT tenantry.bind($1, $2)", tenant, proof)

    assert (await probe(connection, catalog, tenancy, role, bind=bind)).passed


async def test_a_setting_changed_in_the_middle_of_a_statement_shows_no_other_row_when_hardened(
    connection: Connection, role: str
) -> None:
    await install(connection, IdType.BIGINT)
    await enroll(connection, 1, 2)
    await connection.execute("SELECT tenantry.grant_application($1)", role)
    await connection.execute(
        "CREATE TABLE t (tenant_id bigint NOT NULL, id int);"
        "INSERT INTO t SELECT n % 2 + 1, n FROM generate_series(1, 10) AS n;"
        f"GRANT SELECT ON t TO {identifier(role)};"
        "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA tenantry TO PUBLIC;"
        "CREATE INDEX ON t (tenant_id)"
    )
    seen = {}
    for hardened in (False, True):
        for statement in table_sql("public", "t", "tenant_id", Tenancy(id_type=IdType.BIGINT, hardened=hardened)):
            await connection.execute(statement)
        async with connection.transaction():
            await connection.execute(f"SET LOCAL ROLE {identifier(role)}")
            await connection.execute("SELECT tenantry.bind('1')")
            rows = await connection.fetch("SELECT tenant_id, set_config('app.current_tenant', '2', true) FROM t")
            seen[hardened] = {row["tenant_id"] for row in rows}
    assert seen == {False: {1, 2}, True: {1}}
