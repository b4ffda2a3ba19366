"""The testing kit finds what is broken, passes what is sound, and never passes for want of anything to look at."""

from __future__ import annotations

import pytest

from tenantry import testing
from tenantry.testing import IsolationBroken, assert_isolated, two_tenants
from tests.integration.testing.conftest import TABLES, Stage, seed


async def test_a_sound_product_passes_and_the_report_says_what_was_tried(stage: Stage) -> None:
    report = await assert_isolated(stage.router, stage.a, stage.b, tables=TABLES)
    tables = {"customers", "orders", "orders_2025", "orders_2026", "tokens", "big_orders", "counts"}
    assert {f"public.{name}" for name in tables} | {"Odd Names.Line Item"} == {a.object for a in report.attempts}
    held = {attempt.attack for attempt in report.held if attempt.object == "public.customers"}
    assert {"sample", "upsert", "left join with itself by its key", "update everything", "merge insert"} <= held
    assert "upsert that takes a row" in {a.attack for a in report.held if a.object == "public.tokens"}
    assert any("join along orders" in attempt.attack for attempt in report.held)
    untried = {attempt.attack.partition(" along ")[0] for attempt in report.untried}
    assert untried <= {"delete everything", "refer"}, report


async def test_nothing_of_a_check_stays(stage: Stage) -> None:
    query = "SELECT string_agg(t::text, ';' ORDER BY t::text) FROM {} AS t"
    names = ("customers", "orders", '"Odd Names"."Line Item"', "tokens")
    before = [await stage.sql(query.format(name)) for name in names]
    await assert_isolated(stage.router, stage.a, stage.b, tables=TABLES)
    assert [await stage.sql(query.format(name)) for name in names] == before


