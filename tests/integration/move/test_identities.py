"""Replica identities: nobody's UPDATE or DELETE fails because a table is published with a filter."""

from __future__ import annotations

import uuid

import pytest

from tenantry.move.progress import Progress, StepEnded
from tests.integration.move.operators import having
from tests.support.estate import Estate

#: A key that can't have the tenant column first, as of products that were partitioned before they had tenants.
PARTITIONED = """
CREATE TABLE visit (tenant_id uuid NOT NULL, id bigint NOT NULL, at date NOT NULL, seen int NOT NULL DEFAULT 0,
    PRIMARY KEY (id, at), UNIQUE (tenant_id, id, at)) PARTITION BY RANGE (at);
CREATE TABLE visit_1 PARTITION OF visit FOR VALUES FROM ('2026-01-01') TO ('2026-07-01');
CREATE TABLE visit_2 PARTITION OF visit FOR VALUES FROM ('2026-07-01') TO ('2027-01-01') PARTITION BY HASH (id);
CREATE TABLE visit_2a PARTITION OF visit_2 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE visit_2b PARTITION OF visit_2 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
"""
WHOLE = """
CREATE TABLE visit (tenant_id uuid NOT NULL, id bigint NOT NULL, at date NOT NULL, seen int NOT NULL DEFAULT 0)
    PARTITION BY RANGE (at);
ALTER TABLE visit REPLICA IDENTITY FULL;
CREATE TABLE visit_1 PARTITION OF visit FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
"""
TOUCH = "UPDATE visit SET seen = seen + 1 WHERE tenant_id = $1"


async def visits(estate: Estate) -> None:
    """Give each tenant rows in every partition."""
    for number, tenant in enumerate(estate.tenants):
        await estate.fetch(
            "shared",
            "INSERT INTO visit SELECT $1, $2 * 1000 + i, '2026-01-01'::date + i FROM generate_series(1, 300) AS i",
            tenant,
            number,
        )


async def touch(estate: Estate, database: str, tenant: uuid.UUID) -> None:
    """Update and delete what is there."""
    await estate.fetch(database, TOUCH, tenant)
    await estate.fetch(database, "DELETE FROM visit WHERE tenant_id = $1 AND id % 100 = 7", tenant)


@pytest.mark.parametrize("schema", [PARTITIONED, WHOLE])
async def test_everybody_goes_on_changing_rows_of_partitions_during_a_move(estate: Estate, schema: str) -> None:
    estate.near.psql(schema, estate.shared)
    await visits(estate)
    tenant, other = estate.tenants[:2]
    mover = estate.mover()
    steps: list[str] = []

    def tell(event: Progress) -> None:
        if isinstance(event, StepEnded):
            steps.append(event.step)
            home = estate.shared if "flip" not in steps else estate.dedicated
            for server, database, who in ((estate.near, estate.shared, other), (None, home, tenant)):
                place = server or (estate.near if home == estate.shared else estate.far)
                place.psql(TOUCH.replace("$1", f"'{who}'"), database)

    record = await mover.run(await mover.plan(tenant, "acme"), tell)
    assert "audit" in steps
    for database, who in (("shared", other), ("acme", tenant)):
        await touch(estate, database, who)
    await mover.rollback(record.id)
    for who in (tenant, other):
        await touch(estate, "shared", who)
    ((seen, rows),) = await estate.fetch(
        "shared", "SELECT min(seen), count(*) FROM visit WHERE tenant_id = $1", tenant
    )
    assert (seen, rows) == (len(steps) + 2, 300 - 3)


