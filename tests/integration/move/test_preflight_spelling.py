"""Rows of a tenant under another spelling of its id are no move's to leave behind."""

from __future__ import annotations

from tenantry.move import State
from tests.support.estate import Estate


async def test_a_tenant_whose_rows_spell_it_otherwise_is_not_moved_without_them(estate18: Estate) -> None:
    tenant = str(estate18.tenant)
    estate18.near.psql(
        f"""CREATE SCHEMA "It's"; CREATE TABLE "It's"."Badge" ("Tenant-Id" varchar(60) NOT NULL, id int,
            PRIMARY KEY ("Tenant-Id", id));
        INSERT INTO "It's"."Badge" VALUES (upper('{tenant}'), 1), (replace('{tenant}', '-', ''), 2),
            ('{estate18.tenants[1]}', 3)""",
        estate18.shared,
    )
    mover = estate18.mover()
    plan = await mover.plan(estate18.tenant, "acme")
    (finding,) = plan.refusals
    assert finding.code == "id-spelt-otherwise"
    assert "2 rows of" in finding.problem
    listed = estate18.near.psql(finding.problem.partition("this lists them: ")[2], estate18.shared)
    assert {line.split("|")[1] for line in listed.splitlines()} == {"1", "2"}
    assert "id-spelt-otherwise" not in [f.code for f in (await mover.plan(estate18.tenants[1], "acme")).refusals]
    estate18.near.psql(finding.fix, estate18.shared)
    again = await mover.plan(estate18.tenant, "acme")
    assert again.refusals == ()
    assert (await mover.run(again)).state is State.FLIPPED
    assert estate18.far.psql('SELECT count(*) FROM "It\'s"."Badge"', estate18.dedicated) == "2"
