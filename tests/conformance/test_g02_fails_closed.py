"""G2: without a bound tenant a connection sees nothing; the router, asked without one, raises at once."""

# ruff: noqa: PT012  (what raises is the end of the scope, so the whole scope stands in the block)

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import asyncpg
import pytest

from tenantry import InvalidTenantId, UnknownTenant
from tenantry.ids import IdType
from tests.support.product import TABLES, Product

UNSET = [
    pytest.param([], id="never set"),
    pytest.param(["BEGIN", "SET LOCAL app.current_tenant = 'x'", "ROLLBACK"], id="set before in a transaction"),
    pytest.param(["SET app.current_tenant = ''"], id="empty"),
    pytest.param(["SET app.current_tenant = ''", "RESET ALL"], id="reset"),
]


@pytest.mark.parametrize("before", UNSET)
async def test_an_unscoped_connection_sees_zero_rows_and_no_error(direct: Product, before: list[str]) -> None:
    async with direct.open() as router:
        [tenant] = await direct.signed_up(router)
        await router.execute(tenant, "INSERT INTO students (name) VALUES ('there')")
    connection: Any = await asyncpg.connect(direct.dsn())
    try:
        for statement in before:
            await connection.execute(statement)
        for table in TABLES:
            assert await connection.fetch(f"SELECT * FROM {table}") == []
        assert await connection.execute("UPDATE students SET name = 'x'") == "UPDATE 0"
        assert await connection.execute("DELETE FROM students") == "DELETE 0"
        assert await connection.fetchval("SELECT tenantry.current_tenant()") is None
    finally:
        await connection.close()


async def test_an_unscoped_connection_can_not_write(direct: Product) -> None:
    connection: Any = await asyncpg.connect(direct.dsn())
    try:
        with pytest.raises(asyncpg.PostgresError, match=r"row-level security|null value"):
            await connection.execute("INSERT INTO students (name) VALUES ('x')")
    finally:
        await connection.close()


async def test_a_setting_made_by_hand_does_not_open_what_a_tenant_has_left_behind(direct: Product) -> None:
    """The policy asks the placement itself, so it holds for psql and scripts too."""
    async with direct.open() as router:
        [tenant] = await direct.signed_up(router)
        await router.execute(tenant, "INSERT INTO students (name) VALUES ('left behind')")
    async with direct.admin() as admin:
        await admin.execute(
            "UPDATE tenantry.placement SET database = 'away', epoch = 2 WHERE tenant = $1", str(tenant)
        )
    connection: Any = await asyncpg.connect(direct.dsn())
    try:
        await connection.execute("SELECT set_config('app.current_tenant', $1, false)", str(tenant))
        with pytest.raises(asyncpg.PostgresError) as refused:
            await connection.fetch("SELECT * FROM students")
        assert refused.value.sqlstate == "TN001"
    finally:
        await connection.close()


NOT_IDS: dict[IdType, list[object]] = {
    IdType.UUID: [None, "", "not a uuid", str(uuid.uuid4()), 7, b"x", True, uuid.uuid4],
    IdType.BIGINT: [None, "", "7", 7.0, True, 2**63, -(2**63) - 1, uuid.uuid4()],
    IdType.TEXT: [None, "", "a\0b", "\ud800", "x" * 256, "é" * 128, 7, b"x", uuid.uuid4()],
}


async def test_the_router_asked_without_a_tenant_raises_at_once_and_sends_nothing(product: Product) -> None:
    async with product.open() as router:
        for bad in NOT_IDS[product.ids]:
            asks: list[Any] = [router.tenant, router.placement, router.add_tenant]
            for ask in asks:
                with pytest.raises(InvalidTenantId) as raised:
                    made: Any = ask(bad)
                    await made
                assert raised.value.expected == product.ids.value
            with pytest.raises(InvalidTenantId):
                await router.fetch(bad, "SELECT 1")  # type: ignore[arg-type]
        assert not router.pools.open_pools(), "an id of the wrong type has reached a pool"


async def test_a_tenant_that_nobody_knows_is_refused(product: Product) -> None:
    async with product.open() as router:
        stranger = product.new_id()
        with pytest.raises(UnknownTenant) as raised:
            await router.fetch(stranger, "SELECT 1")
        assert raised.value.tenant == stranger
        assert not router.pools.open_pools()


async def test_a_connection_between_two_scopes_is_unbound(direct: Product) -> None:
    """What the pool keeps idle sees nothing: asked from inside, past the router."""
    async with direct.open(pool={"max": 1}) as router:
        [tenant] = await direct.signed_up(router)
        await router.execute(tenant, "INSERT INTO students (name) VALUES ('there')")
        pool = router.pools.open_pools()["shared"]
        idle = pool.connections.idle[0].connection
        assert await idle.fetch("SELECT * FROM students") == []
        assert await idle.fetchval("SELECT current_setting('app.current_tenant', true)") in (None, "")
        assert await idle.fetchval("SHOW application_name") == "tenantry"
        await asyncio.sleep(0)
