"""Operators' scopes over all databases (N2): every row of every tenant once, before, during and after moves."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest

from tenantry import Config, Router
from tenantry.embedded import EmbeddedServer
from tenantry.errors import ConfigError, DatabaseUnavailable
from tenantry.move import FenceTried, Limits, MoveStopped, Progress, State, StepStarted
from tests.support.estate import LIMITS, Estate

COUNT = "SELECT tenant_id::text AS tenant, count(*) AS rows FROM entry GROUP BY 1"

END_HOLD = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tenantry operators'"


def config(estate: Estate, operator: str = "postgres") -> Config:
    """The product's services, with an operator for each database."""
    sections = estate.sections()
    for name, server in (("shared", estate.near), ("acme", estate.far)):
        database = estate.shared if name == "shared" else estate.dedicated
        sections["databases"][name]["operator_dsn"] = server.dsn(database, user=operator)
    return Config.parse(sections)


@contextlib.asynccontextmanager
async def product(estate: Estate) -> AsyncIterator[Router]:
    async with Router.open(config(estate), metrics=False) as router:
        yield router


async def counted(router: Router, query: str = COUNT, *, readonly: bool = True) -> Counter[str]:
    """Rows by tenant, over all databases."""
    found: Counter[str] = Counter()
    async with router.operators(reason="invoices", readonly=readonly) as databases:
        async for _, conn in databases:
            found.update({row["tenant"]: row["rows"] for row in await conn.fetch(query)})
    return found


async def promoted(estate: Estate, limits: Limits = LIMITS) -> str:
    """Moves the tenant to acme; the move's id."""
    mover = estate.mover(limits=limits)
    return (await mover.run(await mover.plan(estate.tenant, "acme"))).id


async def truth(estate: Estate) -> Counter[str]:
    """The same, asked before anything moves."""
    return Counter({row["tenant"]: row["rows"] for row in await estate.fetch("shared", COUNT)})


@pytest.mark.parametrize("readonly", [True, False])
async def test_every_row_of_every_tenant_is_counted_once_before_and_after_a_promotion_and_its_release(
    estate: Estate, readonly: bool
) -> None:
    expected = await truth(estate)
    assert expected.total() == 600
    async with product(estate) as router:
        assert await counted(router, readonly=readonly) == expected
        mover = estate.mover()
        move = await promoted(estate)
        assert len(await estate.fetch("shared", "SELECT FROM entry WHERE tenant_id = $1", estate.tenant)) == 200
        assert await counted(router, readonly=readonly) == expected, "the old home's copy is left out"
        await mover.release(move)
        assert await counted(router, readonly=readonly) == expected


async def test_every_row_is_counted_once_after_a_rollback_and_with_leftovers_that_could_not_be_cleaned(
    estate: Estate,
) -> None:
    expected = await truth(estate)
    async with product(estate) as router:
        mover = estate.mover()
        move = await promoted(estate)
        await mover.rollback(move)
        assert await counted(router) == expected
        # As if the target had been away when it was to be cleaned.
        await estate.fetch(
            "acme",
            "INSERT INTO account (tenant_id, id) VALUES ($1, 1) ON CONFLICT DO NOTHING",
            estate.tenant,
        )
        await estate.fetch(
            "control",
            "UPDATE tenantry.move_object SET removed_at = NULL WHERE kind = 'rows' AND database = 'acme'",
        )
        accounts = "SELECT tenant_id::text AS tenant, count(*) AS rows FROM account GROUP BY 1"
        assert set((await counted(router, accounts)).values()) == {10}


