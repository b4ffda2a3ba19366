"""F11 to F15: writers that a fence must wait for, refuse, or name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import asyncpg
import pytest

from tenantry.move import MoveStopped, Progress, State, StepStarted
from tests.support.estate import LIMITS, Estate
from tests.support.load import check, load
from tests.support.process import MoverProcess

INSERT = "INSERT INTO account (tenant_id, id) VALUES ($1, $2)"


@asynccontextmanager
async def application(
    estate: Estate, database: str = "shared"
) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(estate.application_dsns()[database], statement_cache_size=0)
    try:
        yield connection
    finally:
        await connection.close()


async def fence_waits(estate: Estate) -> None:
    """Wait until a fence asks for the tenant's lock and does not get it."""
    waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND mode = 'ExclusiveLock'"
    async with asyncio.timeout(30):
        while not await estate.fetch("shared", waiting):  # noqa: ASYNC110  told by pg_locks
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "isolation",
    [
        "repeatable read",
        *(pytest.param(each, marks=pytest.mark.faults) for each in ("read committed", "serializable")),
        pytest.param("serializable, read only", marks=pytest.mark.faults),
    ],
)
async def test_an_open_transaction_is_waited_for_and_named_and_commits(estate18: Estate, isolation: str) -> None:
    """F11, F14: the tenant's own long transaction, in a router that knows nothing of the move."""
    mover = estate18.mover()
    plan = await mover.plan(estate18.tenant, "acme")
    copied = asyncio.Event()

    def tell(event: Progress) -> None:
        if isinstance(event, StepStarted) and event.step == "build_indexes":
            copied.set()

    async with application(estate18) as stale:
        move = asyncio.create_task(mover.run(plan, tell))
        await copied.wait()  # the slot would wait for a transaction that was there before it
        first, _, mode = isolation.partition(", ")
        await stale.execute(f"BEGIN ISOLATION LEVEL {first} {mode}; SELECT tenantry.bind('{estate18.tenant}')")
        if not mode:
            await stale.execute(INSERT, estate18.tenant, 777)
        # The comparison wants a fence first, and the flip another; both wait for us.
        await fence_waits(estate18)
        await stale.execute("COMMIT")
        assert (await move).state is State.FLIPPED
        with pytest.raises(asyncpg.PostgresError) as refused:
            await stale.execute(f"BEGIN ISOLATION LEVEL {first} {mode}; SELECT tenantry.bind('{estate18.tenant}')")
        assert refused.value.sqlstate == "TN001"
    if not mode:
        assert await estate18.fetch("acme", "SELECT 1 FROM account WHERE id = 777")


async def test_writers_past_the_router_are_refused_by_the_policy(estate18: Estate) -> None:
    """F11, F12: autocommit, a cursor and a bulk load with nothing but the setting; and the owner."""
    mover = estate18.mover()
    await mover.run(await mover.plan(estate18.tenant, "acme"))
    async with application(estate18) as past:
        await past.execute(f"SET app.current_tenant = '{estate18.tenant}'")
        into = "INSERT INTO account (tenant_id, id)"
        for statement in (
            f"{into} VALUES ('{estate18.tenant}', 778)",
            f"{into} SELECT '{estate18.tenant}', i FROM generate_series(778, 787) AS i",
            "UPDATE account SET balance = 1",
            "BEGIN; DECLARE c CURSOR FOR SELECT * FROM account; FETCH 1 FROM c",
        ):
            with pytest.raises(asyncpg.PostgresError) as refused:
                await past.execute(statement)
            assert refused.value.sqlstate == "TN001"
            await past.execute("ROLLBACK")


async def test_a_prepared_transaction_of_the_tenant_is_named_until_it_ends(estate18: Estate) -> None:
    """F13."""
    mover = estate18.mover()
    plan = await mover.plan(estate18.tenant, "acme")
    prepare = (
        f"BEGIN; SELECT tenantry.bind('{estate18.tenant}'); INSERT INTO account (tenant_id, id) "
        f"VALUES ('{estate18.tenant}', 779); PREPARE TRANSACTION 'left-{estate18.shared}'"
    )

    def tell(event: Progress) -> None:
        if isinstance(event, StepStarted) and event.step == "verify":
            estate18.near.psql(prepare, estate18.shared, user="app")

    limits = replace(LIMITS, attempts=2)
    with pytest.raises(MoveStopped, match=f"prepared transaction left-{estate18.shared}"):
        await estate18.mover(limits=limits).run(plan, tell)
    estate18.near.psql(f"COMMIT PREPARED 'left-{estate18.shared}'", estate18.shared)
    assert (await mover.resume(plan.id)).state is State.FLIPPED
    assert await estate18.fetch("acme", "SELECT 1 FROM account WHERE id = 779")


@pytest.mark.faults
async def test_a_prepared_transaction_before_the_slot_is_named_until_it_ends(estate18: Estate) -> None:
    """F13 at `slot.created`: prepared after preflight has looked."""
    name = f"early-{estate18.shared}"
    mover = estate18.mover(limits=replace(LIMITS, patience=1.0))
    plan = await mover.plan(estate18.tenant, "acme")
    estate18.near.psql(
        f"BEGIN; SELECT tenantry.bind('{estate18.tenant}'); INSERT INTO account (tenant_id, id) "
        f"VALUES ('{estate18.tenant}', 779); PREPARE TRANSACTION '{name}'",
        estate18.shared,
        user="app",
    )
    with pytest.raises(MoveStopped, match=f"the slot had to wait too long for: prepared transaction {name}"):
        await mover.run(plan)
    estate18.near.psql(f"COMMIT PREPARED '{name}'", estate18.shared)
    assert (await estate18.mover().resume(plan.id)).state is State.FLIPPED
    assert await estate18.fetch("acme", "SELECT 1 FROM account WHERE id = 779")


