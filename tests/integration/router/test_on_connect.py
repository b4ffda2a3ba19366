"""What an application prepares on each new connection, and how long it lasts."""

from __future__ import annotations

from typing import Any

from tests.support.product import Product

ZONE = "SELECT current_setting('timezone')"


async def test_a_setting_made_by_on_connect_is_gone_after_the_first_scope(direct: Product) -> None:
    async def prepare(connection: Any) -> None:
        await connection.execute("SET TIME ZONE 'Europe/Rome'")

    async with direct.open(pool={"max": 1}, on_connect=prepare) as router:
        [tenant] = await direct.signed_up(router)
        assert [await router.fetchval(tenant, ZONE) for _ in range(2)] == ["Europe/Rome", "UTC"]


async def test_a_setting_of_the_configuration_is_there_in_every_scope(direct: Product) -> None:
    settings = {"settings": {"timezone": "Europe/Rome"}}
    async with direct.open(pool={"max": 1}, shared=settings) as router:
        [tenant] = await direct.signed_up(router)
        assert [await router.fetchval(tenant, ZONE) for _ in range(3)] == ["Europe/Rome"] * 3
        await router.execute(tenant, "SET TIME ZONE 'Asia/Tokyo'")
        assert await router.fetchval(tenant, ZONE) == "Europe/Rome"


async def test_a_type_codec_set_by_on_connect_lasts_as_long_as_the_connection(direct: Product) -> None:
    async def prepare(connection: Any) -> None:
        await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=repr, decoder=len)

    async with direct.open(pool={"max": 1}, on_connect=prepare) as router:
        [tenant] = await direct.signed_up(router)
        assert [await router.fetchval(tenant, "SELECT '[1, 2]'::jsonb") for _ in range(3)] == [6, 6, 6]
