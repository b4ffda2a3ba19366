"""G1 and G3: nothing that one scope does reaches what a later scope means, in either mode, by whatever SQL.

Each attack runs in tenant A's scope as injected SQL would, and tenant B is served by the same server process next.
"""

# ruff: noqa: PT012  (what raises is the end of the scope, so the whole scope stands in the block)

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from tenantry import Router
from tenantry.embedded import EmbeddedServer
from tests.support.pgbouncer import PgBouncer
from tests.support.product import Product, product_on
from tests.support.quiet import nothing_leaked
from tests.support.until import until

#: Replaces each statement that asyncpg keeps on the session by one that copies all rows to a large object.
REPLACE = """
DO $$ DECLARE s record; BEGIN
  FOR s IN SELECT name FROM pg_prepared_statements
           WHERE NOT from_sql AND statement LIKE 'SELECT name FROM students%' LOOP
    EXECUTE 'DEALLOCATE ' || quote_ident(s.name);
    EXECUTE 'pre' || 'pare ' || quote_ident(s.name) || '(bigint) AS SELECT name FROM students WHERE id = $1 AND '
      'lo_from_bytea(0, convert_to((SELECT string_agg(name, '';'') FROM students), ''UTF8'')) > 0';
  END LOOP;
END $$
"""
#: The same, left for COMMIT.
REPLACE_AT_COMMIT = (
    "CREATE FUNCTION pg_temp.replace() RETURNS text LANGUAGE plpgsql AS $f$ BEGIN "
    + REPLACE.strip()
    .removeprefix("DO $$ DECLARE s record; BEGIN")
    .removesuffix("END $$")
    .join(("DECLARE s record; BEGIN ", "RETURN 'x'; END; "))
    + "RETURN 'x'; END $f$; DECLARE c CURSOR WITH HOLD FOR SELECT pg_temp.replace()"
)
#: Takes the names that asyncpg would use next.
SQUAT = (
    "DO $$ BEGIN FOR i IN 1..400 LOOP BEGIN "
    "EXECUTE 'pre' || 'pare __asyncpg_stmt_' || to_hex(i) || '__ AS SELECT 1'; "
    "EXCEPTION WHEN OTHERS THEN END; END LOOP; END $$"
)
LEFTOVERS = {
    "replaced statements": REPLACE,
    "statements replaced at COMMIT": REPLACE_AT_COMMIT,
    "all statements deallocated": "DEALLOCATE ALL",
    "all statements discarded by a function": "DO $$ BEGIN EXECUTE 'DEALLOCATE ' || 'ALL'; END $$",
    "names taken": SQUAT,
    "a statement of its own": "DO $$ BEGIN EXECUTE 'PRE' || 'PARE loot AS SELECT 1'; END $$",
    "a table of the same name": "CREATE TEMP TABLE students (id text, name text, extra int)",
    "another search_path": "SET search_path = pg_catalog",
}


@pytest.fixture(params=["plain", "hardened"])
def served(request: pytest.FixtureRequest, pg18: EmbeddedServer) -> Iterator[Product]:
    """A product in either mode."""
    with product_on(pg18, hardened=request.param == "hardened") as product:
        yield product


async def two_tenants(product: Product, router: Router) -> tuple[Any, Any]:
    a, b = await product.signed_up(router, 2)
    for tenant, name in ((a, "of A"), (b, "of B")):
        await router.execute(tenant, "INSERT INTO students (id, name) VALUES (1, $1)", name)
    return a, b


@pytest.mark.parametrize("name", sorted(LEFTOVERS))
async def test_what_a_scope_does_to_the_session_changes_and_fails_nothing_of_the_next_one(
    served: Product, name: str
) -> None:
    async with served.open(pool={"max": 1}) as router, served.admin() as admin:
        a, b = await two_tenants(served, router)
        one, several = "SELECT name FROM students WHERE id = $1", "SELECT * FROM students ORDER BY id"

        async def use(tenant: Any, expected: str) -> None:
            assert await router.fetchval(tenant, one, 1) == expected
            async with router.tenant(tenant) as conn:  # statements after the first are no less safe
                assert await conn.fetchval("SELECT 1") == 1
                assert await conn.fetchval(one, 1) == expected
                assert [row["name"] for row in await conn.fetch(several)] == [expected]
                await conn.execute("PREPARE loot AS SELECT 2")
                assert await conn.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE from_sql") == 1

        await use(b, "of B")
        async with router.tenant(a) as conn:
            await conn.execute(LEFTOVERS[name])
        await use(b, "of B")
        await use(a, "of A")
        assert await admin.fetchval("SELECT count(*) FROM pg_largeobject_metadata") == 0
        await nothing_leaked(router)