@pytest.mark.parametrize("identity", ["USING INDEX ticket_tenant_id_id_key", "FULL"])
async def test_a_target_with_a_schema_of_its_own_gets_the_identity_of_the_source(
    estate18: Estate, identity: str
) -> None:
    """The source got it in an earlier move, or from its operator; the target's tables were made by migrations."""
    ticket = """CREATE TABLE ticket (tenant_id uuid NOT NULL, id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0,
                UNIQUE (tenant_id, id))"""
    estate18.near.psql('DROP TABLE entry, account, currency, "Blob"; ' + ticket, estate18.shared)
    estate18.far.psql(ticket, estate18.dedicated)
    estate18.near.psql(f"ALTER TABLE ticket REPLICA IDENTITY {identity}", estate18.shared)
    tenant = estate18.tenant
    await estate18.fetch("shared", "INSERT INTO ticket SELECT $1, i FROM generate_series(1, 10) AS i", tenant)
    mover = estate18.mover()
    plan = await mover.plan(tenant, "acme")
    assert not plan.load_schema
    record = await mover.run(plan)
    await estate18.fetch("acme", "UPDATE ticket SET n = n + 1 WHERE tenant_id = $1", tenant)
    await estate18.fetch("acme", "DELETE FROM ticket WHERE tenant_id = $1 AND id = 3", tenant)
    await mover.rollback(record.id)
    ((rows, least),) = await estate18.fetch("shared", "SELECT count(*), min(n) FROM ticket")
    assert (rows, least) == (9, 1)


async def test_the_bytes_of_a_partitioned_table_are_those_of_its_partitions(estate18: Estate) -> None:
    estate18.near.psql(PARTITIONED, estate18.shared)
    await visits(estate18)
    plan = await estate18.mover().plan(estate18.tenant, "acme")
    (visit,) = [table for table in plan.tables if table.name == "visit"]
    assert visit.bytes > 0


async def test_partitions_that_replication_does_not_carry_are_named(looked_at: Estate) -> None:
    schema = (
        "CREATE TABLE part (tenant_id uuid NOT NULL, id int NOT NULL, PRIMARY KEY (tenant_id, id)) "
        "PARTITION BY LIST (id); "
        "CREATE UNLOGGED TABLE part_1 PARTITION OF part FOR VALUES IN (1); "
        "CREATE FOREIGN DATA WRAPPER away; CREATE SERVER away FOREIGN DATA WRAPPER away"
    )
    with having(looked_at, schema, "DROP TABLE part; DROP FOREIGN DATA WRAPPER away CASCADE"):
        mover = looked_at.mover()
        (finding,) = (await mover.plan(looked_at.tenant, "acme")).refusals
        assert (finding.code, "part_1" in finding.fix) == ("unlogged", True)
        looked_at.near.psql(finding.fix, looked_at.shared)
        assert (await mover.plan(looked_at.tenant, "acme")).refusals == ()
        # A unique key keeps foreign partitions out, so such a table has none.
        looked_at.near.psql(
            "ALTER TABLE part DROP CONSTRAINT part_pkey; ALTER TABLE part REPLICA IDENTITY FULL; "
            "CREATE FOREIGN TABLE part_2 PARTITION OF part FOR VALUES IN (2) SERVER away",
            looked_at.shared,
        )
        codes = {finding.code for finding in (await mover.plan(looked_at.tenant, "acme")).findings}
        assert {"foreign-table", "partition-identity"} <= codes


async def test_a_row_that_could_not_be_found_by_its_columns_is_refused(looked_at: Estate) -> None:
    schema = (
        "CREATE TABLE heap (tenant_id uuid NOT NULL, n varchar(9), d text[], doc json); "
        "ALTER TABLE heap REPLICA IDENTITY FULL"
    )
    with having(looked_at, schema, "DROP TABLE heap"):
        mover = looked_at.mover()
        (finding,) = (await mover.plan(looked_at.tenant, "acme")).refusals
        assert finding.code == "identity-not-comparable"
        assert "doc:" in finding.problem
        looked_at.near.psql("ALTER TABLE heap ALTER doc TYPE jsonb", looked_at.shared)
        assert (await mover.plan(looked_at.tenant, "acme")).refusals == ()
