"""The audit kit: who changed what, for its tenant's eyes, and not to be touched."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import asyncpg
import pytest

from tenantry import kits
from tests.integration.kits.conftest import Shop
from tests.support.product import APP, OPERATOR


async def entries(shop: Shop, tenant: Any) -> list[Any]:
    return await shop.router.fetch(tenant, "SELECT * FROM tenantry.audit_log ORDER BY id")


async def recorded(shop: Shop, hidden: str = "{}") -> None:
    await shop.sql("SELECT tenantry.audit_on('students', hidden => $1::text::text[])", hidden)


async def test_every_change_is_kept_with_who_what_and_from_what_to_what(shop: Shop) -> None:
    await recorded(shop)
    async with shop.router.tenant(shop.a) as conn:
        await kits.act_as(conn, "ada@example.com")
        await conn.execute("INSERT INTO students (id, name) VALUES (1, 'Ann')")
        await conn.execute("UPDATE students SET name = 'Anna'")
        await conn.execute("UPDATE students SET name = name")
        await conn.execute("DELETE FROM students")
    made, changed, gone = await entries(shop, shop.a)
    assert [row["operation"] for row in (made, changed, gone)] == ["INSERT", "UPDATE", "DELETE"]
    for row in (made, changed, gone):
        assert (row["actor"], row["session_role"]) == ("ada@example.com", APP)
        assert (row["relation"], row["tenant"], row["database"]) == ("public.students", str(shop.a), "shared")
        assert json.loads(row["key"]) == {"tenant_id": str(shop.a), "id": 1}
    assert made["transaction"] == gone["transaction"]
    assert (made["old"], json.loads(made["new"])["name"]) == (None, "Ann")
    assert (json.loads(changed["old"]), json.loads(changed["new"])) == ({"name": "Ann"}, {"name": "Anna"})
    assert (json.loads(gone["old"])["name"], gone["new"]) == ("Anna", None)


async def test_the_actor_ends_with_the_scope(shop: Shop) -> None:
    await recorded(shop)
    async with shop.router.tenant(shop.a) as conn:
        await kits.act_as(conn, "ada@example.com")
    await shop.router.execute(shop.b, "INSERT INTO students (id) VALUES (1)")
    assert [row["actor"] for row in await entries(shop, shop.b)] == [None]


async def test_what_was_rolled_back_was_not_done(shop: Shop) -> None:
    await recorded(shop)
    with contextlib.suppress(ZeroDivisionError):
        async with shop.router.tenant(shop.a) as conn:
            await conn.execute("INSERT INTO students (id) VALUES (1)")
            raise ZeroDivisionError
    assert await entries(shop, shop.a) == []


async def test_a_tenant_reads_its_own_entries_only_and_nobody_reads_without_one(shop: Shop) -> None:
    await recorded(shop)
    for tenant in (shop.a, shop.b):
        await shop.router.execute(tenant, "INSERT INTO students (id, name) VALUES (1, 'same key')")
    for tenant in (shop.a, shop.b):
        assert {row["tenant"] for row in await entries(shop, tenant)} == {str(tenant)}
    connection = await asyncpg.connect(shop.product.dsn())
    try:
        assert await connection.fetch("SELECT * FROM tenantry.audit_log") == []
    finally:
        await connection.close()


async def test_hidden_columns_are_kept_as_changed_without_their_values(shop: Shop) -> None:
    await recorded(shop, "{email}")
    await shop.router.execute(shop.a, "INSERT INTO students (id, name, email) VALUES (1, 'Ann', 's3cret')")
    await shop.router.execute(shop.a, "UPDATE students SET email = 's3cret too'")
    rows = await entries(shop, shop.a)
    assert "s3cret" not in str(rows)
    assert json.loads(rows[1]["new"]) == {"email": "***"}


async def test_a_row_given_to_another_tenant_tells_neither_of_the_other(shop: Shop) -> None:
    await recorded(shop)
    await shop.router.execute(shop.a, "INSERT INTO students (id) VALUES (1)")
    await shop.sql("UPDATE students SET tenant_id = $1", shop.b)
    of_a, of_b = await entries(shop, shop.a), await entries(shop, shop.b)
    assert [row["operation"] for row in of_a] == ["INSERT", "DELETE"]
    assert [row["operation"] for row in of_b] == ["INSERT"]
    assert str(shop.b) not in str(of_a)
    assert str(shop.a) not in str(of_b)


async def test_partitions_cascades_and_truncate_are_kept_too(shop: Shop) -> None:
    await shop.sql("CREATE TABLE logs (tenant_id uuid, n int) PARTITION BY HASH (n)")
    await shop.sql("CREATE TABLE logs_0 PARTITION OF logs FOR VALUES WITH (MODULUS 1, REMAINDER 0)")
    await shop.sql("CREATE TABLE parents (tenant_id uuid, id int, PRIMARY KEY (tenant_id, id))")
    await shop.sql(
        "CREATE TABLE children (tenant_id uuid, id int, "
        "FOREIGN KEY (tenant_id, id) REFERENCES parents ON DELETE CASCADE)"
    )
    for table in ("logs", "children"):
        await shop.sql(f"SELECT tenantry.audit_on('{table}')")
    await shop.sql("INSERT INTO logs_0 VALUES ($1, 1)", shop.a)
    await shop.sql("INSERT INTO parents VALUES ($1, 1)", shop.a)
    await shop.sql("INSERT INTO children VALUES ($1, 1)", shop.a)
    await shop.sql("DELETE FROM parents")
    seen = [(row["relation"], row["operation"]) for row in await entries(shop, shop.a)]
    assert seen == [
        ("public.logs_0", "INSERT"),
        ("public.children", "INSERT"),
        ("public.children", "DELETE"),
    ]
    await shop.sql("TRUNCATE logs")
    assert [
        tuple(row)
        for row in await shop.sql("SELECT tenant, operation FROM tenantry.audit_log ORDER BY id DESC LIMIT 1")
    ] == [("", "TRUNCATE")]


ATTACKS = (
    "DELETE FROM tenantry.audit_log",
    "UPDATE tenantry.audit_log SET actor = 'somebody else'",
    "TRUNCATE tenantry.audit_log",
    "INSERT INTO tenantry.audit_log (database, tenant, session_role, relation, operation) "
    "VALUES ('shared', '{b}', 'x', 'x', 'INSERT')",
    "DROP TABLE tenantry.audit_log",
    "ALTER TABLE tenantry.audit_log DISABLE ROW LEVEL SECURITY",
    "DROP TRIGGER tenantry_audit ON students",
    "ALTER TABLE students DISABLE TRIGGER tenantry_audit",
    "ALTER TABLE students DISABLE TRIGGER ALL",
    "SET LOCAL session_replication_role = replica",
    "SELECT tenantry.audit_off('students')",
    "SELECT tenantry.audit_write('students'::regclass, ARRAY['tenant_id','[]','[]'], 'INSERT', NULL, "
    '\'{{"tenant_id": "{b}"}}\')',
    "CREATE TEMP TABLE forged (tenant_id uuid); CREATE TRIGGER t AFTER INSERT ON forged FOR EACH ROW "
    "EXECUTE FUNCTION tenantry.audit_row('tenant_id', '[]', '[]'); INSERT INTO forged VALUES ('{b}')",
    "CREATE TABLE public.forged (tenant_id uuid); CREATE TRIGGER t AFTER INSERT ON forged FOR EACH ROW "
    "EXECUTE FUNCTION tenantry.audit_row('tenant_id', '[]', '[]'); INSERT INTO forged VALUES ('{b}')",
    "CREATE TEMP TABLE audit_log (LIKE tenantry.audit_log); SET LOCAL search_path = pg_temp, public",
    "CREATE FUNCTION public.to_jsonb(students) RETURNS jsonb LANGUAGE sql AS $$SELECT '{{}}'::jsonb$$; "
    "SET LOCAL search_path = public, pg_catalog",
    "CREATE OR REPLACE FUNCTION tenantry.audit_row() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "SELECT setval('tenantry.audit_log_id_seq', 1)",
    "LOCK TABLE tenantry.audit_log",
    "SET LOCAL ROLE product_operator; DELETE FROM tenantry.audit_log",
)


@pytest.mark.parametrize("careless", [False, True], ids=["granted as installed", "after GRANT ALL"])
async def test_the_application_role_can_neither_change_nor_forge_nor_stop_the_log(
    shop: Shop, careless: bool
) -> None:
    await recorded(shop)
    await shop.router.execute(shop.b, "INSERT INTO students (id, name) VALUES (1, 'of B')")
    if careless:
        # Not on all tables: the router refuses a role that may write placements, at each new connection.
        await shop.sql("GRANT ALL ON tenantry.audit_log TO product_app")
    before = await shop.sql("SELECT * FROM tenantry.audit_log WHERE tenant = $1", str(shop.b))
    for number, attack in enumerate(ATTACKS):
        async with shop.router.tenant(shop.a) as conn:
            with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError):
                async with conn.transaction():
                    await conn.execute(attack.format(b=shop.b))
            await conn.execute("INSERT INTO students (id, name) VALUES ($1, 'after it')", number)
        mine = await shop.sql("SELECT * FROM tenantry.audit_log WHERE tenant = $1", str(shop.a))
        assert len(mine) == number + 1, attack
        assert {row["actor"] for row in mine} == {None}, attack
        everything = await shop.sql("SELECT * FROM tenantry.audit_log WHERE tenant <> $1", str(shop.a))
        assert everything == before, attack


async def test_an_operator_who_is_not_the_owner_reads_and_changes_nothing(shop: Shop) -> None:
    await recorded(shop)
    await shop.router.execute(shop.a, "INSERT INTO students (id) VALUES (1)")
    await shop.sql("GRANT USAGE ON SCHEMA tenantry TO product_operator")
    await shop.sql("GRANT ALL ON tenantry.audit_log TO product_operator")
    operator = await asyncpg.connect(shop.product.server.dsn(shop.product.database, user=OPERATOR))
    try:
        assert await operator.fetchval("SELECT count(*) FROM tenantry.audit_log") == 1
        for statement in ("DELETE FROM", "TRUNCATE"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="not changed"):
                await operator.execute(f"{statement} tenantry.audit_log")
    finally:
        await operator.close()
    await shop.sql("DELETE FROM tenantry.audit_log WHERE at < now() + interval '1 hour'")
    assert await entries(shop, shop.a) == []


async def test_a_missing_column_is_named(shop: Shop) -> None:
    with pytest.raises(asyncpg.RaiseError, match="no column nothing"):
        await recorded(shop, "{nothing}")
