"""The probe: it breaks what is broken, says what it could not try, and leaves nothing behind."""

from __future__ import annotations

import pytest

from tenantry.catalog.read import read
from tenantry.catalog.tenancy import Tenancy
from tenantry.isolation.apply import adopt
from tenantry.isolation.attacks import Outcome, Report, probe
from tenantry.isolation.facts import Facts
from tenantry.runtime.sqltext import identifier
from tests.integration.isolation.conftest import Connection, enroll, install
from tests.integration.isolation.test_audit import clean
from tests.schemas import SCHEMAS, SHOP, Schema

A, B = SHOP.tenants


async def attacked(connection: Connection, schema: Schema, role: str) -> Report:
    return await probe(connection, await read(connection), schema.tenancy, role)


async def _small(connection: Connection, role: str) -> Tenancy:
    await install(connection, Tenancy().id_type)
    await connection.execute("SELECT tenantry.grant_application($1)", role)
    await enroll(connection, A, B)
    await connection.execute(
        "CREATE TABLE customers (id bigint PRIMARY KEY, tenant_id uuid);"
        "CREATE TABLE orders (id bigint PRIMARY KEY, tenant_id uuid,"
        " customer bigint REFERENCES customers);"
        "CREATE VIEW order_view AS SELECT * FROM orders;"
        f"INSERT INTO customers VALUES (1, '{A}'), (2, '{B}');"
        f"INSERT INTO orders VALUES (1, '{A}', 1), (2, '{B}', 2);"
    )
    tenancy = Tenancy()
    await adopt(connection, tenancy, role=role, foreign_keys=True)
    await connection.execute(f"GRANT SELECT ON order_view TO {identifier(role)}")
    return tenancy


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.name)
async def test_a_clean_database_holds_against_every_attack(
    connection: Connection, role: str, schema: Schema
) -> None:
    await clean(connection, schema, role)
    before = await _contents(connection)
    report = await attacked(connection, schema, role)
    assert report.broken == ()
    held = {a.object for a in report.attempts if a.outcome is Outcome.HELD}
    assert len(held) > len(Facts(await read(connection), schema.tenancy).tenant_tables) // 2
    assert await _contents(connection) == before


async def _contents(connection: Connection) -> object:
    found = await connection.fetch(
        "SELECT oid::regclass::text AS name FROM pg_class WHERE relkind = 'r'"
        " AND relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)"
        " AND relnamespace::regnamespace::text !~ '^pg_' ORDER BY 1"
    )
    return [
        await connection.fetch(f"SELECT md5(string_agg(t::text, ',')) FROM ONLY {row['name']} AS t")
        for row in found
    ]


async def test_an_ordinary_schema_passes(connection: Connection, role: str) -> None:
    tenancy = await _small(connection, role)
    report = await probe(connection, await read(connection), tenancy, role)
    assert report.passed, str(report)
    assert {one.attack for one in report.untried} == {"delete everything"}
    assert ("public.order_view", "read view") in {(a.object, a.attack) for a in report.held}


@pytest.mark.parametrize(
    ("broken", "wanted"),
    [
        ("ALTER TABLE orders DISABLE ROW LEVEL SECURITY", {"read everything", "copy", "delete", "insert"}),
        ("CREATE POLICY p ON orders FOR SELECT USING (true)", {"read by id", "cursor", "copy"}),
        (
            "ALTER POLICY tenantry_tenant ON orders WITH CHECK (true)",
            {"insert"},
        ),
        (
            "ALTER TABLE orders ADD FOREIGN KEY (customer) REFERENCES customers (id);"
            "ALTER TABLE orders DROP CONSTRAINT orders_customer_fkey_tenantry",
            {"refer along orders_customer_fkey"},
        ),
        ("ALTER VIEW order_view SET (security_invoker = false)", {"read view"}),
        (
            "CREATE FUNCTION all_orders() RETURNS SETOF orders LANGUAGE sql STABLE SECURITY DEFINER"
            " AS $$ SELECT * FROM orders $$",
            {"call"},
        ),
        (
            "ALTER POLICY tenantry_tenant ON orders"
            " USING (tenant_id = current_setting('app.current_tenant')::uuid)",
            {"read without a tenant", "read with an empty tenant"},
        ),
    ],
    ids=["off", "permissive", "check", "foreign key", "view", "function", "unset"],
)
async def test_the_probe_gets_through_a_broken_policy(
    connection: Connection, role: str, broken: str, wanted: set[str]
) -> None:
    tenancy = await _small(connection, role)
    await connection.execute(broken)
    report = await probe(connection, await read(connection), tenancy, role)
    assert not report.passed
    assert wanted <= {attempt.attack for attempt in report.broken}
    assert {a.object for a in report.broken} <= {
        "public.orders", "public.order_view", "public.all_orders()",
    }  # fmt: skip


async def test_a_probe_that_could_try_nothing_does_not_pass(connection: Connection, role: str) -> None:
    empty = await probe(connection, await read(connection), Tenancy(), role)
    assert not empty.passed
    tenancy = await _small(connection, role)
    await connection.execute("CREATE TABLE more (tenant_id uuid NOT NULL, id int PRIMARY KEY)")
    await adopt(connection, tenancy, role=role)
    report = await probe(connection, await read(connection), tenancy, role)
    assert not report.passed
    assert report.problems == ("public.more: it has no rows of a tenant to attack",)
    assert report.broken == ()


async def test_a_tenant_that_can_not_be_bound_proves_nothing(connection: Connection, role: str) -> None:
    tenancy = await _small(connection, role)
    await connection.execute("UPDATE tenantry.placement SET database = 'elsewhere'")
    report = await probe(connection, await read(connection), tenancy, role)
    assert not report.passed
    assert {one.object for one in report.untried} == {"public.customers", "public.orders"}
    assert all("can't be bound here" in problem for problem in report.problems)
