"""E10: what the routers' role can do by `tenantry.enroll`, which it needs at sign-up: as little as that."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import asyncpg
import pytest

from tenantry import ScopeLost
from tenantry.directory import placements
from tenantry.ids import IdType
from tests.support.product import APP, Product

PLACED = "SELECT database, epoch, suspended FROM tenantry.placement WHERE tenant = $1"
NOT_NORMAL = {
    IdType.UUID: ["x", "{00000000-0000-0000-0000-00000000000a}", "00000000-0000-0000-0000-00000000000A", ""],
    IdType.BIGINT: ["+1", "01", " 1", "1e3", "9223372036854775808", "", "1\n"],
    IdType.TEXT: ["", "x" * 256, "ä" * 128],
}


async def app(product: Product) -> Any:
    return await asyncpg.connect(product.server.dsn(product.database, user=APP))


async def test_the_first_placement_of_a_tenant_is_all_that_it_writes(direct: Product) -> None:
    tenant = str(direct.new_id())
    connection = await app(direct)
    async with direct.admin() as admin:
        for epoch in (2, 0, -1, 2**63 - 1, None):
            with pytest.raises(asyncpg.InvalidParameterValueError, match="epoch 1"):
                await connection.execute("SELECT tenantry.enroll($1, $2)", tenant, epoch)
        assert await admin.fetchrow(PLACED, tenant) is None
        await connection.execute("SELECT tenantry.enroll($1, 1)", tenant)
        assert tuple(await admin.fetchrow(PLACED, tenant)) == ("shared", 1, False)
    await connection.close()


@pytest.mark.parametrize("kept", [("away", 5, False), ("shared", 3, True), ("shared", 1, False)])
async def test_a_placement_that_is_there_stays_as_it_is(direct: Product, kept: tuple[str, int, bool]) -> None:
    tenant = str(direct.new_id())
    connection = await app(direct)
    async with direct.admin() as admin:
        await admin.execute(
            "INSERT INTO tenantry.placement (tenant, database, epoch, suspended) VALUES ($1, $2, $3, $4)",
            tenant,
            *kept,
        )
        for epoch in (1, 2, 2**63 - 1):
            await connection.execute("SELECT tenantry.enroll($1, $2)", tenant, epoch)
        assert tuple(await admin.fetchrow(PLACED, tenant)) == kept
    await connection.close()


async def test_an_id_that_is_not_in_its_normal_form_is_refused(direct: Product) -> None:
    connection = await app(direct)
    for tenant in [*NOT_NORMAL[direct.ids], None]:
        with pytest.raises(asyncpg.InvalidParameterValueError, match="normal form"):
            await connection.execute("SELECT tenantry.enroll($1, 1)", tenant)
    await connection.close()


async def test_a_scope_can_not_enroll_whatever_it_sets(direct: Product) -> None:
    other = str(direct.new_id())
    async with direct.open() as router:
        [tenant] = await direct.signed_up(router)
        for before in ("SELECT 1", "SELECT set_config('tenantry.bound', '', true)", "SAVEPOINT s"):
            # Whoever takes the mark of its bind away has, for all the router can see, another transaction.
            lost = pytest.raises(ScopeLost) if "bound" in before else nullcontext()
            with lost:
                async with router.tenant(tenant) as connection:
                    await connection.execute(before)
                    with pytest.raises(asyncpg.PostgresError) as refused:
                        async with connection.transaction():
                            await connection.execute("SELECT tenantry.enroll($1, 1)", other)
                    assert refused.value.sqlstate == "TN004"
    async with direct.admin() as admin:
        assert await admin.fetchrow(PLACED, other) is None


async def test_a_false_placement_neither_serves_a_tenant_nor_keeps_it_from_coming(direct: Product) -> None:
    """A tenant that lives elsewhere: no router is sent here, and a move's row, at its later epoch, replaces it."""
    connection = await app(direct)
    tenant = str(direct.new_id())
    await connection.execute("SELECT tenantry.enroll($1, 1)", tenant)
    async with direct.admin() as admin:
        assert await placements.close(admin, tenant, "away", 2, False)
        assert tuple(await admin.fetchrow(PLACED, tenant)) == ("away", 2, False)
    await connection.close()
