"""F11 to F15: writers that a fence must wait for, refuse, or name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import asyncpg
import pytest

from tenantry.move import MoveStopped, Progress, State, StepStarted
from tests.faults.estate import LIMITS, Estate
from tests.faults.load import check, load
from tests.faults.process import MoverProcess

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
        if isinstance(event, StepStarted) and event.step == "indexes":
            copied.set()

    async with application(estate18) as stale:
        move = asyncio.create_task(mover.run(plan, tell))
        await copied.wait()  # the slot would wait for a transaction that was there before it
        first, _, mode = isolation.partition(", ")
        await stale.execute(f"BEGIN ISOLATION LEVEL {first} {mode}; SELECT tenantry.bind('{estate18.tenant}')")
        if not mode:
            await stale.execute(INSERT, estate18.tenant, 777)
        # The comparison wants a fence first, and the flip another; both wait for us.
        waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND mode = 'ExclusiveLock'"
        async with asyncio.timeout(30):
            while not await estate18.fetch("shared", waiting):  # noqa: ASYNC110  told by pg_locks
                await asyncio.sleep(0.01)
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
async def test_another_tenants_long_transaction_delays_nobody(estate18: Estate) -> None:
    """F14: it is open from before the fence until after the flip."""
    mover = estate18.mover()
    plan = await mover.plan(estate18.tenant, "acme")
    other = estate18.tenants[1]
    async with application(estate18) as slow:

        async def begin() -> None:
            await slow.execute(f"BEGIN; SELECT tenantry.bind('{other}')")
            await slow.execute(INSERT, other, 780)

        tasks: list[asyncio.Task[None]] = []

        def tell(event: Progress) -> None:
            if isinstance(event, StepStarted) and event.step == "follow":
                tasks.append(asyncio.create_task(begin()))

        # The way back's slot is on the other server; the way out's was made before the transaction began.
        record = await mover.run(plan, tell)
        assert record.state is State.FLIPPED
        await tasks[0]
        await slow.execute("COMMIT")


@pytest.mark.faults
async def test_a_transaction_that_delays_the_slot_is_named(estate18: Estate) -> None:
    """F14 at K6."""
    mover = estate18.mover(limits=replace(LIMITS, patience=1.0))
    plan = await mover.plan(estate18.tenant, "acme")
    async with application(estate18) as slow:
        await slow.execute(f"BEGIN; SELECT tenantry.bind('{estate18.tenants[1]}')")
        await slow.execute(INSERT, estate18.tenants[1], 781)
        with pytest.raises(MoveStopped, match=r"the slot had to wait too long for: .*app"):
            await mover.run(plan)
        await slow.execute("COMMIT")
    assert (await estate18.mover().resume(plan.id)).state is State.FLIPPED


@pytest.mark.faults
async def test_a_huge_foreign_transaction_inside_the_fence_costs_an_attempt_at_most(estate: Estate) -> None:
    """F15: 300,000 rows of another tenant commit while the fence waits for its marker."""
    huge = (
        "INSERT INTO entry (tenant_id, op, account, amount, currency) SELECT $1, gen_random_uuid(), 1, 0, 'EUR' "
        "FROM generate_series(1, 300000)"
    )
    async with load(estate, tenants=[estate.tenant]) as running:
        owner = await asyncpg.connect(estate.endpoints["shared"].dsn)
        process = MoverProcess(estate, "move", str(estate.tenant), failpoints="K13a=stop")
        try:
            await process.stopped()
            await owner.execute("BEGIN")
            await owner.execute(huge, estate.tenants[1])
            process.go_on()
            await owner.execute("COMMIT")
            code, output = await process.ended()
        finally:
            process.end()
            await owner.close()
        assert code == 0, output
        await running.reach(estate.tenant, 20)
    print(await check(estate, running))
