"""The audit: right, not loud. From a clean database one thing is broken, found, fixed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import asyncpg
import pytest

from tenantry.catalog.read import read
from tenantry.catalog.tenancy import Tenancy
from tenantry.isolation import audit as auditing
from tenantry.isolation.apply import adopt
from tenantry.isolation.audit import AuditReport, every_rule
from tenantry.runtime.sqltext import identifier
from tenantry.sql import query
from tests.integration.isolation.conftest import Connection, enroll, install
from tests.schemas import SCHEMAS, SHOP, WORKSHOP, Schema

SETTING = "nullif(current_setting('app.current_tenant', true), '')::uuid"


class Break(NamedTuple):
    """How to break one thing, and what the audit then says."""

    code: str
    object: str
    sql: str
    replan: bool = False
    """True where the fix makes a tenant table, which is then planned like any other."""


CONTROL_TABLE = "CREATE TABLE tenantry.tenant (id text, state text)"

BREAKS = [
    Break("TN101", "public.orders", "ALTER TABLE orders DISABLE ROW LEVEL SECURITY"),
    Break("TN102", "public.orders", "ALTER TABLE orders NO FORCE ROW LEVEL SECURITY"),
    Break("TN103", "public.orders", "DROP POLICY tenantry_tenant ON orders"),
    Break(
        "TN104",
        "public.orders.tenantry_tenant",
        "ALTER POLICY tenantry_tenant ON orders USING (true) WITH CHECK (true)",
    ),
    Break(
        "TN104",
        "public.orders.tenantry_tenant",
        "ALTER POLICY tenantry_tenant ON orders"
        " USING (current_setting('app.current_tenant', true) IS NOT NULL) WITH CHECK (id > 0)",
    ),
    Break("TN105", "public.orders.everybody", "CREATE POLICY everybody ON orders USING (id IS NOT NULL)"),
    Break("TN105", "public.notes.readers", "CREATE POLICY readers ON notes FOR SELECT USING (true)"),
    Break(
        "TN106",
        "public.orders.tenantry_tenant",
        "ALTER POLICY tenantry_tenant ON orders USING (tenant_id = current_setting('app.current_tenant')::uuid)",
    ),
    Break(
        "TN106",
        "public.notes.mine",
        "ALTER POLICY mine ON notes USING (tenant_id = current_setting('app.current_tenant', true)::uuid)",
    ),
    Break(
        "TN107",
        "public.notes.mine",
        "CREATE FUNCTION app.bound() RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER"
        " SET search_path = pg_catalog AS $$ SELECT app.tenant() $$;"
        "ALTER POLICY mine ON notes USING (tenant_id = app.bound())",
    ),
    Break(
        "TN107",
        "public.notes.mine",
        "ALTER POLICY mine ON notes USING (tenant_id = app.tenant()"
        " AND EXISTS (SELECT FROM orders WHERE orders.id = notes.id))",
    ),
    Break("TN108", "public.notes.mine", "ALTER POLICY mine ON notes WITH CHECK (true)"),
    Break(
        "TN109",
        "public.notes.mine",
        "CREATE FUNCTION app.odd(t uuid) RETURNS boolean LANGUAGE sql STABLE AS $$ SELECT t > t $$;"
        "ALTER POLICY mine ON notes USING (app.odd(tenant_id))",
    ),
    Break(
        "TN110",
        "public.orders.tenantry_tenant",
        f"ALTER POLICY tenantry_tenant ON orders USING (tenant_id = {SETTING} AND id > 0)",
    ),
    Break(
        "TN111",
        "public.notes.mine",
        "ALTER POLICY mine ON notes USING (tenant_id = app.tenant() OR current_setting('app.staff', true) = 'on')",
    ),
    Break(
        "TN112",
        "public.notes.mine",
        "ALTER POLICY mine ON notes USING (tenant_id::text = nullif(current_setting('app.org', true), ''))",
    ),
    Break("TN113", "public.shared_notes.held", "GRANT INSERT ON membership TO {role}"),
    Break(
        "TN114",
        "public.orders",
        query("isolation/observe") + ";DROP POLICY tenantry_tenant ON orders;"
        "CREATE POLICY tenantry_observe ON orders"
        f" USING (coalesce(tenant_id = {SETTING}, false) OR (SELECT tenantry.observe("
        "'public.orders', 'read', current_setting('app.current_tenant', true))))",
    ),
    Break(
        "TN115",
        "public.shared_notes.held",
        "ALTER POLICY held ON shared_notes USING (tenant_id::text = current_user)",
    ),
    Break(
        "TN115",
        "public.notes.mine",
        "DROP POLICY mine ON notes; CREATE POLICY mine ON notes FOR SELECT",
    ),
    Break("TN116", "public.orders", "DROP POLICY tenantry_guard ON orders"),
    Break("TN116", "public.notes", "DROP POLICY tenantry_guard ON notes"),
    Break("TN116", "public.notes", "ALTER POLICY tenantry_guard ON notes USING (true)"),
    Break("TN116", "public.notes", "ALTER POLICY tenantry_guard ON notes TO {role}"),
    Break("TN116", "public.events_1", "DROP POLICY tenantry_guard ON events_1"),
    Break(
        "TN116",
        "public.orders",
        f"DROP POLICY tenantry_guard ON orders; ALTER POLICY tenantry_tenant ON orders"
        f" USING (tenant_id = {SETTING} AND (SELECT tenantry.admitted()))"
        f" WITH CHECK (tenant_id = {SETTING} AND (SELECT tenantry.admitted()))",
    ),
    Break(
        "TN117",
        "public.notes.staff",
        "CREATE SCHEMA auth; CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE AS"
        " $$ SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb $$;"
        "CREATE POLICY staff ON notes USING (auth.jwt() ->> 'role' = 'staff')",
    ),
    Break(
        "TN117",
        "public.notes.mine",
        "ALTER POLICY mine ON notes USING (tenant_id ="
        " (nullif(current_setting('request.jwt.claims', true), '')::json ->> 'tenant')::uuid)",
    ),
    Break(
        "TN117",
        "public.notes.mine",
        "ALTER POLICY mine ON notes USING (tenant_id = app.tenant()"
        " OR current_setting('request.jwt.claim.role', true) = 'staff')",
    ),
    Break(
        "TN118",
        "public.notes.mine",
        "ALTER POLICY mine ON notes USING (tenant_id = app.tenant()"
        " AND current_setting('request.jwt.claims', true)::jsonb ->> 'sub' IS NOT NULL)"
        " WITH CHECK (tenant_id = app.tenant()"
        " AND (SELECT current_setting('Request.JWT.claims', true))::json IS NOT NULL)",
    ),
    Break("TN201", "public.log", "DROP INDEX log_tenantry_idx"),
    Break(
        "TN202",
        "public.log",
        "DROP INDEX log_tenantry_idx;CREATE INDEX log_tenantry_idx ON log (tenant_id) WHERE line IS NOT NULL",
    ),
    Break("TN202", "public.log", "DROP INDEX log_tenantry_idx; CREATE INDEX ON log (line, tenant_id)"),
    Break("TN203", "public.log", "ALTER TABLE log ALTER tenant_id DROP NOT NULL"),
    Break(
        "TN204",
        "public.lines",
        "CREATE TABLE lines (id bigint PRIMARY KEY, order_id bigint REFERENCES orders (id))",
        replan=True,
    ),
    Break("TN205", "public.padded", "CREATE TABLE padded (tenant_id char(36))", replan=True),
    Break("TN207", "public.countries", "GRANT INSERT ON countries TO {role}"),
    Break(
        "TN301",
        "public.events_1",
        "ALTER TABLE events_1 DISABLE ROW LEVEL SECURITY; GRANT SELECT ON events_1 TO {role}",
    ),
    Break(
        "TN302",
        "public.everything",
        "CREATE VIEW everything AS SELECT * FROM order_list; GRANT SELECT ON everything TO {role};"
        "GRANT SELECT ON order_list TO {role}",
    ),
    Break(
        "TN302",
        "public.through",
        "CREATE VIEW under AS SELECT * FROM order_list; GRANT SELECT ON under TO {other};"
        "CREATE VIEW through AS SELECT * FROM under; ALTER VIEW through OWNER TO {other};"
        "GRANT SELECT ON through TO {role}; GRANT SELECT ON order_list, orders TO {other}",
    ),
    Break("TN303", "public.totals", "GRANT SELECT ON totals TO {role}"),
    Break(
        "TN305",
        "public.orders.loose",
        "ALTER TABLE orders ADD CONSTRAINT loose FOREIGN KEY (customer_id) REFERENCES customers (id)",
    ),
    Break("TN306", "public.customers.names", "CREATE UNIQUE INDEX names ON customers (name)"),
    Break(
        "TN306",
        "public.customers.names",
        "ALTER TABLE customers ADD CONSTRAINT names UNIQUE (name)",
    ),
    Break(
        "TN401",
        "app.count_orders()",
        "CREATE FUNCTION app.count_orders() RETURNS bigint LANGUAGE sql SECURITY DEFINER"
        " SET search_path = pg_catalog, pg_temp AS $$ SELECT count(*) FROM public.orders $$",
    ),
    Break(
        "TN401",
        "app.report(q text)",
        "CREATE FUNCTION app.report(q text) RETURNS xml LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog"
        " AS $$ SELECT query_to_xml(q, true, false, '') $$",
    ),
    Break(
        "TN401",
        "app.counted()",
        "CREATE FUNCTION app.through() RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM public.orders $$;"
        "CREATE FUNCTION app.counted() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog"
        " AS $$ SELECT app.through() $$",
    ),
    Break(
        "TN401",
        "app.outer_one()",
        "CREATE FUNCTION app.inner_one() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog"
        " AS $$ SELECT count(*) FROM public.orders $$; REVOKE ALL ON FUNCTION app.inner_one() FROM PUBLIC;"
        "CREATE FUNCTION app.outer_one() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog"
        " AS $$ SELECT app.inner_one() $$; ALTER FUNCTION app.outer_one() OWNER TO {other};"
        "GRANT EXECUTE ON FUNCTION app.inner_one() TO {other}; GRANT USAGE ON SCHEMA app TO {other}",
    ),
    Break(
        "TN402",
        "app.loose()",
        "CREATE FUNCTION app.loose() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS $$ SELECT 1 $$;"
        "ALTER FUNCTION app.loose() OWNER TO {other}",
    ),
    Break(
        "TN403",
        "public.orders.fired",
        "CREATE FUNCTION app.fired() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
        " SET search_path = pg_catalog, pg_temp AS"
        " $$ BEGIN INSERT INTO public.log VALUES (new.tenant_id, 'x'); RETURN new; END $$;"
        "CREATE TRIGGER fired BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION app.fired()",
    ),
    Break("TN404", "public.orders", "GRANT TRUNCATE ON orders TO {role}"),
    Break("TN404", "public.orders", "GRANT REFERENCES (id) ON orders TO PUBLIC"),
    Break("TN405", "{plain_role} NOBYPASSRLS", "ALTER ROLE {role} BYPASSRLS"),
    Break("TN405", "{plain_role} NOREPLICATION", "ALTER ROLE {role} REPLICATION"),
    Break(
        "TN405",
        "{plain_role} in {plain_other}",
        "ALTER ROLE {other} BYPASSRLS; GRANT {other} TO {role}",
    ),
    Break(
        "TN405",
        "{plain_role} in pg_read_server_files",
        "GRANT pg_read_server_files TO {role}",
    ),
    Break("TN406", "public.log", "ALTER TABLE log OWNER TO {role}"),
    Break("TN407", "public.customers_id_seq", "GRANT UPDATE ON SEQUENCE customers_id_seq TO {role}"),
    Break("TN408", "large objects", "SELECT lo_create(4242); GRANT SELECT ON LARGE OBJECT 4242 TO {role}"),
    Break("TN405", "{plain_role} NOCREATEROLE", "ALTER ROLE {role} CREATEROLE"),
    Break("TN405", "{plain_role} in {plain_other}", "ALTER ROLE {other} CREATEROLE; GRANT {other} TO {role}"),
    Break("TN405", "{plain_role} in pg_execute_server_program", "GRANT pg_execute_server_program TO {role}"),
    Break("TN405", "{plain_role} in pg_read_all_data", "GRANT pg_read_all_data TO {role}"),
    Break(
        "TN405",
        "{plain_role} in {plain_other}",
        "GRANT pg_write_all_data TO {other}; GRANT {other} TO {role}",
    ),
    Break(
        "TN409",
        "{plain_role} SELECT pg_catalog.pg_statistic",
        "GRANT SELECT ON pg_statistic TO {role}",
    ),
    Break(
        "TN409",
        "{plain_role} SELECT pg_catalog.pg_authid",
        "GRANT SELECT (rolpassword) ON pg_authid TO {other}; GRANT {other} TO {role}",
    ),
    Break(
        "TN409",
        "{plain_role} EXECUTE pg_catalog.pg_read_file(text)",
        "GRANT EXECUTE ON FUNCTION pg_read_file(text) TO {other}; GRANT {other} TO {role}",
    ),
    Break(
        "TN409",
        "{plain_role} EXECUTE pg_catalog.lo_export(oid, text)",
        "GRANT EXECUTE ON FUNCTION lo_export(oid, text) TO PUBLIC",
    ),
    Break("TN410", "{plain_role} SELECT tenantry.secret", "GRANT SELECT ON tenantry.secret TO {role}"),
    Break(
        "TN410",
        "{plain_role} SELECT tenantry.secret",
        "GRANT SELECT (inner_pad) ON tenantry.secret TO {other}; GRANT {other} TO {role}",
    ),
    Break(
        "TN410", "{plain_role} UPDATE tenantry.placement", "GRANT SELECT, UPDATE ON tenantry.placement TO PUBLIC"
    ),
    Break(
        "TN410",
        "{plain_role} INSERT tenantry.database_identity",
        "GRANT INSERT ON tenantry.database_identity TO {role}",
    ),
    Break("TN410", "{plain_role} CREATE tenantry", "GRANT CREATE ON SCHEMA tenantry TO {role}"),
    Break("TN410", "{plain_role} SCHEMA tenantry", "ALTER SCHEMA tenantry OWNER TO {role}"),
    Break("TN410", "{plain_role} TABLE tenantry.placement", "ALTER TABLE tenantry.placement OWNER TO {role}"),
    Break(
        "TN410", "{plain_role} FUNCTION tenantry.admitted()", "ALTER FUNCTION tenantry.admitted() OWNER TO {role}"
    ),
    Break("TN411", "{plain_role} CREATE public", "GRANT CREATE ON SCHEMA public TO PUBLIC"),
    Break(
        "TN411",
        '{plain_role} SCHEMA "the path"',
        'CREATE SCHEMA "the path"; ALTER SCHEMA "the path" OWNER TO {role};'
        'ALTER ROLE {role} SET search_path = public, "the path"',
    ),
    Break(
        "TN411",
        "{plain_role} CREATE {database}",
        "DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO {role}', current_database()); END $$",
    ),
    Break("TN412", "{plain_role} ROLE app.current_tenant", "ALTER ROLE {role} SET app.current_tenant = 'x'"),
    Break(
        "TN412",
        "{plain_role} DATABASE App.Current_Tenant",
        "DO $$ BEGIN EXECUTE"
        " format('ALTER DATABASE %I SET \"App.Current_Tenant\" = 1', current_database()); END $$",
    ),
    Break(
        "TN412",
        "{plain_role} ROLE IN DATABASE app.current_tenant",
        "DO $$ BEGIN EXECUTE format('ALTER ROLE {role} IN DATABASE %I SET app.current_tenant = %L', "
        "current_database(), 'x'); END $$",
    ),
    Break(
        "TN413", "{plain_role} as {plain_role}", f"{CONTROL_TABLE}; GRANT SELECT ON tenantry.tenant TO {{role}}"
    ),
    Break(
        "TN413",
        "{plain_role} as {plain_other}",
        f"{CONTROL_TABLE}; GRANT UPDATE (state) ON tenantry.tenant TO {{other}}; GRANT {{other}} TO {{role}}",
    ),
    Break("TN413", "{plain_role} as public", f"{CONTROL_TABLE}; GRANT DELETE ON tenantry.tenant TO PUBLIC"),
    Break("TN501", "public.orders", "ALTER TABLE orders REPLICA IDENTITY DEFAULT"),
]


async def look(connection: Connection, schema: Schema, role: str | None) -> AuditReport:
    """The audit of a server that has every fix: the embedded ones may lack some."""
    catalog = await read(connection)
    newest = dataclasses.replace(catalog, version=catalog.version // 10000 * 10000 + 99)
    return auditing.audit(newest, schema.tenancy, role=role)


async def clean(connection: Connection, schema: Schema, role: str) -> None:
    await install(connection, schema.tenancy.id_type, setting=schema.tenancy.setting)
    await connection.execute("SELECT tenantry.grant_application($1)", role)
    await connection.execute(schema.sql)
    await enroll(connection, *schema.tenants)
    await adopt(connection, schema.tenancy, role=role, foreign_keys=True)


@pytest.mark.parametrize("schema", [*SCHEMAS, WORKSHOP], ids=lambda schema: schema.name)
async def test_after_a_plan_is_applied_the_audit_is_clean(
    connection: Connection, role: str, schema: Schema
) -> None:
    await clean(connection, schema, role)
    report = await look(connection, schema, role)
    assert report.findings == ()
    assert report.clean
    assert report.unchecked == ()
    assert (await look(connection, schema, None)).findings == ()


@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: f"{broken.code}-{BREAKS.index(broken)}")
async def test_an_audit_rule_finds_what_is_broken_and_nothing_else_and_its_fix_fixes_it(
    connection: Connection, role: str, other_role: str, broken: Break
) -> None:
    names = {
        "role": identifier(role),
        "other": identifier(other_role),
        "plain_role": role,
        "plain_other": other_role,
        "database": await connection.fetchval("SELECT format('%I', current_database())"),
    }

    def filled(text: str) -> str:
        for name, value in names.items():
            text = text.replace(f"{{{name}}}", value)
        return text

    await clean(connection, WORKSHOP, role)
    await connection.execute(filled(broken.sql))
    report = await look(connection, WORKSHOP, role)
    assert [finding.key for finding in report.findings] == [f"{broken.code} {filled(broken.object)}"]
    (finding,) = report.findings
    assert finding.fix
    for statement in finding.fix:
        await connection.execute(statement)
    if broken.replan:
        await adopt(connection, WORKSHOP.tenancy, role=role, foreign_keys=True)
    assert (await look(connection, WORKSHOP, role)).findings == ()


async def test_a_policy_for_another_role_opens_the_table_for_that_role_only(
    connection: Connection, role: str, other_role: str
) -> None:
    await clean(connection, WORKSHOP, role)
    await connection.execute(
        f"CREATE POLICY staff ON orders TO {identifier(other_role)} USING (true);"
        f"GRANT SELECT ON orders TO {identifier(other_role)}"
    )
    assert (await look(connection, WORKSHOP, role)).findings == ()
    for seen_as in (other_role, None):
        found = (await look(connection, WORKSHOP, seen_as)).findings
        assert "TN105 public.orders.staff" in {finding.key for finding in found}


def test_every_rule_is_broken_by_some_test() -> None:
    elsewhere = {"TN208", "TN119"}  # of rows: test_misspelt.py; of Citus: test_citus_form.py
    assert {broken.code for broken in BREAKS} | {"TN502"} | elsewhere == {rule.code for rule, _ in every_rule()}


async def test_an_audit_needs_no_right_but_to_connect(
    connection: Connection, role: str, dsn: Callable[[str], str]
) -> None:
    await clean(connection, WORKSHOP, role)
    plain = await asyncpg.connect(dsn(role))
    try:
        async with plain.transaction(readonly=True):
            catalog = await read(plain)
    finally:
        await plain.close()
    mine = await read(connection)
    assert dataclasses.replace(catalog, user=mine.user) == mine


async def test_a_server_that_lacks_a_fix_is_named_with_its_cves(connection: Connection, role: str) -> None:
    catalog = await read(connection)

    def found(version: int) -> list[str]:
        report = auditing.audit(dataclasses.replace(catalog, version=version), WORKSHOP.tenancy, role=role)
        return [f.message for f in report.findings if f.rule.code == "TN502"]

    assert found(180007) == []
    assert found(190000) == []
    (message,) = found(180004)
    assert message.startswith("PostgreSQL 18.4 has CVE-2026-120154; upgrade to 18.7")
    (message,) = found(160002)
    assert "CVE-2024-4317" in message
    assert "16.16" in message
    (message,) = found(130001)
    assert "a supported major version" in message


async def test_an_audit_of_a_hundred_and_fifty_tables_finds_each_that_has_no_policy(
    connection: Connection, role: str
) -> None:
    await clean(connection, SHOP, role)
    await connection.execute(
        "DO $do$ BEGIN FOR n IN 1..40 LOOP EXECUTE format("
        "'CREATE TABLE more_%s (id bigint PRIMARY KEY, tenant_id uuid)', n); END LOOP; END $do$"
    )
    report = await look(connection, SHOP, role)
    assert report.tables >= 150
    assert len([f for f in report.findings if f.rule.code == "TN101"]) == 40


async def test_an_audit_that_looked_at_nothing_is_not_clean(connection: Connection) -> None:
    report = auditing.audit(await read(connection), Tenancy())
    assert {finding.rule.code for finding in report.findings} <= {"TN502"}
    assert not report.clean
    assert any("any table" in reason for reason in report.unchecked)
