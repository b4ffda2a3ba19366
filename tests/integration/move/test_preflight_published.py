"""Publications of the product's own are looked at before a move sets a replica identity that would break them."""

from __future__ import annotations

import asyncpg
import pytest

from tenantry.ids import Kind
from tenantry.move import MovePlan, MoveRefused, PreflightFinding, State
from tests.integration.move.test_preflight_access import _install
from tests.support.estate import SCHEMA, Estate

UPDATE = "UPDATE entry SET amount = amount + 1 WHERE tenant_id = $1"
BROKEN = {
    "columns": "CREATE PUBLICATION cdc FOR TABLE entry (id, op, amount)",
    "columns and a filter": "CREATE PUBLICATION cdc FOR TABLE account, entry (id, op, amount) WHERE (id > 0)",
    "a filter on another column": "CREATE PUBLICATION cdc FOR TABLE entry WHERE (amount > 0)",
    "both": "CREATE PUBLICATION cdc FOR TABLE entry (id, amount) WHERE (amount > 0)",
}
FINE = (
    "CREATE PUBLICATION cdc FOR TABLE entry",
    "CREATE PUBLICATION cdc FOR TABLES IN SCHEMA public",
    "CREATE PUBLICATION cdc FOR TABLE entry (amount, id, tenant_id)",
    "CREATE PUBLICATION cdc FOR TABLE entry (id) WITH (publish = 'insert, truncate')",
    "CREATE PUBLICATION cdc FOR TABLE entry WHERE (id > 0)",
    "CREATE PUBLICATION cdc FOR TABLE currency (code)",
)


def _found(plan: MovePlan) -> list[PreflightFinding]:
    return [finding for finding in plan.refusals if finding.code == "publication-differs"]


@pytest.mark.parametrize("kind", BROKEN)
async def test_a_publication_that_the_identity_would_break_is_refused_and_the_fix_fixes_it(
    estate18: Estate, kind: str
) -> None:
    estate18.near.psql(BROKEN[kind], estate18.shared)
    mover = estate18.mover()
    (finding,) = _found(await mover.plan(estate18.tenant, "acme"))
    assert '"cdc" of shared' in finding.problem
    with pytest.raises(MoveRefused):
        await mover.run(await mover.plan(estate18.tenant, "acme"))
    for statement in finding.fix.split("; "):
        estate18.near.psql(statement, estate18.shared)
    record = await mover.run(await mover.plan(estate18.tenant, "acme"))
    assert record.state is State.FLIPPED
    for tenant in estate18.tenants[:2]:
        await estate18.fetch("shared", UPDATE, tenant)
    ((count,),) = await estate18.fetch(
        "shared",
        "SELECT count(*) FROM pg_publication_rel r JOIN pg_publication p ON "
        "p.oid = prpubid WHERE pubname = 'cdc' AND prrelid = 'entry'::regclass",
    )
    assert count == 1


async def test_postgresql_breaks_a_publication_whose_replica_identity_lacks_a_published_column(
    estate18: Estate,
) -> None:
    """What PostgreSQL does, so that the rule is known to be about something."""
    for kind, made in BROKEN.items():
        estate18.near.psql(
            f"{made}; ALTER TABLE entry REPLICA IDENTITY USING INDEX entry_tenant_id_id_key", estate18.shared
        )
        with pytest.raises(asyncpg.PostgresError, match=r"replica identity|cannot update"):
            await estate18.fetch("shared", UPDATE, estate18.tenants[1])
        estate18.near.psql("DROP PUBLICATION cdc; ALTER TABLE entry REPLICA IDENTITY DEFAULT", estate18.shared)
        assert kind


@pytest.mark.parametrize("made", FINE)
async def test_a_publication_that_goes_on_working_stops_no_move(looked_at: Estate, made: str) -> None:
    looked_at.near.psql(made, looked_at.shared)
    try:
        assert _found(await looked_at.mover().plan(looked_at.tenant, "acme")) == []
    finally:
        looked_at.near.psql("DROP PUBLICATION cdc", looked_at.shared)


async def test_a_publication_of_a_target_with_tables_is_looked_at_too(estate18: Estate) -> None:
    await _install(estate18.endpoints["acme"].dsn, "acme", Kind.DEDICATED, SCHEMA.read_text())
    estate18.far.psql(BROKEN["columns"], estate18.dedicated)
    mover = estate18.mover()
    (finding,) = _found(await mover.plan(estate18.tenant, "acme"))
    assert '"cdc" of acme' in finding.problem
    estate18.far.psql(finding.fix, estate18.dedicated)
    record = await mover.run(await mover.plan(estate18.tenant, "acme"))
    await estate18.fetch("acme", UPDATE, estate18.tenant)
    await mover.rollback(record.id)
    await estate18.fetch("shared", UPDATE, estate18.tenant)


@pytest.mark.parametrize("root", ["true", "false"])
async def test_a_partition_in_a_publication_is_looked_at(looked_at: Estate, root: str) -> None:
    """PostgreSQL asks the partition; what is said of the whole counts only where it publishes in their stead."""
    looked_at.near.psql(
        "CREATE TABLE part (tenant_id uuid NOT NULL, id int, n int, PRIMARY KEY (tenant_id, id)) "
        "PARTITION BY LIST (id);"
        "CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1);"
        "CREATE PUBLICATION whole FOR TABLE part WHERE (n > 0) WITH (publish_via_partition_root = true);"
        f"CREATE PUBLICATION cdc FOR TABLE part_1 WHERE (n > 0) WITH (publish_via_partition_root = {root})",
        looked_at.shared,
    )
    try:
        found = _found(await looked_at.mover().plan(looked_at.tenant, "acme"))
        assert sorted(finding.problem.split(" has ")[1].split(" ")[0] for finding in found) == [
            "public.part",
            "public.part_1",
        ]
    finally:
        looked_at.near.psql("DROP PUBLICATION cdc, whole; DROP TABLE part", looked_at.shared)