async def test_the_rows_of_a_copy_under_way_are_not_counted_at_the_target(estate18: Estate) -> None:
    """In every step between the copy's first row and the end, by an operator that comes in at it."""
    expected = await truth(estate18)
    seen: dict[str, Counter[str]] = {}
    async with product(estate18) as router:
        gate: asyncio.Queue[str] = asyncio.Queue()

        def tell(progress: Progress) -> None:
            if isinstance(progress, StepStarted) and progress.step in ("build_indexes", "verify", "audit"):
                gate.put_nowait(progress.step)

        mover = estate18.mover()
        moving = asyncio.create_task(mover.run(await mover.plan(estate18.tenant, "acme"), tell))
        while not moving.done():
            waiting = asyncio.create_task(gate.get())
            await asyncio.wait([moving, waiting], return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                seen[waiting.result()] = await counted(router)
            waiting.cancel()
        await moving
        assert set(seen) == {"build_indexes", "verify", "audit"}
        assert all(found == expected for found in seen.values()), seen


async def test_a_table_named_past_its_view_is_refused_and_not_counted_twice(estate18: Estate) -> None:
    async with product(estate18) as router:
        await promoted(estate18)
        async with router.operators(reason="invoices") as databases:
            async for name, conn in databases:
                if name == "shared":
                    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
                        async with conn.transaction():
                            await conn.fetchval("SELECT count(*) FROM public.entry")
                    assert await conn.fetchval("SELECT count(DISTINCT tenant_id) FROM entry") == 2
                else:
                    assert await conn.fetchval("SELECT count(DISTINCT tenant_id) FROM public.entry") == 1


async def test_an_operator_writes_everybodys_rows_once_and_none_for_who_has_left(estate18: Estate) -> None:
    async with product(estate18) as router:
        await promoted(estate18)
        written = 0
        async with router.operators(reason="correction") as databases:
            async for name, conn in databases:
                written += int((await conn.execute("UPDATE entry SET note = 'corrected'")).split()[-1])
                if name == "shared":
                    with pytest.raises(asyncpg.PostgresError, match="check option"):
                        async with conn.transaction():
                            await conn.execute(
                                "INSERT INTO account (tenant_id, id) VALUES ($1, 99)", estate18.tenant
                            )
        assert written == 600
        for tenant in estate18.tenants:
            assert await router.fetchval(tenant, "SELECT count(*) FROM entry WHERE note = 'corrected'") == 200
        left = await estate18.fetch(
            "shared", "SELECT count(*) FROM pg_class WHERE relkind = 'v' AND relname IN ('entry', 'account')"
        )
        assert left[0][0] == 0, "the views have gone with the transaction"


async def test_no_tenant_is_flipped_while_an_operator_goes_over_all_databases(estate18: Estate) -> None:
    expected = await truth(estate18)
    found: Counter[str] = Counter()
    limits = replace(LIMITS, attempts=2)
    mover = estate18.mover()
    await mover.rollback(await promoted(estate18))  # the tables' identities are as moves want them
    async with product(estate18) as router:
        async with router.operators(reason="invoices", readonly=True) as databases:
            async for name, conn in databases:
                found.update({row["tenant"]: row["rows"] for row in await conn.fetch(COUNT)})
                if name == "shared":
                    with pytest.raises(MoveStopped, match="operator's scope is open"):
                        await promoted(estate18, limits)
        assert found == expected
        [move] = [each for each in await mover.list() if not each.state.finished]
        assert move.state is State.RUNNING
        await mover.resume(move.id)
        assert await counted(router) == expected


@pytest.mark.parametrize("readonly", [True, False])
async def test_a_move_that_begins_to_bring_rows_meanwhile_is_not_counted_and_fails_a_writers_commit(
    estate18: Estate, readonly: bool
) -> None:
    expected = await truth(estate18)
    await estate18.mover().release(await promoted(estate18))
    found: Counter[str] = Counter()

    async def count_while_it_comes(router: Router) -> None:
        async with router.operators(reason="invoices", readonly=readonly) as databases:
            async for name, conn in databases:
                if name == "shared":
                    await conn.fetchval("SELECT 1")
                    mover = estate18.mover(limits=replace(LIMITS, attempts=2))
                    with pytest.raises(MoveStopped, match="operator's scope"):
                        await mover.run(await mover.plan(estate18.tenant, "shared"))
                    if not readonly:
                        await conn.execute("CREATE TABLE made_here (id int)")
                found.update({row["tenant"]: row["rows"] for row in await conn.fetch(COUNT)})

    async with product(estate18) as router:
        if readonly:
            await count_while_it_comes(router)
            assert found == expected
        else:
            with pytest.raises(DatabaseUnavailable, match="a move has begun"):
                await count_while_it_comes(router)
            assert (await estate18.fetch("shared", "SELECT to_regclass('made_here') IS NULL"))[0][0]
        [move] = [each for each in await estate18.mover().list() if not each.state.finished]
        await estate18.mover().resume(move.id)
        assert await counted(router) == expected


async def test_an_operator_that_may_not_become_the_scopes_role_is_told_the_grant(estate18: Estate) -> None:
    role = f"report_{estate18.shared}"
    make = f"CREATE ROLE {role} LOGIN BYPASSRLS; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
    estate18.near.psql(make, estate18.shared)
    estate18.far.psql(f"CREATE ROLE {role} LOGIN BYPASSRLS")
    try:
        await promoted(estate18)
        estate18.far.psql(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}", estate18.dedicated)
        async with Router.open(config(estate18, role), metrics=False) as router:
            with pytest.raises(ConfigError, match="become the scopes'") as refused:
                await counted(router)
            estate18.near.psql(str(refused.value).split("`")[1], estate18.shared)
            assert (await counted(router)).total() == 600
    finally:
        for server, database in ((estate18.near, estate18.shared), (estate18.far, estate18.dedicated)):
            server.psql(f"DROP OWNED BY {role}", database)
            server.psql(f"DROP ROLE {role}")


async def test_a_dead_database_with_tenants_is_an_error_and_one_without_is_left_out(estate18: Estate) -> None:
    expected = await truth(estate18)
    sections = estate18.sections()
    sections["databases"]["shared"]["operator_dsn"] = estate18.near.dsn(estate18.shared)
    async with Router.open(Config.parse(sections), metrics=False) as router:
        assert await counted(router) == expected, "nobody lives in acme, which has no operator"
        await promoted(estate18)
        with pytest.raises(ConfigError, match="acme"):
            await counted(router)


async def test_an_error_rolls_back_the_database_that_it_was_at_and_each_is_recorded(estate18: Estate) -> None:
    async with product(estate18) as router:
        await promoted(estate18)

        async def correct() -> None:
            async with router.operators(reason="correction", actor="ada") as databases:
                async for name, conn in databases:
                    await conn.execute("UPDATE entry SET note = 'half'")
                    if name == "shared":
                        raise RuntimeError("on purpose")

        with pytest.raises(RuntimeError, match="on purpose"):
            await correct()
        half = {
            str(tenant): await router.fetchval(tenant, "SELECT count(*) FROM entry WHERE note = 'half'")
            for tenant in estate18.tenants
        }
        assert half == {str(tenant): 200 if tenant == estate18.tenant else 0 for tenant in estate18.tenants}
    events = await estate18.fetch(
        "control", "SELECT database, detail->>'outcome' AS outcome FROM tenantry.event WHERE kind = 'operator'"
    )
    assert [tuple(row) for row in events] == [("acme", "commit"), ("shared", "rollback")]


async def test_operators_need_a_reason_and_a_control_database(pg18: EmbeddedServer, estate18: Estate) -> None:
    async with product(estate18) as router:
        with pytest.raises(ValueError, match="reason"):
            router.operators(reason=" ")
    sections = {**estate18.sections(), "control": {"dsn": pg18.dsn("no_such_database")}}
    async with Router.open(Config.parse(sections), metrics=False) as router:
        with pytest.raises(DatabaseUnavailable, match="control"):
            await counted(router)


async def test_what_an_operator_writes_while_a_tenant_moves_is_at_its_home(
    estate18: Estate,
) -> None:
    """Row-level security, and with it the fence, does not apply to an operator: its scope keeps flips away."""
    missed = asyncio.Event()

    def tell(progress: Progress) -> None:
        if isinstance(progress, FenceTried) and "operator" in (progress.why or ""):
            missed.set()

    async with product(estate18) as router:
        mover = estate18.mover(limits=replace(LIMITS, attempts=1000))
        plan = await mover.plan(estate18.tenant, "acme")
        async with router.operator(reason="correction", database="shared") as conn:
            await conn.execute("SELECT 1")
            moving = asyncio.create_task(mover.run(plan, tell))
            waiting = asyncio.create_task(missed.wait())
            await asyncio.wait([moving, waiting], return_when=asyncio.FIRST_COMPLETED, timeout=60)
            waiting.cancel()
            await conn.execute("INSERT INTO account (tenant_id, id) VALUES ($1, 4711)", estate18.tenant)
        await moving
        assert await estate18.fetch("acme", "SELECT FROM account WHERE id = 4711")


async def test_an_operators_scope_whose_hold_on_the_flips_is_lost_commits_nothing(estate18: Estate) -> None:
    async with product(estate18) as router:

        async def correct() -> None:
            async with router.operator(reason="correction", database="shared") as conn:
                await conn.execute("INSERT INTO account (tenant_id, id) VALUES ($1, 4711)", estate18.tenant)
                await estate18.fetch("control", END_HOLD)

        with pytest.raises(DatabaseUnavailable, match="repeat the work"):
            await correct()
        assert not await estate18.fetch("shared", "SELECT FROM account WHERE id = 4711")


async def test_an_operator_who_only_reads_one_database_keeps_no_flip_away(estate18: Estate) -> None:
    async with (
        product(estate18) as router,
        router.operator(reason="report", database="shared", readonly=True) as conn,
    ):
        await conn.fetchval("SELECT count(*) FROM account")
        await promoted(estate18)
