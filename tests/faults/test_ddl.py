"""F16, F17: somebody changes the source's tables, or whose rows they are, while the tenant moves."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from tenantry.embedded import EmbeddedError
from tenantry.move import Progress, State, StepStarted
from tests.support.estate import Estate
from tests.support.load import check, load
from tests.support.process import MoverProcess

PARTITIONED = """
CREATE TABLE visit (tenant_id uuid NOT NULL, id bigint NOT NULL, at date NOT NULL, PRIMARY KEY (tenant_id, id, at))
    PARTITION BY RANGE (at);
CREATE TABLE visit_old PARTITION OF visit FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
"""
DDL = {
    "add a column": "ALTER TABLE entry ADD extra int",
    "add a column with a constant default": "ALTER TABLE entry ADD extra int DEFAULT 7",
    "add a column with a volatile default": "ALTER TABLE entry ADD extra uuid DEFAULT gen_random_uuid()",
    "drop a column": "ALTER TABLE entry DROP note",
    "widen a column": "ALTER TABLE account ALTER balance TYPE numeric",
    "rename a column": 'ALTER TABLE "Blob" RENAME raw TO cooked',
    "rename a table": 'ALTER TABLE "Blob" RENAME TO "Glob"',
    "new table": "CREATE TABLE memo (tenant_id uuid NOT NULL, id bigint, PRIMARY KEY (tenant_id, id))",
    "new table without the tenant column": "CREATE TABLE line (id int PRIMARY KEY, entry bigint REFERENCES entry)",
    "new partition": "CREATE TABLE visit_new PARTITION OF visit FOR VALUES FROM ('2026-01-01') TO (MAXVALUE)",
    "drop a key": "ALTER TABLE entry DROP CONSTRAINT entry_tenant_id_account_fkey",
    "new index": "CREATE INDEX late ON entry (tenant_id, at)",
    "truncate": 'TRUNCATE "Blob"',
}
QUICK = {
    ("new table", "subscription.enabled"),
    ("new partition", "fence.locked"),
    ("add a column", "fence.marker_seen"),
}
CELLS = [
    pytest.param(ddl, point, marks=() if (ddl, point) in QUICK else pytest.mark.faults)
    for ddl in DDL
    for point in ("copy.started", "subscription.enabled", "fence.locked")
] + [pytest.param("add a column", "fence.marker_seen")]


async def changed_at(estate: Estate, point: str, statement: str) -> str:
    """Run a move, change the source at a point, and see the move stop. Returns what it said."""
    estate.near.psql(PARTITIONED, estate.shared)
    process = MoverProcess(estate, "move", str(estate.tenant), failpoints=f"{point}=stop")
    try:
        await process.stopped()
        estate.near.psql(statement, estate.shared)
        process.go_on()
        code, output = await process.ended()
    finally:
        process.end()
    assert code == 1, output
    return output


@pytest.mark.parametrize(("ddl", "point"), CELLS)
async def test_a_table_that_changes_under_the_move_stops_it_before_the_flip(
    estate18: Estate, ddl: str, point: str
) -> None:
    """F16. At `fence.marker_seen` the tables are locked: the statement waits until the server has ended the
    fence."""
    said = await changed_at(estate18, point, DDL[ddl])
    # A copy that meets the change itself stops on it; all else is told by the fingerprint.
    assert "\nSchemaChanged: " in said or (point == "copy.started" and "step copy" in said), said
    (record,) = await estate18.mover().list()
    assert record.state is State.RUNNING
    assert (await estate18.homes())["shared"] == ("shared", 1)
    assert (await estate18.mover().abort(record.id)).state is State.ABORTED


@pytest.mark.faults
async def test_a_table_made_at_the_very_flip_is_told_by_the_audit(estate18: Estate) -> None:
    """F16 at `fence.marker_seen`: the fence has looked at the tables, and holds nothing that keeps a new one
    from being made."""
    said = await changed_at(estate18, "fence.marker_seen", DDL["new table"])
    (record,) = await estate18.mover().list()
    if record.state is State.RUNNING:  # the server had ended the fence meanwhile; the next look was the fence's
        assert "a table is new" in said
    else:
        assert "lacks public.memo" in said
        assert (await estate18.mover().rollback(record.id)).state is State.ROLLED_BACK


def at(step: str, *actions: Any) -> Any:
    """Do something when a step starts."""

    def tell(event: Progress) -> None:
        if isinstance(event, StepStarted) and event.step == step:
            for action in actions:
                action()

    return tell


@pytest.mark.faults
@pytest.mark.parametrize("step", ["copy", "catch_up", "flip"])
async def test_the_application_can_neither_truncate_nor_give_its_rows_away(estate18: Estate, step: str) -> None:
    """F17, through the application's role: refused, whatever the move is at."""
    tenant, other = estate18.tenants[:2]
    refused = []

    def try_to() -> None:
        scope = f"BEGIN; SELECT tenantry.bind('{tenant}'); "
        for statement in ('TRUNCATE "Blob"', f"UPDATE \"Blob\" SET tenant_id = '{other}'"):
            with pytest.raises(EmbeddedError, match=r"permission denied|row-level security") as error:
                estate18.near.psql(scope + statement, estate18.shared, user="app")
            refused.append(error)

    mover = estate18.mover()
    record = await mover.run(await mover.plan(tenant, "acme"), at(step, try_to))
    assert record.state is State.FLIPPED
    assert len(refused) == 2


