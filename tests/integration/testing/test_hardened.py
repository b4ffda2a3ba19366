"""The testing kit on a hardened database, for every type of id."""

from __future__ import annotations

from typing import Any

import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.ids import IdType
from tenantry.testing import assert_isolated, check_unbound_work, two_tenants
from tests.support.product import product_on


@pytest.mark.parametrize("ids", list(IdType))
async def test_a_hardened_product_passes(pg18: EmbeddedServer, ids: IdType) -> None:
    async def seed(connection: Any) -> None:
        await connection.execute(
            f"INSERT INTO students (id, name) VALUES (1, 'Ann'); INSERT INTO courses VALUES ({own}, 1, 'x');"
            f"INSERT INTO enrolments VALUES ({own}, 1, 1)"
        )
        badge = await connection.fetchval("SELECT hashtext(tenantry.current_tenant()::text)::bigint")
        await connection.execute("INSERT INTO badges (id) VALUES ($1)", badge)
        await connection.execute("INSERT INTO awards (badge) VALUES ($1)", badge)

    async def write(connection: Any) -> None:
        await connection.execute("INSERT INTO courses (id) VALUES (2)")

    own = "tenantry.current_tenant()"
    with product_on(pg18, ids, hardened=True) as product:
        async with product.admin() as admin:
            # A key without the tenant lets an award refer to another tenant's badge, in any mode.
            await admin.execute(
                "ALTER TABLE badges ADD UNIQUE (tenant_id, id);"
                "ALTER TABLE awards DROP CONSTRAINT awards_badge_fkey,"
                "ADD FOREIGN KEY (tenant_id, badge) REFERENCES badges (tenant_id, id)"
            )
        async with (
            product.open() as router,
            two_tenants(router, seed) as (a, b),
        ):
            report = await assert_isolated(router, a, b)
            assert "public.awards" in {attempt.object for attempt in report.held}
            await check_unbound_work(router, a, write)