async def test_statements_prepared_on_a_scopes_own_table_do_not_fail_the_next_tenants(direct: Product) -> None:
    queries: list[tuple[str, tuple[Any, ...]]] = [
        ("SELECT * FROM students", ()),
        ("SELECT name FROM students WHERE id = $1", (1,)),
    ]
    async with direct.open(pool={"max": 1}) as router:
        a, b = await two_tenants(direct, router)
        for query, args in queries:
            async with router.tenant(a) as conn:
                await conn.execute("CREATE TEMP TABLE students (id text, name text, extra int)")
                await conn.fetch(query, *(str(arg) for arg in args))
            for _ in range(3):
                assert [row["name"] for row in await router.fetch(b, query, *args)] == ["of B"]
        await nothing_leaked(router)


async def test_random_numbers_do_not_go_on_from_where_another_tenant_has_set_them(product: Product) -> None:
    async with product.open(pool={"max": 1}) as router:
        a, b = await product.signed_up(router, 2)
        drawn = set()
        for _ in range(3):
            await router.execute(a, "SELECT setseed(0.5)")
            drawn.add(await router.fetchval(b, "SELECT random()"))
        assert len(drawn) == 3


@pytest.mark.parametrize("server", ["pg15", "pg16", "pg18"])
async def test_no_proof_stands_in_any_text_that_other_code_can_see(
    request: pytest.FixtureRequest, server: str
) -> None:
    pg = request.getfixturevalue(server)
    with product_on(pg, hardened=True) as product:
        async with product.open(pool={"max": 1}) as router, product.admin() as admin:
            a, b = await two_tenants(product, router)
            await admin.execute("CREATE TABLE seen (what text)")
            await admin.execute("GRANT INSERT ON seen TO PUBLIC")
            pool = router.pools.open_pools()["shared"]

            async def wait_in_line() -> None:
                async with router.tenant(b) as conn:
                    await conn.execute("SELECT 1")

            async with router.tenant(a) as conn:
                waiting = asyncio.create_task(wait_in_line())
                await until(lambda: pool.admission.waiting == 1)
                # Left for the COMMIT, which the next scope's opening follows.
                await conn.execute(
                    "CREATE FUNCTION pg_temp.look() RETURNS text LANGUAGE plpgsql AS $f$ BEGIN INSERT INTO seen "
                    "SELECT current_query() UNION ALL SELECT query FROM pg_stat_activity "
                    "UNION ALL SELECT statement FROM pg_prepared_statements "
                    "UNION ALL SELECT statement FROM pg_cursors; RETURN 'x'; END $f$;"
                    "DECLARE c CURSOR WITH HOLD FOR SELECT pg_temp.look()"
                )
            await waiting
            async with router.tenant(b) as conn:
                await conn.opened()  # and nothing sent since
                activity = await admin.fetch("SELECT query FROM pg_stat_activity WHERE usename = 'product_app'")
            texts = [row["what"] for row in await admin.fetch("SELECT what FROM seen")]
            assert "COMMIT" in texts
            texts += [row["query"] for row in activity]
            assert "CALL tenantry.enter($1, $2, $3)" in texts
            assert not [text for text in texts if re.search("[0-9a-f]{64}", text)]
            assert await router.fetchval(b, "SELECT string_agg(name, ',') FROM students") == "of B"


@pytest.mark.parametrize("hardened", [False, True])
async def test_behind_a_pooler_a_scope_that_ended_its_transaction_reaches_no_other_tenant(
    pg18: EmbeddedServer, hardened: bool
) -> None:
    with (
        PgBouncer.start(pg18, "transaction", pool_size=1) as bouncer,
        product_on(pg18, via=bouncer.instead, hardened=hardened) as product,
    ):
        async with product.open(pool={"max": 2}) as router, product.admin() as admin:
            a, b = await two_tenants(product, router)
            with pytest.raises(Exception, match="ended its transaction"):
                async with router.tenant(a) as conn:
                    await conn.execute(
                        "COMMIT; CREATE TEMP TABLE students (tenant_id uuid, id bigint, name text, email text);"
                        "SELECT pg_advisory_lock(4711); SET work_mem = '77MB'"
                    )
                    # A's scope is still open, and B works on the server process that A has left.
                    await router.execute(b, "INSERT INTO students (id, name) VALUES (2, 'of B too')")
                    assert await router.fetchval(b, "SHOW work_mem") != "77MB"
                    assert await admin.fetchval("SELECT pg_try_advisory_lock(4711)")
            rows = await admin.fetch("SELECT name FROM students WHERE tenant_id = $1 ORDER BY id", b)
            assert [row["name"] for row in rows] == ["of B", "of B too"]


async def test_behind_a_pooler_a_statement_left_prepared_ends_the_servers_process(pg18: EmbeddedServer) -> None:
    with (
        PgBouncer.start(pg18, "transaction", pool_size=1) as bouncer,
        product_on(pg18, via=bouncer.instead) as product,
    ):
        async with product.open(pool={"max": 1}) as router:
            a, b = await two_tenants(product, router)
            await router.execute(a, "DO $$ BEGIN EXECUTE 'PRE' || 'PARE loot AS SELECT 1'; END $$")
            async with router.tenant(b) as conn:
                assert await conn.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE from_sql") == 0
                await conn.execute("PREPARE loot AS SELECT 2")
            assert await router.fetchval(a, "SELECT name FROM students") == "of A"
            await nothing_leaked(router)


