"""Preflight refuses what the move can't carry, names it, and its mend mends it."""

from __future__ import annotations

from dataclasses import replace

import asyncpg
import pytest

from tenantry.move import MoveBusy, MoveRefused
from tests.faults.estate import Estate

REFUSED = {
    "tenant-column-missing": (
        "CREATE TABLE line (id bigint PRIMARY KEY, entry bigint REFERENCES entry (id))",
        "ALTER TABLE line ADD tenant_id uuid NOT NULL; ALTER TABLE line DROP CONSTRAINT line_pkey; "
        "ALTER TABLE line ADD PRIMARY KEY (tenant_id, id)",
    ),
    "unlogged": (
        "CREATE UNLOGGED TABLE draft (tenant_id uuid NOT NULL, id bigint, PRIMARY KEY (tenant_id, id))",
        "ALTER TABLE draft SET LOGGED",
    ),
    "identity-without-tenant": (
        "CREATE TABLE ticket (tenant_id uuid NOT NULL, id uuid PRIMARY KEY)",
        "CREATE UNIQUE INDEX ON ticket (tenant_id, id)",
    ),
    "ids-would-collide": (
        "CREATE TABLE tiny (tenant_id uuid NOT NULL, id smallserial PRIMARY KEY, UNIQUE (tenant_id, id))",
        "ALTER TABLE tiny DROP CONSTRAINT tiny_pkey; ALTER TABLE tiny ADD PRIMARY KEY (tenant_id, id)",
    ),
    "foreign-table": (
        "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; "
        "CREATE FOREIGN TABLE elsewhere (tenant_id uuid NOT NULL) SERVER s",
        "DROP FOREIGN TABLE elsewhere",
    ),
    "inheritance": (
        "CREATE TABLE child () INHERITS (account)",
        "DROP TABLE child",
    ),
    "role-missing": (
        "CREATE ROLE only_here; GRANT SELECT ON entry TO only_here",
        "REVOKE SELECT ON entry FROM only_here; DROP ROLE only_here",
    ),
    "prepared-transaction": (
        "BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'left'",
        "ROLLBACK PREPARED 'left'",
    ),
}


@pytest.mark.parametrize("code", REFUSED)
async def test_preflight_names_what_it_refuses_and_the_mend_mends_it(looked_at: Estate, code: str) -> None:
    broken, mend = REFUSED[code]
    mover = looked_at.mover()
    assert (await mover.plan(looked_at.tenant, "acme")).refusals == ()
    looked_at.near.psql(broken, looked_at.shared)
    try:
        plan = await mover.plan(looked_at.tenant, "acme")
        assert code in [finding.code for finding in plan.refusals]
        with pytest.raises(MoveRefused, match="nothing was touched"):
            await mover.run(plan)
        assert await mover.list() == []
    finally:
        looked_at.near.psql(mend, looked_at.shared)
    assert code not in [finding.code for finding in (await mover.plan(looked_at.tenant, "acme")).refusals]


async def test_a_target_with_rows_is_refused(estate18: Estate) -> None:
    mover = estate18.mover()
    record = await mover.run(await mover.plan(estate18.tenant, "acme"))
    await mover.rollback(record.id)
    tenant = estate18.tenants[1]
    await estate18.fetch("acme", "INSERT INTO account (tenant_id, id) VALUES ($1, 1)", tenant)
    plan = await mover.plan(estate18.tenant, "acme")
    assert [finding.code for finding in plan.refusals] == ["target-not-empty"]
    stranger = await mover.plan(tenant, "acme")
    assert "foreign-stamp" in [finding.code for finding in stranger.refusals]


async def test_a_bypassing_writer_is_named(looked_at: Estate) -> None:
    owner = await asyncpg.connect(looked_at.endpoints["shared"].dsn)
    try:
        await owner.execute("BEGIN; UPDATE account SET balance = balance")
        plan = await looked_at.mover().plan(looked_at.tenant, "acme")
        (finding,) = [f for f in plan.refusals if f.code == "bypassing-writer"]
        assert "postgres" in finding.problem
    finally:
        await owner.close()


@pytest.mark.parametrize(
    ("attributes", "codes"),
    [
        (
            "NOSUPERUSER REPLICATION",
            {"not-owner", "no-bypassrls", "no-replica-role", "no-subscription", "no-create"},
        ),
        (
            "NOSUPERUSER BYPASSRLS",
            {"not-owner", "no-replication", "no-replica-role", "no-subscription", "no-create"},
        ),
        ("SUPERUSER", set()),
    ],
)
async def test_a_mover_without_privileges_is_told_the_statement_that_mends_it(
    looked_at: Estate, attributes: str, codes: set[str]
) -> None:
    for server, database in ((looked_at.near, looked_at.shared), (looked_at.far, looked_at.dedicated)):
        server.psql("DROP ROLE IF EXISTS carrier", database)
        server.psql(f"CREATE ROLE carrier LOGIN {attributes}; GRANT pg_monitor TO carrier", database)
    grants = "GRANT USAGE ON SCHEMA tenantry TO carrier; GRANT SELECT ON ALL TABLES IN SCHEMA tenantry TO carrier"
    looked_at.near.psql(grants, looked_at.shared)
    try:
        ends = looked_at.endpoints
        carriers = {name: replace(end, dsn=end.dsn.replace("postgres@", "carrier@")) for name, end in ends.items()}
        plan = await looked_at.mover(endpoints=carriers).plan(looked_at.tenant, "acme")
        assert {finding.code for finding in plan.refusals} == codes
        assert all("carrier" in finding.mend for finding in plan.refusals if finding.code != "no-create")
    finally:
        looked_at.near.psql("DROP OWNED BY carrier", looked_at.shared)
        looked_at.far.psql("DROP OWNED BY carrier", looked_at.dedicated)
        for server in (looked_at.near, looked_at.far):
            server.psql("DROP ROLE carrier")


async def test_a_tenant_has_one_move_at_a_time(estate18: Estate) -> None:
    mover = estate18.mover()
    first, second = [await mover.plan(estate18.tenant, "acme") for _ in range(2)]
    record = await mover.run(first)
    with pytest.raises(MoveBusy, match=record.id):
        await mover.run(second)
