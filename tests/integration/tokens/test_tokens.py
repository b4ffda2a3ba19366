"""Sync tokens: what a device keeps instead of a user's sign-in; scoped, revocable, known to its holder only."""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest

from tenantry import (
    ConfigError,
    DatabaseUnavailable,
    Forbidden,
    InvalidTenantId,
    OperationRefused,
    Operations,
    Router,
    RouterClosed,
    RouterPinned,
    TenantRemoved,
    TooManyFailures,
    Unauthenticated,
    UnknownTenant,
    UnknownToken,
)
from tenantry.directory import tokens as stored
from tenantry.embedded import EmbeddedServer
from tenantry.ids import TenantId
from tenantry.router import failure_limit, tokens
from tests.support.product import APP, Product, product_on
from tests.support.proxy import Proxy
from tests.support.until import until

WRONG = "tns_" + "0" * 20 + "_" + "A" * 43


class World(NamedTuple):
    product: Product
    router: Router
    mine: TenantId
    other: TenantId


@pytest.fixture
async def world(shared: Product) -> AsyncIterator[World]:
    async with shared.open() as router:
        mine, other = await shared.signed_up(router, 2)
        yield World(shared, router, mine, other)


async def refused(call: Awaitable[Any]) -> str:
    with pytest.raises(Unauthenticated) as raised:
        await call
    assert raised.value.status == 401
    return raised.value.reason


async def test_a_token_says_whose_it_is_and_what_it_may_do(world: World) -> None:
    issued = await world.router.tokens.issue(
        world.mine, scope=["orders:read", "push", "push"], label="Ada's tablet"
    )
    token = await world.router.tokens.verify(issued.text, scope="push")
    assert (token.tenant, token.scopes, token.label) == (world.mine, ("orders:read", "push"), "Ada's tablet")
    assert (await world.router.tokens.verify(issued.text)).id == issued.token.id
    with pytest.raises(Forbidden) as forbidden:
        await world.router.tokens.verify(issued.text, scope="orders:write")
    assert (forbidden.value.status, forbidden.value.reason) == (403, "scope")
    bare = await world.router.tokens.issue(world.other, scope="pull", expires=None)
    assert (await world.router.tokens.verify(bare.text)).tenant == world.other
    assert bare.token.expires_at is None
    assert issued.token.expires_at is not None
    assert timedelta(days=89) < issued.token.expires_at - datetime.now(UTC) < timedelta(days=91)


async def test_nobody_who_reads_the_tables_the_log_or_a_repr_finds_the_secret(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    issued = await world.router.tokens.issue(world.mine, label="x")
    secret = issued.text.rpartition("_")[2]
    await world.router.tokens.verify(issued.text)
    async with world.product.admin() as admin:
        kept = await admin.fetch(
            "SELECT t::text FROM tenantry.sync_token AS t UNION SELECT e::text FROM tenantry.event AS e"
        )
        seen = await admin.fetch("SELECT query FROM pg_stat_activity")
        hashed = await admin.fetchval("SELECT hash FROM tenantry.sync_token WHERE id = $1", issued.token.id)
    assert len(kept) >= 2
    assert hashed
    for text in (*(row[0] for row in (*kept, *seen)), repr(issued), repr(issued.token), caplog.text):
        assert issued.text[4:] not in text
        assert issued.text[25:] not in text
        assert secret == "" or issued.text not in text
    assert await refused(world.router.tokens.verify(f"tns_{issued.token.id}_{hashed.hex()[:43]}")) == "invalid"


FORGERIES: dict[str, Callable[[str, str], str]] = {
    "nothing": lambda mine, other: "",
    "a word": lambda mine, other: "tns_",
    "an id alone": lambda mine, other: mine[:24],
    "an unknown id": lambda mine, other: WRONG,
    "another's secret": lambda mine, other: mine[:25] + other[25:],
    "one character of the secret less": lambda mine, other: mine[:-1],
    "one character more": lambda mine, other: mine + "A",
    "a line break behind it": lambda mine, other: mine + "\n",
    "another case": lambda mine, other: mine[:25] + mine[25:].swapcase(),
    "digits of another script": lambda mine, other: "tns_" + "٣" * 20 + mine[24:],
    "half a surrogate pair": lambda mine, other: mine[:-1] + "\ud800",
    "a NUL": lambda mine, other: mine[:-1] + "\0",
    "SQL": lambda mine, other: "tns_' OR true --" + mine[16:],
    "a megabyte": lambda mine, other: mine * 15_000,
}


async def test_a_token_that_is_none_is_refused(world: World) -> None:
    mine, other = [(await world.router.tokens.issue(one)).text for one in (world.mine, world.other)]
    for name, forge in FORGERIES.items():
        reason = await refused(world.router.tokens.verify(forge(mine, other)))
        assert reason in {"malformed", "invalid"}, name
    for nothing in (None, 7, mine.encode(), [mine]):
        wrong: Any = nothing
        assert await refused(world.router.tokens.verify(wrong)) == "malformed"
    assert (await world.router.tokens.verify(mine)).tenant == world.mine


async def test_the_comparison_of_secrets_is_made_in_constant_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[int, int]] = []
    compare = hmac.compare_digest

    def counting(a: bytes, b: bytes) -> bool:
        compared.append((len(a), len(b)))
        return compare(a, b)

    monkeypatch.setattr("tenantry.directory.tokens.compare_digest", counting)
    issued = await world.router.tokens.issue(world.mine)
    await world.router.tokens.verify(issued.text)
    await refused(world.router.tokens.verify(issued.text[:-43] + "A" * 43))
    assert compared == [(32, 32), (32, 32)]


