"""`rls apply` gives the tables of an earlier release the guard, and no scope sees a moment without one."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from tenantry import Router
from tenantry.catalog.read import read
from tenantry.catalog.tenancy import Tenancy
from tenantry.embedded import EmbeddedServer
from tenantry.ids import IdType
from tenantry.isolation.apply import Pace, Progress, adopt, compute
from tenantry.isolation.audit import audit
from tests.integration.schema.conftest import LEFT, ROLE, A, made_by_release_0
from tests.integration.schema.test_upgrade import NOTES, config, dsn, old_router, upgrade
from tests.support.until import until


class Watched:
    """What sessions of every kind saw while the policies were changed, and how often."""

    def __init__(self) -> None:
        self.seen: Counter[tuple[str, str]] = Counter()
        self.stopped = False

    async def rounds(self, name: str, look: Any) -> None:
        """Look until told to stop."""
        while not self.stopped:
            try:
                found = str(await look())
            except asyncpg.PostgresError as error:
                found = error.sqlstate or "?"
            self.seen[name, found] += 1
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def past(pg: EmbeddedServer, admin: Any, tenant: str) -> AsyncIterator[Any]:
    """A session of the application role with nothing but the setting."""
    connection = await asyncpg.connect(dsn(pg, admin, ROLE), statement_cache_size=0)
    try:
        await connection.execute(f"SET app.current_tenant = '{tenant}'")
        yield connection
    finally:
        await connection.close()


@pytest.mark.parametrize("hardened", [False, True], ids=["plain", "hardened"])
async def test_tables_of_an_earlier_release_get_the_guard_while_old_and_new_sessions_work(
    pg: EmbeddedServer, admin: Any, hardened: bool
) -> None:
    await made_by_release_0(admin, hardened=hardened)
    await upgrade(admin, hardened=hardened)
    tenancy = Tenancy(hardened=hardened)
    watched, number = Watched(), "SELECT count(*) FROM note"
    async with (
        old_router(pg, admin, hardened) as old,
        past(pg, admin, "") as unbound,
        past(pg, admin, LEFT) as left,
        past(pg, admin, A) as setting,
        Router.open(config(pg, admin, hardened), metrics=False) as router,
    ):
        mine = IdType.UUID.parse(A)
        tasks = [
            asyncio.create_task(watched.rounds(name, look))
            for name, look in {
                "old router": lambda: old.notes(A),
                "router": lambda: router.fetchval(mine, NOTES),
                "unbound": lambda: unbound.fetchval(number),
                "left": lambda: left.fetchval(number),
                "setting": lambda: setting.fetchval(number),
            }.items()
        ]
        waited: list[Progress] = []
        blocker = await asyncpg.connect(dsn(pg, admin, "postgres"))
        try:
            await until(lambda: len(watched.seen) >= 5, seconds=60)
            # A transaction that runs for long: apply gives up its turn, and tries again when it has ended.
            hold = blocker.transaction()
            await hold.start()
            await blocker.execute("LOCK TABLE note IN ACCESS SHARE MODE")

            async def pause(_: float) -> None:
                await hold.rollback()

            await adopt(
                admin, tenancy, role=ROLE, pace=Pace(lock_timeout=0.2, sleep=pause),
                progress=lambda one: waited.append(one) if one.state == "waiting" else None,
            )  # fmt: skip
            before = sum(watched.seen.values())
            await until(lambda: sum(watched.seen.values()) >= before + 50, seconds=60)
        finally:
            watched.stopped = True
            await asyncio.gather(*tasks)
            await blocker.close()
    assert waited
    refused = "TN004" if hardened else "TN001"
    assert set(watched.seen) == {
        ("old router", "['mine']"), ("router", "mine"), ("unbound", "0"), ("left", refused),
        ("setting", "TN004" if hardened else "1"),
    }  # fmt: skip
    await _up_to_date(admin, tenancy)


async def _up_to_date(admin: Any, tenancy: Tenancy) -> None:
    names = await admin.fetch("SELECT policyname, permissive FROM pg_policies WHERE tablename = 'note' ORDER BY 1")
    assert [tuple(row) for row in names] == [("tenantry_guard", "RESTRICTIVE"), ("tenantry_tenant", "PERMISSIVE")]
    assert [one for one in (await compute(admin, tenancy, role=ROLE)).steps if one.kind == "policy"] == []
    codes = {finding.rule.code for finding in audit(await read(admin), tenancy, role=ROLE).findings}
    assert not codes & {"TN110", "TN116"}


@pytest.mark.parametrize("hardened", [False, True], ids=["plain", "hardened"])
async def test_the_upgrade_of_a_tables_policies_is_one_step_in_one_transaction_and_its_finding_prints_it(
    admin: Any, hardened: bool
) -> None:
    await made_by_release_0(admin, hardened=hardened)
    await upgrade(admin, hardened=hardened)
    tenancy = Tenancy(hardened=hardened)
    (step,) = [one for one in (await compute(admin, tenancy, role=ROLE)).steps if one.kind == "policy"]
    assert not step.alone
    assert not step.patient
    made, dropped = step.statements[0], step.statements[1]
    assert made.startswith("CREATE POLICY tenantry_guard")
    assert dropped.startswith("DROP POLICY")
    report = audit(await read(admin), tenancy, role=ROLE)
    (finding,) = [
        one
        for one in report.findings
        if one.object.startswith("public.note") and one.rule.code in ("TN110", "TN116")
    ]
    assert finding.fix == step.statements
    for statement in finding.fix:
        await admin.execute(statement)
    await _up_to_date(admin, tenancy)


async def test_the_restrictive_policy_of_an_earlier_version_is_replaced_by_the_guard(admin: Any) -> None:
    await made_by_release_0(admin, hardened=False)
    await upgrade(admin)
    bound = "nullif(current_setting('app.current_tenant', true), '')::uuid"
    await admin.execute(
        "DROP POLICY tenantry_tenant ON note;"
        "CREATE POLICY users ON note USING (text = current_setting('a.b', true));"
        f"CREATE POLICY tenantry_only ON note AS RESTRICTIVE FOR ALL TO PUBLIC USING (tenant_id = {bound} AND "
        f"(SELECT tenantry.admitted())) WITH CHECK (tenant_id = {bound} AND (SELECT tenantry.admitted()))"
    )
    await adopt(admin, Tenancy(), role=ROLE)
    rows = await admin.fetch("SELECT policyname, qual FROM pg_policies WHERE tablename = 'note' ORDER BY 1")
    assert [row["policyname"] for row in rows] == ["tenantry_guard", "users"]
    assert "tenant_id = " in rows[0]["qual"]
    assert "admitted()" in rows[0]["qual"]
    assert (await compute(admin, Tenancy(), role=ROLE)).steps == ()
