"""One battery of attacks for `tenantry rls probe` and for the testing kit; none of the attacks is vacuous."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tenantry.catalog.read import read
from tenantry.catalog.tenancy import Tenancy
from tenantry.embedded import EmbeddedServer
from tenantry.isolation.attacks import Outcome, Report, probe
from tenantry.testing import IsolationBroken, Product, Server, assert_isolated, two_tenants

SCHEMA = """
CREATE TABLE customers (tenant_id uuid, id int, email text UNIQUE, name text, PRIMARY KEY (tenant_id, id));
CREATE TABLE orders (tenant_id uuid, id int, customer int, number uuid UNIQUE DEFAULT gen_random_uuid(),
    PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, customer) REFERENCES customers (tenant_id, id));
CREATE VIEW order_view AS SELECT * FROM orders;
CREATE FUNCTION all_orders() RETURNS SETOF orders LANGUAGE sql STABLE AS 'SELECT * FROM public.orders';
GRANT SELECT ON order_view TO {role};
"""

#: Every promise broken at once. The second key of customers lets an order refer to another tenant's.
BREAK = """
ALTER TABLE customers DISABLE ROW LEVEL SECURITY;
ALTER TABLE orders DISABLE ROW LEVEL SECURITY;
GRANT TRUNCATE ON orders TO {role};
ALTER TABLE orders DROP CONSTRAINT orders_tenant_id_customer_fkey;
ALTER TABLE customers ADD COLUMN number int UNIQUE GENERATED ALWAYS AS IDENTITY;
UPDATE orders AS o SET customer = c.number FROM customers AS c
    WHERE (c.tenant_id, c.id) = (o.tenant_id, o.customer);
ALTER TABLE orders ADD CONSTRAINT orders_tenant_id_customer_fkey
    FOREIGN KEY (customer) REFERENCES customers (number);
ALTER VIEW order_view SET (security_invoker = false);
ALTER FUNCTION all_orders() SECURITY DEFINER;
"""


async def seed(connection: Any) -> None:
    """Rows under the same keys, and one customer more under a key of the tenant's own."""
    tenant = await connection.fetchval("SELECT tenantry.current_tenant()::text")
    own = int(tenant[:4], 16) + 10
    await connection.execute(
        f"INSERT INTO customers VALUES (tenantry.current_tenant(), 1, '{tenant}', 'Ann');"
        f"INSERT INTO customers (id, email, name) VALUES ({own}, '{own}', 'Ben');"
        f"INSERT INTO orders (id, customer) VALUES (1, 1), (2, {own})"
    )


class Both:
    """A product that both entry points attack."""

    def __init__(self, product: Product, router: Any, a: Any, b: Any) -> None:
        self.product, self.router, self.a, self.b = product, router, a, b

    async def script(self, statements: str) -> None:
        async with self.product.server.connect(self.product.database) as owner:
            await owner.execute(statements.replace("{role}", self.product.role))

    async def probed(self) -> Report:
        async with self.product.server.connect(self.product.database) as owner:
            return await probe(owner, await read(owner), Tenancy(), self.product.role)

    async def asserted(self) -> Report:
        try:
            return await assert_isolated(self.router, self.a, self.b)
        except IsolationBroken as broken:
            return broken.report


@pytest.fixture
async def both(pg: EmbeddedServer) -> AsyncIterator[Both]:
    async with (
        Product.installed(Server(pg.dsn()), SCHEMA) as product,
        product.router() as router,
        two_tenants(router, seed) as (a, b),
    ):
        yield Both(product, router, a, b)


def attacks(report: Report, outcome: Outcome | None = None) -> set[tuple[str, str]]:
    return {(one.object, one.attack) for one in report.attempts if outcome in (None, one.outcome)}


