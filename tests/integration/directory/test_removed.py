"""E23: a removed tenant is not an unknown one. No request and no sign-up brings it back; an operator does."""

from __future__ import annotations

from typing import Any

import pytest

from tenantry import Router, TenantRemoved, UnknownTenant
from tenantry.config import Config
from tenantry.operations import Operations
from tests.support.product import Product
from tests.support.until import until


def configured(product: Product, **sections: Any) -> Config:
    """With an operator that owns the schema, as `tenantry tenants remove` wants."""
    return product.config(shared={"operator_dsn": product.server.dsn(product.database)}, **sections)


async def removed(product: Product, router: Router, config: Config) -> object:
    """A tenant that has just been removed, as the router knows."""
    [tenant] = await product.signed_up(router)
    async with Operations.open(config) as operations:
        await operations.tenants.remove(tenant)

    async def known() -> bool:
        try:
            await router.placement(tenant)
        except UnknownTenant:
            return True
        return False

    await until(known)
    return tenant


@pytest.mark.parametrize("default", [None, "shared"])
async def test_no_request_brings_a_removed_tenant_back(direct: Product, default: str | None) -> None:
    tenancy = {"default_database": default} if default else {}
    config = configured(direct, tenancy=tenancy)
    async with direct.open(tenancy=tenancy) as router, direct.admin() as admin:
        tenant = await removed(direct, router, config)
        for _ in range(3):
            with pytest.raises(TenantRemoved, match="--restore"):
                await router.fetchval(tenant, "SELECT 1")  # type: ignore[arg-type]
        with pytest.raises(TenantRemoved):
            await router.add_tenant(tenant)  # type: ignore[arg-type]
        found = await admin.fetchrow(
            "SELECT t.state, t.epoch, p.suspended FROM tenantry.tenant AS t "
            "JOIN tenantry.placement AS p ON p.tenant = t.id WHERE t.id = $1",
            str(tenant),
        )
        assert tuple(found) == ("removed", 1, True)


async def test_a_restored_tenant_is_served_again_with_its_rows_by_routers_that_knew_it(direct: Product) -> None:
    config = configured(direct)
    async with direct.open() as router, Operations.open(config) as operations:
        tenant = await removed(direct, router, config)
        with pytest.raises(TenantRemoved):
            await operations.tenants.add(tenant)
        added = await operations.tenants.add(tenant, restore=True)
        assert added.new
        assert (added.row.state, added.row.database, added.row.epoch) == ("active", "shared", 1)

        async def served() -> bool:
            try:
                return bool(await router.fetchval(tenant, "SELECT 1"))  # type: ignore[arg-type]
            except UnknownTenant:
                return False

        await until(served)
        again = await operations.tenants.add(tenant, restore=True)
        assert not again.new


async def test_a_removed_tenant_is_not_restored_where_its_rows_are_not(direct: Product) -> None:
    config = configured(direct)
    async with direct.open() as router, Operations.open(config) as operations:
        tenant = await removed(direct, router, config)
        with pytest.raises(Exception, match="restore it there, then move it"):
            await operations.tenants.add(tenant, database="elsewhere", restore=True)