@pytest.mark.faults
@pytest.mark.parametrize("step", ["copy", "catch_up", "verify", "flip"])
async def test_a_row_given_to_another_tenant_past_the_policies_is_carried_or_detected(
    estate18: Estate, step: str
) -> None:
    """F17: the owner changes the tenant column, into the tenant and out of it."""
    tenant, other = estate18.tenants[:2]
    give = (
        "UPDATE \"Blob\" SET tenant_id = '{to}', \"Key\" = '{key}' WHERE tenant_id = '{of}' AND \"Key\" = 'k{n}'"
    )
    statements = (
        give.format(to=other, key="out", of=tenant, n=1),
        give.format(to=tenant, key="in", of=other, n=2),
    )
    mover = estate18.mover()
    async with load(estate18) as running:
        plan = await mover.plan(tenant, "acme")
        record = await mover.run(
            plan, at(step, *(lambda s=s: estate18.near.psql(s, estate18.shared) for s in statements))
        )
        assert record.state is State.FLIPPED
        await running.reach(tenant, 20)
    await check(estate18, running)
    keys = await estate18.fetch("acme", 'SELECT "Key" AS key FROM "Blob" WHERE tenant_id = $1', tenant)
    assert "in" in [row["key"] for row in keys]
    assert not {"out", "k1"} & {row["key"] for row in keys}


@pytest.mark.faults
@pytest.mark.parametrize("step", ["copy", "catch_up", "flip"])
async def test_a_tenant_removed_under_the_move_stays_removed(estate18: Estate, step: str) -> None:
    """F17: what `tenantry tenants remove` writes, while the tenant moves: it is shut out at either home."""
    tenant = str(estate18.tenant)

    def remove() -> None:
        estate18.near.psql(f"UPDATE tenantry.tenant SET state = 'removed' WHERE id = '{tenant}'", estate18.control)
        estate18.near.psql(
            f"UPDATE tenantry.placement SET suspended = true WHERE tenant = '{tenant}'", estate18.shared
        )

    mover = estate18.mover()
    plan = await mover.plan(tenant, "acme")
    assert (await mover.run(plan, at(step, remove))).state is State.FLIPPED
    for name, code in (("shared", "TN001"), ("acme", "TN003")):
        past = await asyncpg.connect(estate18.application_dsns()[name])
        try:
            with pytest.raises(asyncpg.PostgresError) as refused:
                await past.execute(f"SELECT tenantry.bind('{tenant}')")
        finally:
            await past.close()
        assert refused.value.sqlstate == code
    assert (await mover.rollback(plan.id)).state is State.ROLLED_BACK
