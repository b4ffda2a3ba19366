"""Plan and apply on schemas as products have them."""

from __future__ import annotations

from collections.abc import Callable

import asyncpg
import pytest

from tenantry.catalog.read import read
from tenantry.catalog.tables import tenant_tables
from tenantry.catalog.tenancy import Tenancy
from tenantry.catalog.values import Catalog, Relation
from tenantry.ids import IdType
from tenantry.isolation.apply import Pace, Progress, StepFailed, adopt, apply, compute
from tenantry.isolation.plan import plan
from tenantry.runtime.sqltext import identifier, literal
from tests.integration.isolation.conftest import Connection, enroll, install
from tests.schemas import LEGACY, SCHEMAS, SHOP, STYLES, Schema


async def made(connection: Connection, schema: Schema, role: str) -> None:
    await install(connection, schema.tenancy.id_type, setting=schema.tenancy.setting)
    await connection.execute("SELECT tenantry.grant_application($1)", role)
    await connection.execute(schema.sql)
    await enroll(connection, *schema.tenants)


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.name)
@pytest.mark.parametrize("foreign_keys", [True, False], ids=["keys", "no keys"])
async def test_a_plan_applied_leaves_an_empty_plan(
    connection: Connection, role: str, schema: Schema, foreign_keys: bool
) -> None:
    await made(connection, schema, role)
    applied = await adopt(connection, schema.tenancy, role=role, foreign_keys=foreign_keys)
    assert applied.steps
    again = await compute(connection, schema.tenancy, role=role, foreign_keys=foreign_keys)
    assert again.steps == (), again.sql()
    asked = {item.object for item in again.undecided}
    assert asked == {item.object for item in applied.undecided}
    if foreign_keys:
        assert not asked


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.name)
async def test_after_a_plan_each_tenant_sees_its_own_rows_in_every_table(
    connection: Connection, role: str, schema: Schema
) -> None:
    await made(connection, schema, role)
    await adopt(connection, schema.tenancy, role=role)
    catalog = await read(connection)
    facts = plan(catalog, schema.tenancy, role=role)
    assert facts.steps == ()
    for tenant in schema.tenants:
        for relation, column in _tables(catalog, schema):
            if relation.key == "public.member_only":
                continue  # these want more than the setting
            where = f"{identifier(column)}::text = {literal(tenant)}"
            own = await connection.fetchval(f"SELECT count(*) FROM {relation.sql} WHERE {where}")
            async with connection.transaction():
                await connection.execute(f"SET LOCAL ROLE {identifier(role)}")
                await connection.execute("SELECT tenantry.bind($1)", tenant)
                if not await connection.fetchval("SELECT has_table_privilege($1::oid, 'SELECT')", relation.oid):
                    continue
                assert await connection.fetchval(f"SELECT count(*) FROM {relation.sql}") == own


def _tables(catalog: Catalog, schema: Schema) -> list[tuple[Relation, str]]:
    found = tenant_tables(catalog, schema.tenancy).tenants
    return [(catalog.relations[oid], column.name) for oid, column in found.items()]


async def test_existing_policies_that_isolate_are_left_as_they_are_and_guarded(
    connection: Connection, role: str
) -> None:
    await made(connection, STYLES, role)
    before = (await read(connection)).policies
    applied = await adopt(connection, STYLES.tenancy, role=role)
    after = await read(connection)
    for oid, policies in before.items():
        (guard,) = {*after.policies[oid]} - {*policies}
        assert {*policies} < {*after.policies[oid]}
        assert (guard.name, guard.permissive, guard.roles) == ("tenantry_guard", False, ("public",))
        assert guard.using == guard.check == "( SELECT tenantry.admitted() AS admitted)"
    assert len(applied.kept) == len(before)
    for oid in before:
        assert after.relations[oid].rls
        assert after.relations[oid].forced


async def test_what_can_not_be_decided_is_listed_with_its_choices(connection: Connection, role: str) -> None:
    await install(connection, IdType.UUID)
    await connection.execute(
        "CREATE TABLE tenants (id uuid PRIMARY KEY);"
        "CREATE TABLE orders (id bigint PRIMARY KEY, tenant_id uuid REFERENCES tenants, email text UNIQUE);"
        "INSERT INTO orders VALUES (1, NULL);"
        "CREATE TABLE lines (id bigint PRIMARY KEY, order_id bigint REFERENCES orders);"
        "CREATE TABLE plain (id bigint PRIMARY KEY);"
        'CREATE TABLE twice ("TenantID" uuid, "tenantId" uuid);'
        "CREATE TABLE padded (tenant_id char(36));"
        "CREATE TABLE odd (tenant_id uuid); CREATE POLICY p ON odd USING (true);"
        "CREATE TABLE other (tenant_id uuid);"
        "CREATE POLICY p ON other USING (tenant_id::text = current_setting('app.org', true));"
    )
    found = await compute(connection, Tenancy(tables={"public.gone": "x"}), role=role)
    topics = {item.object: item.topic for item in found.undecided}
    assert topics == {
        "public.tenants": "table",
        "public.orders": "nulls",
        "public.lines": "table",
        "public.plain": "table",
        "public.twice": "column",
        "public.padded": "column",
        "public.odd": "policy",
        "public.other": "policy",
        "public.gone": "table",
        role: "role",
    }
    assert all(item.choices for item in found.undecided)
    assert "DECIDE public.lines" in found.sql()