async def test_a_revoked_token_is_refused_here_at_once_and_by_every_other_router_within_a_second(
    world: World,
) -> None:
    async with world.product.open() as elsewhere:
        text = (await world.router.tokens.issue(world.mine)).text
        for router in (world.router, elsewhere):
            await router.tokens.verify(text)
        assert await world.router.tokens.revoke(world.mine, text, reason="lost") is True
        told = asyncio.get_running_loop().time()
        assert await refused(world.router.tokens.verify(text)) == "revoked"

        async def refuses() -> bool:
            try:
                await elsewhere.tokens.verify(text)
            except Unauthenticated as error:
                return error.reason == "revoked"
            assert asyncio.get_running_loop().time() - told < tokens.FRESH + tokens.PATIENCE, (
                "it was believed for too long"
            )
            return False

        await until(refuses)
        assert await world.router.tokens.revoke(world.mine, text) is False, "again: nothing to do"
    async with world.product.admin() as admin:
        events = await admin.fetch(
            "SELECT kind, reason FROM tenantry.event WHERE tenant = $1 AND kind LIKE 'token.%' ORDER BY id",
            str(world.mine),
        )
    assert [tuple(row) for row in events] == [("token.issued", None), ("token.revoked", "lost")]


async def test_of_two_who_revoke_a_token_at_once_one_is_told_that_it_did(world: World) -> None:
    async with world.product.open() as elsewhere:
        text = (await world.router.tokens.issue(world.mine)).text
        done = await asyncio.gather(
            *(router.tokens.revoke(world.mine, text) for router in (world.router, elsewhere) * 4)
        )
        assert sorted(done) == [False] * 7 + [True]


async def test_where_the_control_database_was_not_upgraded_only_tokens_fail_and_say_what_to_do(
    pg18: EmbeddedServer,
) -> None:
    with product_on(pg18) as product:
        async with product.admin() as admin:
            await admin.execute("DROP TABLE tenantry.sync_token")
        async with product.open() as router:
            [tenant] = await product.signed_up(router)
            for call in (router.tokens.verify(WRONG), router.tokens.issue(tenant), router.tokens.list(tenant)):
                with pytest.raises(DatabaseUnavailable, match="tenantry init"):
                    await call
            assert await router.fetchval(tenant, "SELECT 1") == 1


def test_a_verdict_is_never_older_than_a_second() -> None:
    assert tokens.FRESH < 1.0, "what the documentation promises"