LONG = ("this tenant", "another tenant", "another database")


async def begin_long(estate: Estate, slow: asyncpg.Connection[asyncpg.Record], whose: str) -> None:
    """Begin a transaction that has written, and leave it open."""
    await slow.execute("BEGIN")
    if whose == "another database":
        await slow.execute("SELECT pg_current_xact_id()")
        return
    tenant = estate.tenants[0 if whose == "this tenant" else 1]
    await slow.execute(f"SELECT tenantry.bind('{tenant}')")
    await slow.execute(INSERT, tenant, 780)


@asynccontextmanager
async def long_writer(estate: Estate, whose: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    if whose != "another database":
        async with application(estate) as connection:
            yield connection
        return
    connection = await asyncpg.connect(estate.near.dsn("postgres"))
    try:
        yield connection
    finally:
        await connection.close()


@pytest.mark.faults
@pytest.mark.parametrize("whose", LONG[1:])
async def test_a_long_transaction_of_somebody_else_does_not_delay_the_flip(estate18: Estate, whose: str) -> None:
    """F14 at the fence: open from before the fence until after the flip. This tenant's own is waited for; see
    F11."""
    process = MoverProcess(estate18, "move", str(estate18.tenant), failpoints="reverse.prepared=stop")
    async with long_writer(estate18, whose) as slow:
        try:
            await process.stopped()
            await begin_long(estate18, slow, whose)
            process.go_on()
            code, output = await process.ended()
        finally:
            process.end()
        assert code == 0, output
        await slow.execute("COMMIT")
    assert (await estate18.homes())["shared"] == ("acme", 2)


@pytest.mark.faults
@pytest.mark.parametrize("whose", LONG)
async def test_a_transaction_that_delays_the_slot_is_named(estate18: Estate, whose: str) -> None:
    """F14 at `slot.created`: a slot waits for every writer of the cluster, but not without end, and nobody else
    waits."""
    mover = estate18.mover(limits=replace(LIMITS, patience=1.0))
    plan = await mover.plan(estate18.tenant, "acme")
    async with long_writer(estate18, whose) as slow, load(estate18) as running:
        await begin_long(estate18, slow, whose)
        pid = slow.get_server_pid()
        with pytest.raises(MoveStopped, match=rf"the slot had to wait too long for: pid {pid} "):
            await mover.run(plan)
        await running.reach(estate18.tenants[2], 10)
        await slow.execute("COMMIT")
    assert (await estate18.mover().resume(plan.id)).state is State.FLIPPED


@pytest.mark.faults
async def test_a_transaction_that_delays_the_way_back_is_named(estate18: Estate) -> None:
    """F14 at `reverse.prepared`: the way back's slot waits for every writer of the target's cluster, not
    without end either."""
    process = MoverProcess(
        estate18, "move", str(estate18.tenant), failpoints="subscription.enabled=stop", patience=1.0
    )
    slow = await asyncpg.connect(estate18.far.dsn("postgres"))
    try:
        async with load(estate18) as running:
            await process.stopped()
            await begin_long(estate18, slow, "another database")
            process.go_on()
            code, output = await process.ended()
            assert code == 1
            assert f"the slot had to wait too long for: pid {slow.get_server_pid()} " in output
            await running.reach(estate18.tenant, 10)
    finally:
        process.end()
        await slow.close()
    (record,) = await estate18.mover().list()
    assert (await estate18.mover().resume(record.id)).state is State.FLIPPED


HUGE = (
    "INSERT INTO entry (tenant_id, op, account, amount, currency) SELECT $1, gen_random_uuid(), 11, 0, 'EUR' "
    "FROM generate_series(1, 300000)"
)


@pytest.mark.faults
@pytest.mark.parametrize("whose", ["another tenant", "this tenant"])
async def test_a_huge_transaction_inside_the_fence_costs_attempts_at_most(estate: Estate, whose: str) -> None:
    """F15: 300,000 rows commit while the fence waits: for its marker behind them, or for their transaction."""
    own = whose == "this tenant"
    tenant = estate.tenants[0 if own else 1]
    points = "reverse.prepared=stop" if own else "reverse.prepared=stop,fence.locked=stop"
    async with load(estate, tenants=[estate.tenant]) as running, application(estate) as huge:
        process = MoverProcess(estate, "move", str(estate.tenant), failpoints=points)
        try:
            await process.stopped()
            await huge.execute(f"BEGIN; SELECT tenantry.bind('{tenant}')")
            await huge.execute("INSERT INTO account (tenant_id, id) VALUES ($1, 11)", tenant)  # nobody else's
            await huge.execute(HUGE, tenant)
            process.go_on()
            if own:
                await fence_waits(estate)
                await huge.execute("COMMIT")
            else:
                await process.stopped()
                committing = asyncio.create_task(huge.execute("COMMIT"))
                await asyncio.sleep(0)  # it is on its way
                process.go_on()
                await committing
            code, output = await process.ended()
        finally:
            process.end()
        assert code == 0, output
        await running.reach(estate.tenant, 20)
    print(await check(estate, running))
    (row,) = await estate.fetch("acme", "SELECT count(*) AS n FROM entry WHERE account = 11")
    assert (row["n"] >= 300_000) == own