async def test_an_apply_that_was_broken_off_is_resumed(connection: Connection, role: str) -> None:
    await made(connection, SHOP, role)
    whole = await compute(connection, SHOP.tenancy, role=role, foreign_keys=True)

    class Stopped(Exception):
        pass

    rounds = 0
    while True:
        rounds += 1
        seen = 0

        def stop(progress: Progress) -> None:
            nonlocal seen
            seen += progress.state == "done"
            if seen == 150:
                raise Stopped

        try:
            await adopt(connection, SHOP.tenancy, role=role, foreign_keys=True, progress=stop)
        except Stopped:
            continue
        break
    assert rounds >= len(whole.steps) // 150
    assert (await compute(connection, SHOP.tenancy, role=role, foreign_keys=True)).steps == ()


async def test_the_leftover_of_a_failed_concurrent_index_is_replaced(connection: Connection, role: str) -> None:
    await install(connection, IdType.BIGINT)
    tenancy = Tenancy(id_type=IdType.BIGINT)
    await connection.execute("CREATE TABLE t (tenant_id bigint, id bigint); INSERT INTO t VALUES (1, 1), (1, 1)")
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.execute("CREATE UNIQUE INDEX CONCURRENTLY t_tenantry_idx ON t (tenant_id)")
    await adopt(connection, tenancy, role=role)
    catalog = await read(connection)
    (index,) = (i for found in catalog.indexes.values() for i in found)
    assert (index.name, index.valid, index.unique) == ("t_tenantry_idx", True, False)


async def test_a_step_that_does_not_get_its_lock_tries_again_and_blocks_nobody_for_long(
    connection: Connection, role: str, dsn: Callable[[str], str]
) -> None:
    await install(connection, IdType.BIGINT)
    await connection.execute("CREATE TABLE t (tenant_id bigint NOT NULL, id bigint PRIMARY KEY)")
    reader = await asyncpg.connect(dsn("postgres"))
    try:
        transaction = reader.transaction()
        await transaction.start()
        await reader.fetch("SELECT * FROM t")
        waits: list[float] = []

        async def sleep(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                await transaction.rollback()

        states: list[str] = []
        wanted = await compute(connection, Tenancy(id_type=IdType.BIGINT), role=role)
        wanted = wanted.__class__(tuple(step for step in wanted.steps if step.kind == "policy"), (), ())
        await apply(
            connection,
            wanted,
            pace=Pace(lock_timeout=0.05, sleep=sleep),
            progress=lambda progress: states.append(progress.state),
        )
        assert waits == [0.5, 0.75, 1.125]
        assert states[-1] == "done"
        assert states.count("waiting") == 3
        assert await connection.fetchval("SHOW lock_timeout") == "0"
    finally:
        await reader.close()


async def test_a_step_that_fails_says_what_is_done_and_how_to_go_on(connection: Connection, role: str) -> None:
    await install(connection, IdType.BIGINT)
    await connection.execute("CREATE TABLE t (tenant_id bigint, id bigint PRIMARY KEY)")
    wanted = await compute(connection, Tenancy(id_type=IdType.BIGINT), role=role)
    await connection.execute("INSERT INTO t VALUES (NULL, 1)")
    with pytest.raises(StepFailed, match=r"public\.t .*apply again") as failed:
        await apply(connection, wanted)
    assert failed.value.step.kind == "not null"
    await connection.execute("UPDATE t SET tenant_id = 1")
    await adopt(connection, Tenancy(id_type=IdType.BIGINT), role=role)
    assert (await compute(connection, Tenancy(id_type=IdType.BIGINT), role=role)).steps == ()


async def test_the_template_is_recognised_as_postgresql_prints_it(connection: Connection, role: str) -> None:
    await made(connection, LEGACY, role)
    await adopt(connection, LEGACY.tenancy, role=role)
    again = await compute(connection, LEGACY.tenancy, role=role)
    assert [step for step in again.steps if step.kind == "policy"] == []


async def test_a_role_that_could_not_call_the_policies_functions_is_named_beforehand(
    connection: Connection, role: str, other_role: str
) -> None:
    await made(connection, SHOP, role)
    await connection.execute(f"GRANT SELECT ON people TO {identifier(other_role)}")
    found = await compute(connection, SHOP.tenancy, role=role, foreign_keys=True)
    (item,) = found.undecided
    assert (item.object, item.topic) == (other_role, "role")
    await connection.execute("SELECT tenantry.grant_application($1)", other_role)
    found = await compute(connection, SHOP.tenancy, role=role, foreign_keys=True)
    assert found.undecided == ()


async def test_a_database_without_the_tenantry_schema_is_told_to_install_it_first(
    connection: Connection,
) -> None:
    await connection.execute("CREATE TABLE t (tenant_id uuid, id int PRIMARY KEY)")
    found = await compute(connection, Tenancy())
    assert [(item.object, item.topic) for item in found.undecided] == [("tenantry", "schema")]
    assert found.steps
