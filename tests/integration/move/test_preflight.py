"""Preflight refuses what the move can't carry, names it, and its fix ends the finding."""

from __future__ import annotations

import os
from dataclasses import replace

import asyncpg
import pytest

from tenantry.catalog.tenancy import Tenancy
from tenantry.embedded import EmbeddedServer
from tenantry.move import MoveBusy, MoveRefused
from tests.support.databases import database
from tests.support.estate import Estate

REFUSED = {
    "tenant-column-missing": (
        "CREATE TABLE line (id bigint PRIMARY KEY, entry bigint REFERENCES entry (id))",
        "ALTER TABLE line ADD tenant_id uuid NOT NULL; ALTER TABLE line DROP CONSTRAINT line_pkey; "
        "ALTER TABLE line ADD PRIMARY KEY (tenant_id, id)",
    ),
    "table-undecided": (
        'CREATE TABLE twice ("tenantId" uuid NOT NULL, "TENANT_ID" uuid, id int, PRIMARY KEY ("tenantId", id))',
        'ALTER TABLE twice DROP "TENANT_ID"',
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
        "CREATE ROLE only_here; CREATE VIEW seen AS SELECT 1 AS one; GRANT SELECT ON seen TO only_here",
        "DROP VIEW seen; DROP ROLE only_here",
    ),
    "large-objects": (
        "CREATE TABLE scan (tenant_id uuid NOT NULL, id uuid, page oid, PRIMARY KEY (tenant_id, id)); "
        "SELECT lo_create(4711)",
        "SELECT lo_unlink(4711)",
    ),
    "reference-without-key": (
        "CREATE TABLE unit (code text UNIQUE); CREATE TABLE size (tenant_id uuid PRIMARY KEY, "
        "unit text REFERENCES unit (code))",
        "ALTER TABLE unit ADD PRIMARY KEY (code)",
    ),
    "trigger-always": (
        "CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; "
        "CREATE TRIGGER again BEFORE INSERT ON entry FOR EACH ROW EXECUTE FUNCTION again(); "
        "ALTER TABLE entry ENABLE ALWAYS TRIGGER again",
        "ALTER TABLE entry ENABLE TRIGGER again",
    ),
    "tenant-column-type": (
        "CREATE DOMAIN who AS uuid; "
        "CREATE TABLE badge (tenant_id who NOT NULL, id int, PRIMARY KEY (tenant_id, id))",
        "ALTER TABLE badge ALTER tenant_id TYPE uuid",
    ),
    "identity-generated": (
        "CREATE TABLE parcel (tenant_id uuid NOT NULL, id int NOT NULL, "
        "code text NOT NULL GENERATED ALWAYS AS ('p' || id) STORED, PRIMARY KEY (tenant_id, code))",
        "ALTER TABLE parcel ALTER code DROP EXPRESSION",
    ),
    "prepared-transaction": (
        "BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'left'",
        "ROLLBACK PREPARED 'left'",
    ),
}


@pytest.mark.parametrize("code", REFUSED)
async def test_preflight_names_what_it_refuses_and_the_fix_fixes_it(looked_at: Estate, code: str) -> None:
    broken, fix = REFUSED[code]
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
        looked_at.near.psql(fix, looked_at.shared)
    assert code not in [finding.code for finding in (await mover.plan(looked_at.tenant, "acme")).refusals]


async def test_a_table_travels_however_its_tenant_column_is_spelt(looked_at: Estate) -> None:
    """Row-level security takes it for the tenants', so leaving it behind would lose its rows."""
    looked_at.near.psql(
        'CREATE TABLE note ("tenant-id" uuid NOT NULL, id int, PRIMARY KEY ("tenant-id", id));'
        "CREATE TABLE item (customer uuid NOT NULL, id int, PRIMARY KEY (customer, id))",
        looked_at.shared,
    )
    try:
        plan = await looked_at.mover(tenancy=Tenancy(tables={"public.item": "customer"})).plan(
            looked_at.tenant, "acme"
        )
        assert {"note": "tenant-id", "item": "customer"}.items() <= {t.name: t.column for t in plan.tables}.items()
        for word in ("public.itme", "public.item"):
            mover = looked_at.mover(tenancy=Tenancy(tables={word: "custmer"}))
            assert "table-undecided" in [one.code for one in (await mover.plan(looked_at.tenant, "acme")).refusals]
    finally:
        looked_at.near.psql("DROP TABLE note, item", looked_at.shared)


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
async def test_a_mover_without_privileges_is_told_the_statement_that_fixes_it(
    looked_at: Estate, attributes: str, codes: set[str]
) -> None:
    for server, name in ((looked_at.near, looked_at.shared), (looked_at.far, looked_at.dedicated)):
        server.psql("DROP ROLE IF EXISTS carrier", name)
        server.psql(f"CREATE ROLE carrier LOGIN {attributes}; GRANT pg_monitor TO carrier", name)
    grants = "GRANT USAGE ON SCHEMA tenantry TO carrier; GRANT SELECT ON ALL TABLES IN SCHEMA tenantry TO carrier"
    looked_at.near.psql(grants, looked_at.shared)
    try:
        ends = looked_at.endpoints
        carriers = {name: replace(end, dsn=end.dsn.replace("postgres@", "carrier@")) for name, end in ends.items()}
        plan = await looked_at.mover(endpoints=carriers).plan(looked_at.tenant, "acme")
        assert {finding.code for finding in plan.refusals} == codes
        assert all("carrier" in finding.fix for finding in plan.refusals if finding.code != "no-create")
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


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ("ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'", "encoding-differs"),
        ("LC_COLLATE 'C' LC_CTYPE 'C'", "collation-differs"),
        (
            "LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8' LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C'",
            "collation-differs",
        ),
    ],
)
async def test_a_target_that_sorts_or_spells_otherwise_is_refused(
    looked_at: Estate, options: str, code: str
) -> None:
    with database(looked_at.far) as odd:
        looked_at.far.psql(f'DROP DATABASE "{odd}"')
        looked_at.far.psql(f'CREATE DATABASE "{odd}" TEMPLATE template0 {options}')
        ends = looked_at.endpoints
        ends["acme"] = replace(ends["acme"], dsn=looked_at.far.dsn(odd))
        plan = await looked_at.mover(endpoints=ends).plan(looked_at.tenant, "acme")
        (finding,) = [finding for finding in plan.refusals if finding.code == code]
        assert "template0" in finding.fix


