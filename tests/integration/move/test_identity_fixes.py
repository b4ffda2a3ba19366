"""A table without a replica identity that holds its tenant gets one by what preflight prints, as it stands."""

from __future__ import annotations

import pytest

from tenantry.move import State
from tests.support.estate import Estate

SHAPES = {
    "a key without the tenant": """CREATE TABLE "It's".t
        ("Tenant-Id" uuid NOT NULL, "Key's" int PRIMARY KEY, n int)""",
    "a tenant that may be null": """CREATE TABLE "It's".t ("Tenant-Id" uuid, "Key's" int PRIMARY KEY, n int)""",
    "no key": """CREATE TABLE "It's".t ("Tenant-Id" uuid NOT NULL, "Key's" int, n int)""",
    "partitions without a key": """CREATE TABLE "It's".t ("Tenant-Id" uuid NOT NULL, "Key's" int, n int)
        PARTITION BY RANGE ("Key's"); CREATE TABLE "It's"."t 1" PARTITION OF "It's".t DEFAULT""",
    "partitions with a key without the tenant": """CREATE TABLE "It's".t ("Tenant-Id" uuid NOT NULL,
        "Key's" int PRIMARY KEY, n int) PARTITION BY RANGE ("Key's");
        CREATE TABLE "It's"."t 1" PARTITION OF "It's".t DEFAULT""",
}
GUARDED = """
ALTER TABLE "It's".{0} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY mine ON "It's".{0}
    USING ("Tenant-Id" = nullif(current_setting('app.current_tenant', true), '')::uuid);
CREATE POLICY tenantry_guard ON "It's".{0} AS RESTRICTIVE USING ((SELECT tenantry.admitted()));
"""


@pytest.mark.parametrize("shape", SHAPES)
async def test_the_printed_identity_is_executed_as_it_stands_and_the_table_moves(
    estate18: Estate, shape: str
) -> None:
    guards = GUARDED.replace("{0}", "t") + (GUARDED.replace("{0}", '"t 1"') if "partitions" in shape else "")
    estate18.near.psql(
        f"""CREATE SCHEMA "It's"; {SHAPES[shape]}; {guards}
        INSERT INTO "It's".t SELECT '{estate18.tenant}', i, i FROM generate_series(1, 20) AS i;
        INSERT INTO "It's".t SELECT '{estate18.tenants[1]}', i, i FROM generate_series(101, 120) AS i""",
        estate18.shared,
    )
    mover = estate18.mover()
    (finding,) = (await mover.plan(estate18.tenant, "acme")).refusals
    assert finding.code == "identity-without-tenant"
    for statement in finding.fix.split("; "):
        estate18.near.psql(statement, estate18.shared)
    plan = await mover.plan(estate18.tenant, "acme")
    assert plan.refusals == ()
    assert (await mover.run(plan)).state is State.FLIPPED
    # The others' UPDATEs go on at the old home, which publishes the table until the release.
    others = f"""UPDATE "It's".t SET n = n + 1 WHERE "Tenant-Id" = '{estate18.tenants[1]}'"""
    estate18.near.psql(others, estate18.shared)
    assert (await mover.rollback((await mover.list())[0].id)).state is State.ROLLED_BACK
