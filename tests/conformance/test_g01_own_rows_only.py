"""G1: a scope sees and writes its own tenant's rows only, whatever the application's SQL forgets.

Nine ways to reach another tenant's row from inside a scope, and what each of them gets.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import asyncpg
import pytest

from tenantry import Router
from tenantry.ids import TenantId
from tests.support.product import Product

VICTIM_ID, OWN_ID = 1, 2


class Pair(NamedTuple):
    router: Router
    mine: TenantId
    other: TenantId


@pytest.fixture
async def pair(product: Product) -> AsyncIterator[Pair]:
    """Two tenants with a row each; the other one's name is a secret."""
    async with product.open(pool={"max": 1}) as router:
        mine, other = await product.signed_up(router, 2)
        insert = "INSERT INTO students (id, name, email) VALUES ($1, $2, 'same@example.org')"
        await router.execute(other, insert, VICTIM_ID, "secret")
        await router.execute(mine, insert, OWN_ID, "mine")
        yield Pair(router, mine, other)
        assert await router.fetchval(other, "SELECT name FROM students") == "secret"
        assert await router.fetchval(other, "SELECT count(*) FROM students") == 1


async def test_a_missing_where_returns_only_the_tenants_rows(pair: Pair) -> None:
    rows = await pair.router.fetch(pair.mine, "SELECT name FROM students")
    assert [row["name"] for row in rows] == ["mine"]


async def test_a_where_that_names_the_other_tenant_finds_nothing(pair: Pair) -> None:
    assert await pair.router.fetch(pair.mine, "SELECT * FROM students WHERE tenant_id = $1", pair.other) == []


async def test_a_join_without_the_tenant_column_stays_inside(pair: Pair) -> None:
    query = "SELECT b.name FROM students AS a CROSS JOIN students AS b"
    assert [row["name"] for row in await pair.router.fetch(pair.mine, query)] == ["mine"]


async def test_a_subquery_stays_inside(pair: Pair) -> None:
    query = "SELECT (SELECT string_agg(name, ',') FROM students), EXISTS (SELECT FROM students WHERE id = $1)"
    row = await pair.router.fetchrow(pair.mine, query, VICTIM_ID)
    assert row is not None
    assert tuple(row) == ("mine", False)


async def test_an_update_and_a_delete_without_where_change_and_return_own_rows_only(pair: Pair) -> None:
    updated = await pair.router.fetch(pair.mine, "UPDATE students SET name = name || '!' RETURNING name")
    assert [row["name"] for row in updated] == ["mine!"]
    deleted = await pair.router.fetch(pair.mine, "DELETE FROM students RETURNING id")
    assert [row["id"] for row in deleted] == [OWN_ID]


async def test_on_conflict_neither_reads_nor_writes_the_other_tenants_row(pair: Pair) -> None:
    upsert = (
        "INSERT INTO students (id, name) VALUES ($1, 'taken') ON CONFLICT (tenant_id, id) "
        "DO UPDATE SET name = students.name || excluded.name RETURNING name"
    )
    assert await pair.router.fetchval(pair.mine, upsert, VICTIM_ID) == "taken"
    forged = upsert.replace("(id, name) VALUES ($1,", "(tenant_id, id, name) VALUES ($2, $1,")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await pair.router.fetchval(pair.mine, forged, VICTIM_ID, pair.other)


async def test_a_row_of_another_tenant_can_not_be_written(pair: Pair) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await pair.router.execute(pair.mine, "INSERT INTO students (tenant_id, name) VALUES ($1, 'x')", pair.other)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await pair.router.execute(pair.mine, "UPDATE students SET tenant_id = $1", pair.other)


async def test_a_foreign_key_with_the_tenant_column_can_not_point_at_another_tenant(pair: Pair) -> None:
    await pair.router.execute(pair.mine, "INSERT INTO courses (id, title) VALUES (1, 'x')")
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await pair.router.execute(pair.mine, "INSERT INTO enrolments (student, course) VALUES ($1, 1)", VICTIM_ID)


async def test_documented_a_foreign_key_without_the_tenant_column_tells_whether_a_row_exists(
    product: Product, pair: Pair
) -> None:
    """Trap 9: foreign-key checks bypass RLS. PostgreSQL's doing, and the audit's to find; the row itself
    stays unseen."""
    badge = product.new_id().__hash__() & 0x7FFFFFFF
    await pair.router.execute(pair.other, "INSERT INTO badges (id) VALUES ($1)", badge)
    await pair.router.execute(pair.mine, "INSERT INTO awards (badge) VALUES ($1)", badge)
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await pair.router.execute(pair.mine, "INSERT INTO awards (badge) VALUES (-1)")
    assert await pair.router.fetch(pair.mine, "SELECT * FROM badges") == []


async def test_a_view_shows_own_rows_only(pair: Pair) -> None:
    assert [row["name"] for row in await pair.router.fetch(pair.mine, "SELECT * FROM names")] == ["mine"]


async def test_a_function_sees_own_rows_only(pair: Pair) -> None:
    assert await pair.router.fetchval(pair.mine, "SELECT head_count()") == 1
    assert [row[0] for row in await pair.router.fetch(pair.mine, "SELECT all_names()")] == ["mine"]


async def test_a_prepared_statement_reused_across_tenants_answers_for_the_bound_one(pair: Pair) -> None:
    """The same cached statement, on the same connection, often enough for a generic plan."""
    query = "SELECT name FROM students WHERE id = ANY($1::bigint[])"
    for _ in range(8):
        for tenant, name in ((pair.mine, "mine"), (pair.other, "secret")):
            rows = await pair.router.fetch(tenant, query, [VICTIM_ID, OWN_ID])
            assert [row["name"] for row in rows] == [name]


async def test_copy_out_and_bulk_load_stay_inside(pair: Pair) -> None:
    out: list[bytes] = []

    async def keep(data: bytes) -> None:
        out.append(data)

    async with pair.router.tenant(pair.mine) as conn:
        await conn.copy_from_query("SELECT name FROM students", output=keep)
        assert b"".join(out) == b"mine\n"
        loaded = await conn.copy_records_to_table("students", records=[(7, "loaded")], columns=["id", "name"])
        assert loaded == "COPY 1"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with conn.transaction():
                await conn.copy_records_to_table(
                    "students", records=[(pair.other, 8)], columns=["tenant_id", "id"]
                )
    assert await pair.router.fetchval(pair.mine, "SELECT name FROM students WHERE id = 7") == "loaded"


async def test_row_security_off_fails_loudly_instead_of_bypassing(pair: Pair) -> None:
    async with pair.router.tenant(pair.mine) as conn:
        await conn.execute("SET LOCAL row_security = off")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with conn.transaction():
                await conn.fetch("SELECT * FROM students")


async def test_truncate_is_not_the_applications(pair: Pair) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await pair.router.execute(pair.mine, "TRUNCATE students CASCADE")


async def test_the_operators_view_proves_that_both_rows_are_there(pair: Pair) -> None:
    """The rows that no scope saw do exist: the tests above do not pass for want of data."""
    async with pair.router.operator(reason="conformance") as conn:
        found = await conn.fetch(
            "SELECT name FROM students WHERE tenant_id = ANY($1) ORDER BY name", [pair.mine, pair.other]
        )
    assert [row["name"] for row in found] == ["mine", "secret"]