async def test_a_target_with_another_schema_is_refused_line_by_line(estate18: Estate) -> None:
    """On an estate of its own: only so many lines are told, and others leave tables in the shared one."""
    shape = "CREATE TABLE account (tenant_id uuid NOT NULL, id bigint NOT NULL, balance numeric)"
    estate18.far.psql(shape, estate18.dedicated)
    plan = await estate18.mover().plan(estate18.tenant, "acme")
    problems = [finding.problem for finding in plan.refusals if finding.code == "schema-differs"]
    assert "acme lacks table public.entry: ordinary" in problems
    assert "column public.account.balance is bigint in shared, and numeric in acme" in problems
    assert "acme lacks not null public.account.balance: not null" in problems


async def test_an_open_session_that_could_write_past_the_fence_is_told_but_stops_nothing(
    looked_at: Estate,
) -> None:
    settings = {"application_name": "nightly"}
    owner = await asyncpg.connect(looked_at.endpoints["shared"].dsn, server_settings=settings)
    try:
        plan = await looked_at.mover().plan(looked_at.tenant, "acme")
        told = [finding.problem for finding in plan.findings if finding.code == "bypassing-session"]
        assert ["postgres (nightly)" in problem for problem in told] == [True]
        assert plan.refusals == ()
    finally:
        await owner.close()


@pytest.mark.parametrize(
    ("setting", "code"),
    [
        ("max_replication_slots", "no-slots"),
        ("max_wal_senders", "no-senders"),
        ("max_logical_replication_workers", "no-workers"),
    ],
)
async def test_a_server_without_slots_senders_or_workers_is_refused(
    pg18: EmbeddedServer, setting: str, code: str
) -> None:
    with EmbeddedServer.start(18, settings={setting: "1"}) as far:
        estate = await Estate.make(pg18, far)
        try:
            plan = await estate.mover().plan(estate.tenant, "acme")
            (finding,) = [finding for finding in plan.refusals if finding.code == code]
            assert "acme has 1" in finding.problem
            assert f"ALTER SYSTEM SET {setting} = 3" in finding.fix
        finally:
            estate.drop()


async def test_the_room_at_the_target_is_looked_up_on_its_own_disk_or_said_to_be_unknown(
    looked_at: Estate,
) -> None:
    plan = await looked_at.mover().plan(looked_at.tenant, "acme")
    assert plan.disk_space is not None
    space = os.statvfs(looked_at.far.folder)
    assert plan.disk_space.free == pytest.approx(space.f_bavail * space.f_frsize, rel=0.2)
    assert "data directory" in plan.disk_space.origin
    looked_at.far.psql("CREATE ROLE blind LOGIN SUPERUSER; ALTER ROLE blind NOSUPERUSER BYPASSRLS REPLICATION")
    try:
        ends = looked_at.endpoints
        ends["acme"] = replace(ends["acme"], dsn=ends["acme"].dsn.replace("postgres@", "blind@"))
        blind = await looked_at.mover(endpoints=ends).plan(looked_at.tenant, "acme")
        assert blind.disk_space is not None
        assert blind.disk_space.free is None
        assert blind.disk_space.origin.startswith("unknown")
        assert not {"no-disk", "disk-tight"} & {finding.code for finding in blind.findings}
    finally:
        looked_at.far.psql("DROP ROLE blind")


async def test_a_target_that_is_known_to_be_too_small_is_refused(looked_at: Estate) -> None:
    ends = looked_at.endpoints
    (used,) = await looked_at.fetch("acme", "SELECT pg_database_size(current_database()) AS size")
    plan = await looked_at.mover().plan(looked_at.tenant, "acme")
    assert plan.disk_space is not None
    for extra, codes in ((plan.disk_space.needed - 1, {"no-disk"}), (plan.disk_space.needed + 1, {"disk-tight"})):
        ends["acme"] = replace(ends["acme"], disk=used["size"] + extra)
        found = (await looked_at.mover(endpoints=ends).plan(looked_at.tenant, "acme")).findings
        assert {finding.code for finding in found} & {"no-disk", "disk-tight"} == codes
