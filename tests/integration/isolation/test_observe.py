"""Observe mode: nothing is refused, and what would have been is written down."""

from __future__ import annotations

from collections.abc import Callable

import asyncpg

from tenantry.catalog.read import read
from tenantry.catalog.tenancy import Tenancy
from tenantry.embedded import EmbeddedServer
from tenantry.ids import IdType
from tenantry.isolation.apply import adopt, observations
from tenantry.isolation.plan import PolicyMode, plan
from tenantry.runtime.sqltext import identifier
from tests.integration.isolation.conftest import Connection, enroll, install

TENANCY = Tenancy(id_type=IdType.BIGINT)


async def _observed(connection: Connection, role: str) -> None:
    await install(connection, IdType.BIGINT)
    await connection.execute("SELECT tenantry.grant_application($1)", role)
    await enroll(connection, 1, 2)
    await connection.execute(
        "CREATE TABLE orders (id bigint PRIMARY KEY, tenant_id bigint NOT NULL, name text);"
        "CREATE TABLE strict (id bigint PRIMARY KEY, tenant_id bigint NOT NULL);"
        "CREATE POLICY closed ON strict USING (false); ALTER TABLE strict ENABLE ROW LEVEL SECURITY;"
        f"GRANT ALL ON orders TO {identifier(role)};"
        "INSERT INTO orders VALUES (1, 1, 'a'), (2, 2, 'b')"
    )
    applied = await adopt(connection, TENANCY, role=role, mode=PolicyMode.OBSERVE)
    assert [item.object for item in applied.undecided] == ["public.strict"]
    await connection.execute(f"SET ROLE {identifier(role)}")


async def _seen(connection: Connection) -> set[tuple[str, str, str, str]]:
    await connection.execute("RESET ROLE")
    return {(o.relation, o.kind, o.problem, o.statement) for o in await observations(connection)}


async def test_a_query_without_a_tenant_is_allowed_and_recorded_with_its_statement(
    connection: Connection, role: str
) -> None:
    await _observed(connection, role)
    for _ in range(3):
        assert len(await connection.fetch("SELECT name FROM orders WHERE name <> 'zz 17'")) == 2
    assert await _seen(connection) == {
        ("public.orders", "read", "no tenant bound", "SELECT name FROM orders WHERE name <> ?")
    }


async def test_reading_and_writing_another_tenants_row_is_allowed_and_recorded(
    connection: Connection, role: str
) -> None:
    await _observed(connection, role)
    async with connection.transaction():
        await connection.execute("SELECT tenantry.bind('1')")
        assert await connection.fetchval("SELECT count(*) FROM orders") == 2
        await connection.execute("INSERT INTO orders VALUES (3, 2, 'c')")
    assert await _seen(connection) == {
        ("public.orders", "read", "a row of another tenant", "SELECT count(*) FROM orders"),
        ("public.orders", "write", "a row of another tenant", "INSERT INTO orders VALUES (?, ?, ?)"),
    }


async def test_what_the_policy_would_allow_is_not_recorded(connection: Connection, role: str) -> None:
    await _observed(connection, role)
    async with connection.transaction():
        await connection.execute("SELECT tenantry.bind('1')")
        assert await connection.fetchval("SELECT name FROM orders WHERE tenant_id = 1") == "a"
        await connection.execute("INSERT INTO orders VALUES (4, 1, 'd')")
        await connection.execute("UPDATE orders SET name = 'e' WHERE tenant_id = 1")
    assert await _seen(connection) == set()


async def test_a_read_only_transaction_is_served_and_recorded_in_the_log(
    connection: Connection, role: str, pg: EmbeddedServer
) -> None:
    await _observed(connection, role)
    async with connection.transaction(readonly=True):
        assert await connection.fetchval("SELECT count(*) FROM orders") == 2
    assert await _seen(connection) == set()
    assert "tenantry would refuse: no tenant bound, read of public.orders" in pg.log_text()


async def test_two_transactions_that_are_observed_do_not_wait_for_each_other(
    connection: Connection, role: str, dsn: Callable[[str], str]
) -> None:
    await _observed(connection, role)
    other = await asyncpg.connect(dsn(role))
    try:
        async with connection.transaction():
            await connection.fetch("SELECT name FROM orders")
            async with other.transaction():
                await other.execute("SET LOCAL lock_timeout = 100")
                await other.fetch("SELECT name FROM orders")
    finally:
        await other.close()
    assert len(await _seen(connection)) == 1


async def test_enforcing_takes_the_observation_away_and_closes_the_table(
    connection: Connection, role: str
) -> None:
    await _observed(connection, role)
    await connection.execute("RESET ROLE")
    await adopt(connection, TENANCY, role=role)
    catalog = await read(connection)
    names = {policy.name for found in catalog.policies.values() for policy in found}
    assert names == {"tenantry_tenant", "tenantry_guard", "closed"}
    assert plan(catalog, TENANCY, role=role).steps == ()
    await connection.execute(f"SET ROLE {identifier(role)}")
    assert await connection.fetchval("SELECT count(*) FROM orders") == 0