async def test_the_probe_and_the_testing_kit_run_the_same_attacks(both: Both) -> None:
    probed, asserted = await both.probed(), await both.asserted()
    assert probed.passed, str(probed)
    assert asserted.passed, str(asserted)
    assert attacks(probed) == attacks(asserted)
    assert {name for _, name in attacks(probed)} >= {
        "read everything", "read by id", "exists", "aggregate", "cursor", "copy", "sample", "lock",
        "read without a tenant", "read with an empty tenant", "truncate", "update", "update returning",
        "merge update", "update everything", "give away", "give everything away", "delete", "delete returning",
        "merge delete", "delete everything", "insert", "merge insert", "upsert", "upsert that takes a row",
        "refer along orders_tenant_id_customer_fkey", "join along orders_tenant_id_customer_fkey",
        "left join with itself by its key", "semi-join with itself by its key", "read view",
        "read view without a tenant",
    }  # fmt: skip


async def test_every_attack_breaks_through_where_there_is_a_hole_for_it(both: Both) -> None:
    whole = {name for _, name in attacks(await both.probed())}
    await both.script(BREAK)
    for report in (await both.probed(), await both.asserted()):
        assert not report.passed
        broken = {name for _, name in attacks(report, Outcome.BROKEN)}
        assert whole | {"call", "call without a tenant"} == broken, str(report)


async def test_both_leave_every_row_as_it_was(both: Both) -> None:
    async def contents() -> Any:
        async with both.product.server.connect(both.product.database) as owner:
            return await owner.fetch(
                "SELECT c::text FROM customers AS c UNION ALL SELECT o::text FROM orders AS o"
            )

    before = sorted(await contents())
    await both.probed()
    await both.asserted()
    await both.script(BREAK)
    changed = sorted(await contents())
    await both.probed()
    await both.asserted()
    assert sorted(await contents()) == changed != before


ORDINARY = """
CREATE TABLE customers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid, name text);
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid,
    customer bigint REFERENCES customers (id), total numeric);
"""


async def test_ordinary_primary_keys_are_proven_and_what_they_forbid_is_said(pg18: EmbeddedServer) -> None:
    async def rows(connection: Any) -> None:
        customer = await connection.fetchval("INSERT INTO customers (name) VALUES ('Ann') RETURNING id")
        await connection.execute("INSERT INTO orders (customer, total) VALUES ($1, 9)", customer)

    async with (
        Product.installed(Server(pg18.dsn()), ORDINARY) as product,
        product.router() as router,
        two_tenants(router, rows) as (a, b),
    ):
        report = await assert_isolated(router, a, b)
    said = {one.object: one.detail for one in report.untried if one.attack == "rows under the same key"}
    assert set(said) == {"public.customers", "public.orders"}
    assert "its unique key customers_pkey has no tenant in it" in said["public.customers"]
    assert ("public.orders", "upsert that takes a row") in attacks(report, Outcome.HELD)
    assert any(name.startswith("refer along") for _, name in attacks(report, Outcome.HELD))


NULLS = """
CREATE TABLE shelves (tenant_id uuid, id int, code text, spot text, PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, code, spot));
CREATE TABLE books (tenant_id uuid, id int, code text, spot text, PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, code, spot) REFERENCES shelves (tenant_id, code, spot));
"""


@pytest.mark.parametrize("whole", [False, True])
async def test_a_key_with_a_null_in_it_refers_to_nobody(pg18: EmbeddedServer, whole: bool) -> None:
    async def rows(connection: Any) -> None:
        tenant = await connection.fetchval("SELECT tenantry.current_tenant()::text")
        last = f"('{tenant}', 'B')" if whole else "('only', NULL)"
        code, spot = last[1:-1].split(", ")
        await connection.execute(
            f"INSERT INTO shelves (id, code, spot) VALUES (1, 'a', 'A'), (2, {code}, {spot}), (3, NULL, NULL);"
            "INSERT INTO books (id, code, spot) VALUES (1, 'a', 'A')"
        )

    async with (
        Product.installed(Server(pg18.dsn()), NULLS) as product,
        product.router() as router,
        two_tenants(router, rows) as (a, b),
    ):
        report = await assert_isolated(router, a, b)
        async with product.server.connect(product.database) as owner:
            probed = await probe(owner, await read(owner), Tenancy(), product.role)
    for found in (report, probed):
        (outcome,) = {one.outcome for one in found.attempts if one.attack.startswith("refer along")}
        assert outcome is (Outcome.HELD if whole else Outcome.UNTRIED)