async def test_the_word_prepare_in_a_statement_costs_nothing(direct: Product) -> None:
    async with direct.open(pool={"max": 1}) as router:
        (a,) = await direct.signed_up(router, 1)
        pids = {await router.fetchval(a, "SELECT pg_backend_pid() /* prepare the page */") for _ in range(5)}
        assert len(pids) == 1


#: What a scope does to the session, and statements of the product whose parameters and literals it makes mean
#: something else: their texts are read while it lasts.
MISREAD = {
    "a temporary table of the same name": "CREATE TEMP TABLE students (id real, name text)",
    "a temporary view of the same name": "CREATE TEMP VIEW students AS SELECT 1.5::real AS id, 'x'::text AS name",
    "a search_path": "CREATE TABLE IF NOT EXISTS misread.students (id real, name text); SET search_path = misread",
    "a time zone": "SET LOCAL TimeZone = 'Asia/Tokyo'",
    "an order of dates": "DO $$ BEGIN PERFORM set_config('DateStyle', 'ISO, DMY', false); END $$",
    "how quotes are read": "SET standard_conforming_strings = off",
}
BIG = 16777217  # the next number of `real` is 16777216


@pytest.mark.parametrize("name", MISREAD)
async def test_a_statement_first_read_in_a_scopes_own_surroundings_means_nothing_else_to_the_next_one(
    served: Product, name: str
) -> None:
    product = served
    find = "SELECT name FROM students WHERE id = $1"
    insert = "INSERT INTO students (id, name) VALUES ($1, $2)"
    when = "SELECT timestamptz '2024-01-02 03:04', date '01/02/2024', 'a\\tb', name FROM students WHERE id < $1"
    async with product.admin() as admin:
        await admin.execute("CREATE SCHEMA IF NOT EXISTS misread; GRANT ALL ON SCHEMA misread TO PUBLIC")
    async with product.open(pool={"max": 1}) as router:
        a, b = await two_tenants(product, router)
        for number in (BIG - 1, BIG):
            await router.execute(b, "INSERT INTO students (name, id) VALUES ('B', $1)", number)
        await router.execute(b, "UPDATE students SET name = id::text")
        expected = await router.fetch(b, when.replace("$1", "2"))
        async with router.tenant(a) as conn:
            await conn.execute(MISREAD[name])
            for query, args in ((find, (1,)), (insert, (7, "x")), (when, (2,))):
                with contextlib.suppress(asyncpg.ObjectNotInPrerequisiteStateError):  # such a view takes no rows
                    async with conn.transaction():
                        await conn.fetch(query, *args)
        assert await router.fetchval(b, find, BIG) == str(BIG)
        assert await router.fetch(b, when, 2) == expected
        assert await router.execute(b, insert, BIG + 2, "of B") == "INSERT 0 1"
        ids = await router.fetch(b, "SELECT id FROM students ORDER BY id")
        assert [row["id"] for row in ids] == [1, BIG - 1, BIG, BIG + 2]
        await nothing_leaked(router)


async def test_statements_read_in_usual_surroundings_are_kept_from_scope_to_scope(direct: Product) -> None:
    names = "SELECT string_agg(statement, ' ') FROM pg_prepared_statements"
    async with direct.open(pool={"max": 1}) as router:
        a, b = await two_tenants(direct, router)
        async with router.tenant(a) as conn:
            for number in range(3):
                await conn.fetch(f"SELECT {number} AS kept FROM students")
        kept = str(await router.fetchval(b, names))
        assert [number for number in range(3) if f"SELECT {number} AS kept" in kept] == [0, 1, 2]
        await nothing_leaked(router)


async def test_functions_compiled_beside_a_scopes_temporary_table_do_not_reach_the_next_one(
    pg: EmbeddedServer,
) -> None:
    """PL/pgSQL keeps the types that it found for as long as the session lives; no reset takes them back."""
    with product_on(pg, hardened=True) as product:
        async with product.admin() as admin:
            await admin.execute(
                "CREATE FUNCTION nearest(wanted bigint) RETURNS text LANGUAGE plpgsql AS $f$ "
                "DECLARE exact students.id%TYPE := wanted; found text; "
                "BEGIN SELECT name INTO found FROM students WHERE id = exact; RETURN found; END $f$"
            )
        async with product.open(pool={"max": 1}) as router:
            a, b = await two_tenants(product, router)
            await router.execute(
                b, "INSERT INTO students (id, name) VALUES ($1, 'near'), ($2, 'right')", BIG - 1, BIG
            )
            async with router.tenant(a) as conn:
                await conn.execute("CREATE TEMP TABLE students (id real, name text)")
                await conn.fetchval("SELECT nearest(1)")
                await conn.execute("DROP TABLE pg_temp.students")
            assert await router.fetchval(b, "SELECT nearest($1)", BIG) == "right"
            await nothing_leaked(router)