TIED = "tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid"
FAULTS = {
    "rls off": ("ALTER TABLE customers DISABLE ROW LEVEL SECURITY", "reads", "public.customers"),
    "second permissive policy": (
        "CREATE POLICY extra ON tokens USING (true)",
        "reads",
        "public.tokens",
    ),
    "read open": ("CREATE POLICY extra ON customers FOR SELECT USING (true)", "joins", "public.customers"),
    "insert open": ("CREATE POLICY extra ON customers FOR INSERT WITH CHECK (true)", "writes", "public.customers"),
    "insert open, key without tenant": (
        "CREATE POLICY extra ON tokens FOR INSERT WITH CHECK (true)",
        "writes",
        "public.tokens",
    ),
    "update open": (
        "CREATE POLICY extra ON tokens FOR UPDATE USING (true) WITH CHECK (true)",
        "writes",
        "public.tokens",
    ),
    "update check open": (
        f"CREATE POLICY extra ON tokens FOR UPDATE USING ({TIED}) WITH CHECK (true)",
        "writes",
        "public.tokens",
    ),
    "delete open": ("CREATE POLICY extra ON tokens FOR DELETE USING (true)", "writes", "public.tokens"),
    "truncate granted": ("GRANT TRUNCATE ON customers TO {role}", "writes", "public.customers"),
    "partition granted without policy": (
        "ALTER TABLE orders_2025 DISABLE ROW LEVEL SECURITY; GRANT SELECT ON orders_2025 TO {role}",
        "reads",
        "public.orders_2025",
    ),
    "view as its owner": (
        "ALTER VIEW big_orders SET (security_invoker = false)",
        "views",
        "public.big_orders",
    ),
    "view without the column as its owner": (
        "CREATE VIEW names AS SELECT name FROM customers; GRANT SELECT ON names TO {role}",
        "views",
        "public.names",
    ),
    "aggregate as its owner": (
        "ALTER VIEW counts SET (security_invoker = false)",
        "views",
        "public.counts",
    ),
    "materialized view": (
        "CREATE MATERIALIZED VIEW m AS SELECT * FROM customers; GRANT SELECT ON m TO {role}",
        "views",
        "public.m",
    ),
    "definer function": (
        "CREATE FUNCTION everything() RETURNS SETOF customers LANGUAGE sql SECURITY DEFINER "
        "AS 'SELECT * FROM public.customers'",
        "functions",
        "public.everything()",
    ),
    "definer function that counts": (
        "CREATE FUNCTION how_many() RETURNS bigint LANGUAGE sql SECURITY DEFINER "
        "AS 'SELECT count(*) FROM public.customers'",
        "functions",
        "public.how_many()",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_every_fault_is_found_and_named(breakable: Stage, fault: str) -> None:
    break_it, part, where = FAULTS[fault]
    await breakable.script(break_it)
    check = getattr(testing, f"check_{part}")
    with pytest.raises(IsolationBroken, match="not isolated") as found:
        await check(breakable.router, breakable.a, breakable.b, tables=TABLES)
    assert {attempt.object for attempt in found.value.report.broken} == {where} or part == "joins"
    assert where in str(found.value)


VACUOUS = {
    "rows of one tenant only": (
        "DELETE FROM tokens WHERE tenant_id = '{b}'",
        r"public\.tokens has no rows of tenant",
    ),
    "an empty table": ("DELETE FROM tokens", r"public\.tokens has no rows of tenant .+ and "),
    "a table that nobody placed": ("CREATE TABLE notes (body text)", r"public\.notes has no tenant column"),
    "no overlapping keys": (
        'UPDATE "Odd Names"."Line Item" SET "No" = 99 WHERE "tenantId" = \'{b}\'; '
        "DELETE FROM orders WHERE tenant_id = '{b}'; DELETE FROM customers WHERE tenant_id = '{b}'; "
        "INSERT INTO customers (tenant_id, id) VALUES ('{b}', 77); "
        "INSERT INTO orders (tenant_id, customer, placed) VALUES ('{b}', 77, '2026-01-01')",
        "no table has rows of both tenants under the same key",
    ),
}


@pytest.mark.parametrize("why", VACUOUS)
async def test_a_check_that_would_prove_nothing_fails_and_says_why(breakable: Stage, why: str) -> None:
    statements, words = VACUOUS[why]
    await breakable.script(statements.replace("{b}", str(breakable.b)))
    with pytest.raises(IsolationBroken, match=words) as found:
        await assert_isolated(breakable.router, breakable.a, breakable.b, tables=TABLES)
    assert "proves nothing" in str(found.value)
    assert found.value.report.broken == ()


async def test_a_table_may_be_empty_when_it_is_named(breakable: Stage) -> None:
    await breakable.script("DELETE FROM tokens")
    await assert_isolated(breakable.router, breakable.a, breakable.b, tables=TABLES, empty=["public.tokens"])


async def test_a_database_without_tenant_tables_fails(stage: Stage) -> None:
    with pytest.raises(IsolationBroken, match="there are no tenant tables"):
        await assert_isolated(stage.router, stage.a, stage.b, column="nobody_has_this")


async def test_joins_that_give_no_row_prove_nothing(breakable: Stage) -> None:
    await breakable.script("UPDATE orders SET customer = NULL")
    report = await testing.check_joins(breakable.router, breakable.a, breakable.b, tables=TABLES)
    along = {one.outcome for one in report.attempts if " along " in one.attack}
    assert along == {testing.Outcome.UNTRIED}
    await breakable.script(
        'DELETE FROM orders; DELETE FROM customers; DELETE FROM tokens; DELETE FROM "Odd Names"."Line Item"'
    )
    with pytest.raises(IsolationBroken, match="nothing was tried"):
        await testing.check_joins(breakable.router, breakable.a, breakable.b, tables=TABLES)


async def test_a_trigger_that_makes_rows_its_writers_own_is_no_leak(breakable: Stage) -> None:
    await breakable.script(
        "CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN NEW.tenant_id := tenantry.current_tenant(); RETURN NEW; END';"
        "CREATE TRIGGER own BEFORE INSERT OR UPDATE ON tokens FOR EACH ROW EXECUTE FUNCTION own();"
    )
    report = await testing.check_writes(breakable.router, breakable.a, breakable.b, tables=TABLES)
    assert report.broken == ()


async def test_two_tenants_have_the_same_keys(stage: Stage) -> None:
    async with two_tenants(stage.router, seed) as (a, b):
        query = "SELECT array_agg(id ORDER BY id) FROM customers"
        assert await stage.router.fetchval(a, query) == await stage.router.fetchval(b, query) == [1, 2]