async def test_a_token_that_was_read_before_it_was_revoked_here_is_not_believed_after_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is on its way while the token is revoked through the same router."""
    text = (await world.router.tokens.issue(world.mine)).text
    store = world.router.directory.store.tokens
    find, read, go = store.find, asyncio.Event(), asyncio.Event()

    async def slow(ids: Any) -> Any:
        found = await find(ids)
        read.set()
        await go.wait()
        return found

    monkeypatch.setattr(store, "find", slow)
    verifying = asyncio.create_task(world.router.tokens.verify(text))
    await read.wait()
    await world.router.tokens.revoke(world.mine, text)
    go.set()
    assert await refused(verifying) == "revoked"


async def test_an_expired_token_is_refused_by_the_control_databases_clock(world: World) -> None:
    issued = await world.router.tokens.issue(world.mine, expires=datetime.now(UTC) + timedelta(hours=1))
    await world.router.tokens.verify(issued.text)
    async with world.product.admin() as admin:
        await admin.execute(
            "UPDATE tenantry.sync_token SET issued_at = now() - interval '1 h', expires_at = now() WHERE id = $1",
            issued.token.id,
        )
    world.router.tokens._known.clear()
    assert await refused(world.router.tokens.verify(issued.text)) == "expired"
    short = await world.router.tokens.issue(world.mine, expires=timedelta(milliseconds=200))

    async def over() -> bool:
        try:
            await world.router.tokens.verify(short.text)
        except Unauthenticated as error:
            return error.reason == "expired"
        return False

    await until(over)


UNUSABLE: list[tuple[dict[str, Any], str]] = [
    ({"scope": "two words"}, "scope"),
    ({"scope": ["ok", ""]}, "scope"),
    ({"scope": [f"s{n}" for n in range(33)]}, "scope"),
    ({"scope": [None]}, "scope"),
    ({"scope": None}, "scope"),
    ({"scope": 7}, "scope"),
    ({"expires": timedelta(0)}, "expires"),
    ({"expires": timedelta(seconds=-1)}, "expires"),
    ({"expires": timedelta.max}, "expires"),
    ({"expires": datetime(2020, 1, 1, tzinfo=UTC)}, "expires"),
    ({"expires": datetime(2999, 1, 1)}, "expires"),
    ({"expires": 3600}, "expires"),
    ({"label": "two\nlines"}, "label"),
    ({"label": "x" * 201}, "label"),
    ({"label": "\ud800"}, "label"),
]


async def test_what_a_token_can_not_have_is_said_by_its_name(world: World) -> None:
    for options, key in UNUSABLE:
        with pytest.raises(ConfigError) as wrong:
            await world.router.tokens.issue(world.mine, **options)
        assert wrong.value.key == key, options
    assert await world.router.tokens.list(world.mine) == []


async def test_tokens_are_issued_for_tenants_that_are_there_only(world: World) -> None:
    with pytest.raises(UnknownTenant):
        await world.router.tokens.issue(world.product.new_id())
    wrong: Any = object()
    with pytest.raises(InvalidTenantId):
        await world.router.tokens.issue(wrong)
    async with world.product.admin() as admin:
        await admin.execute("UPDATE tenantry.tenant SET state = 'removed' WHERE id = $1", str(world.mine))
    with pytest.raises(TenantRemoved):
        await world.router.tokens.issue(world.mine)


async def test_one_tenant_neither_sees_nor_revokes_the_tokens_of_another(world: World) -> None:
    issued = await world.router.tokens.issue(world.mine, label="mine")
    assert await world.router.tokens.revoke(world.other, issued.text) is False
    assert await world.router.tokens.list(world.other) == []
    assert [one.label for one in await world.router.tokens.list(world.mine)] == ["mine"]
    assert (await world.router.tokens.verify(issued.text)).tenant == world.mine
    with pytest.raises(ConfigError) as garbage:
        await world.router.tokens.revoke(world.mine, "s3cr3t")
    assert "s3cr3t" not in str(garbage.value)


async def test_a_tenant_has_so_many_tokens_at_most_and_forgets_old_ones(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "MOST", 3)
    made = [await world.router.tokens.issue(world.mine) for _ in range(3)]
    with pytest.raises(OperationRefused, match="tenantry tokens list"):
        await world.router.tokens.issue(world.mine)
    await world.router.tokens.issue(world.other)
    await world.router.tokens.revoke(world.mine, made[0].text)
    await world.router.tokens.issue(world.mine)
    assert len(await world.router.tokens.list(world.mine, past=True)) == 4
    async with world.product.admin() as admin:
        await admin.execute(
            "UPDATE tenantry.sync_token SET revoked_at = now() - interval '91 d' WHERE id = $1", made[0].token.id
        )
    await world.router.tokens.revoke(world.mine, made[1].text)
    await world.router.tokens.issue(world.mine)
    kept = {one.id for one in await world.router.tokens.list(world.mine, past=True)}
    assert made[0].token.id not in kept
    assert made[1].token.id in kept


async def test_when_a_token_was_last_used_is_recorded_to_the_minute_and_when_the_router_closes(
    shared: Product,
) -> None:
    async with shared.open() as router:
        [tenant] = await shared.signed_up(router)
        used, unused = [await router.tokens.issue(tenant) for _ in range(2)]
        for _ in range(3):
            await router.tokens.verify(used.text)
        with pytest.raises(Unauthenticated):
            await router.tokens.verify(unused.text[:-43] + "A" * 43)
    async with shared.open() as router:
        seen = {one.id: one.last_used_at for one in await router.tokens.list(tenant)}
        assert seen[unused.token.id] is None
        first = seen[used.token.id]
        assert first is not None
        await router.tokens.verify(used.text)
        await router.tokens._record_uses()
        again = {one.id: one.last_used_at for one in await router.tokens.list(tenant)}
        assert again[used.token.id] == first, "within the minute nothing is written"


async def test_who_sends_tokens_that_are_none_has_to_wait_and_harms_no_good_token(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = (await world.router.tokens.issue(world.mine)).text
    await world.router.tokens.verify(good, source="10.0.0.7")
    asked = 0
    find = world.router.directory.store.tokens.find

    async def counting(ids: Any) -> Any:
        nonlocal asked
        asked += 1
        return await find(ids)

    monkeypatch.setattr(world.router.directory.store.tokens, "find", counting)
    for number in range(failure_limit.BURST):
        forged = WRONG if number % 2 else "nonsense"
        await refused(world.router.tokens.verify(forged, source="10.0.0.7"))
    before = asked
    for forged in (WRONG, "nonsense", good[:-43] + "A" * 43):
        with pytest.raises(TooManyFailures) as limited:
            await world.router.tokens.verify(forged, source="10.0.0.7")
        assert limited.value.status == 429
        assert 0 < limited.value.retry_after <= failure_limit.EVERY
    assert asked <= before + 1, "who has to wait costs the control database nothing"
    assert (await world.router.tokens.verify(good, source="10.0.0.7")).tenant == world.mine
    assert await refused(world.router.tokens.verify(WRONG, source="10.0.0.8")) == "invalid"


async def test_a_revoked_device_that_goes_on_asking_makes_nobody_of_its_network_wait(world: World) -> None:
    lost = (await world.router.tokens.issue(world.mine)).text
    await world.router.tokens.revoke(world.mine, lost)
    for _ in range(failure_limit.BURST * 2):
        assert await refused(world.router.tokens.verify(lost, source="10.0.0.7")) == "revoked"
    fresh = (await world.router.tokens.issue(world.mine)).text
    assert (await world.router.tokens.verify(fresh, source="10.0.0.7")).tenant == world.mine


async def test_many_devices_at_once_are_looked_up_in_few_queries(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [(await world.router.tokens.issue(world.mine)).text for _ in range(30)]
    asked: list[int] = []
    find = world.router.directory.store.tokens.find

    async def counting(ids: Any) -> Any:
        asked.append(len(ids))
        return await find(ids)

    monkeypatch.setattr(world.router.directory.store.tokens, "find", counting)
    found = await asyncio.gather(*(world.router.tokens.verify(text) for text in texts * 3))
    assert {one.tenant for one in found} == {world.mine}
    assert len(asked) <= 2
    assert sum(asked) <= 60


async def test_while_the_control_database_is_away_known_tokens_stay_good_and_others_are_not_judged(
    shared: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "FRESH", 0.0)
    async with Proxy(shared.server.host, shared.server.port) as proxy:
        control = {"dsn": proxy.dsn(shared.server.dsn(shared.database))}
        async with shared.open(control=control) as router:
            [tenant] = await shared.signed_up(router)
            known, unknown = [(await router.tokens.issue(tenant)).text for _ in range(2)]
            await router.tokens.verify(known)
            await proxy.refuse()
            assert (await router.tokens.verify(known)).tenant == tenant
            with pytest.raises(DatabaseUnavailable) as away:
                await router.tokens.verify(unknown)
            assert away.value.status == 503
            monkeypatch.setattr(tokens, "GRACE", 0.0)
            monkeypatch.setattr(router.tokens, "_away_until", float("-inf"))
            with pytest.raises(DatabaseUnavailable):
                await router.tokens.verify(known)
            await proxy.listen_again()

            async def back() -> bool:
                try:
                    return (await router.tokens.verify(unknown)).tenant == tenant
                except DatabaseUnavailable:
                    return False

            await until(back)


async def test_a_caller_that_is_cancelled_takes_nobody_elses_answer_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (await world.router.tokens.issue(world.mine)).text
    find, go = world.router.directory.store.tokens.find, asyncio.Event()

    async def held(ids: Any) -> Any:
        await go.wait()
        return await find(ids)

    monkeypatch.setattr(world.router.directory.store.tokens, "find", held)
    first, second = [asyncio.create_task(world.router.tokens.verify(text)) for _ in range(2)]
    await asyncio.sleep(0)
    first.cancel()
    go.set()
    assert (await second).tenant == world.mine
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_closed_router_judges_nothing_and_closing_fails_who_waits(
    shared: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shared.open() as router:
        [tenant] = await shared.signed_up(router)
        text = (await router.tokens.issue(tenant)).text
        store = router.directory.store.tokens
        asked = asyncio.Event()

        async def never(ids: Any) -> Any:
            asked.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(store, "find", never)
        waiting = asyncio.create_task(router.tokens.verify(text))
        await asked.wait()
    with pytest.raises(DatabaseUnavailable):
        await waiting
    for call in (
        router.tokens.verify(text),
        router.tokens.issue(tenant),
        router.tokens.list(tenant),
        router.tokens.revoke(tenant, text),
    ):
        with pytest.raises(RouterClosed):
            await call


async def test_a_pinned_router_takes_its_own_tenants_tokens_only(world: World) -> None:
    mine, other = [(await world.router.tokens.issue(one)).text for one in (world.mine, world.other)]
    async with Router.open(world.product.config(), metrics=False, pinned=world.mine) as portal:
        assert (await portal.tokens.verify(mine)).tenant == world.mine
        with pytest.raises(RouterPinned):
            await portal.tokens.verify(other)
        with pytest.raises(RouterPinned):
            await portal.tokens.issue(world.other)
        with pytest.raises(RouterPinned):
            await portal.tokens.list(world.other)
        with pytest.raises(RouterPinned):
            await portal.tokens.revoke(world.other, other)


async def test_operators_issue_list_and_revoke_and_are_recorded(world: World) -> None:
    async with Operations.open(world.product.config(), actor="a test") as ops:
        issued = await ops.tokens.issue(str(world.mine), scope="push", label="till 7")
        others = [await ops.tokens.issue(world.other, expires=None) for _ in range(3)]
        assert (await world.router.tokens.verify(issued.text, scope="push")).tenant == world.mine
        listed = [one._replace(last_used_at=None) async for one in ops.tokens.list(world.mine)]
        assert listed == [issued.token]
        assert {one.token.id for one in others} <= {one.id async for one in ops.tokens.list()}
        assert (await ops.tokens.revoke(issued.text, reason="stolen")).revoked_by == "a test"
        first = (await ops.tokens.get(issued.token.id)).revoked_at
        assert (await ops.tokens.revoke(issued.token.id)).revoked_at == first, "again: nothing changes"
        assert [one async for one in ops.tokens.list(world.mine)] == []
        assert [one.id async for one in ops.tokens.list(world.mine, past=True)] == [issued.token.id]
        assert await ops.tokens.revoke_all(world.other, reason="offboarded") == 3
        assert await ops.tokens.revoke_all(world.other) == 0
        with pytest.raises(UnknownToken):
            await ops.tokens.revoke("0" * 20)
        with pytest.raises(UnknownTenant):
            await ops.tokens.issue(world.product.new_id())
        with pytest.raises(UnknownTenant):
            await ops.tokens.revoke_all(world.product.new_id())
    for one in others:
        world.router.tokens._known.clear()
        assert await refused(world.router.tokens.verify(one.text)) == "revoked"


async def test_a_list_of_many_tokens_is_read_in_pages_and_misses_none(world: World) -> None:
    rows = world.router.directory.store.tokens
    made = {(await world.router.tokens.issue(one)).token.id for one in (world.mine, world.other) for _ in range(5)}
    found = [one.id async for one in rows.rows(page=3) if one.tenant in {str(world.mine), str(world.other)}]
    assert (set(found), len(found)) == (made, 10)


async def test_the_scopes_role_reads_no_token_and_the_routers_role_may_work_with_them(shared: Product) -> None:
    async with shared.open() as router:
        [tenant] = await shared.signed_up(router)
        async with shared.admin() as admin:
            asked = f"SELECT has_table_privilege('{APP}', 'tenantry.sync_token', 'SELECT')"
            assert not await admin.fetchval(asked)
        with pytest.raises(Exception, match="permission denied"):
            await router.fetch(tenant, "SELECT * FROM tenantry.sync_token")


def test_a_token_can_be_found_by_scanners_of_leaked_secrets() -> None:
    assert re.fullmatch(r"tns_[0-9a-f]{20}_[A-Za-z0-9_-]{43}", WRONG)
    assert stored.split(WRONG) == ("0" * 20, "A" * 43)
