"""Tables that are tenants' only through a chain of foreign keys: refused by name, never left behind."""

from __future__ import annotations

import asyncpg
import pytest

from tenantry.catalog.read import read
from tenantry.catalog.tenancy import Tenancy
from tenantry.isolation.audit import audit
from tenantry.isolation.plan import plan as plan_rls
from tenantry.move import State
from tests.support.estate import Estate
from tests.support.installing import SETTING

#: Each hangs on the one before, the first on a tenants' table; one of them is partitioned, one refers to itself.
CHAIN = """
CREATE SCHEMA "It's";
CREATE TABLE "It's"."Line" ("Id" bigint PRIMARY KEY, "Of Entry" bigint NOT NULL REFERENCES entry (id),
    "Above" bigint REFERENCES "It's"."Line");
CREATE TABLE "It's"."Parts" ("Id" bigint, "Line" bigint NOT NULL REFERENCES "It's"."Line", PRIMARY KEY ("Id"))
    PARTITION BY RANGE ("Id");
CREATE TABLE "It's"."Parts 1" PARTITION OF "It's"."Parts" FOR VALUES FROM (0) TO (1000000);
CREATE TABLE "It's"."Far ""away"" off" ("Id" bigint PRIMARY KEY, "Part" bigint NOT NULL REFERENCES "It's"."Parts");
INSERT INTO "It's"."Line" SELECT id, id FROM entry;
INSERT INTO "It's"."Parts" SELECT "Id", "Id" FROM "It's"."Line";
INSERT INTO "It's"."Far ""away"" off" SELECT "Id", "Id" FROM "It's"."Parts";
GRANT USAGE ON SCHEMA "It's" TO app;
"""
LINE, PARTS, FAR = "It's.Line", "It's.Parts", 'It\'s.Far "away" off'
COUNTED = (
    'SELECT (SELECT count(*) FROM "It\'s"."Line") || \' \' || (SELECT count(*) FROM "It\'s"."Parts") || \' \' || '
    '(SELECT count(*) FROM "It\'s"."Far ""away"" off")'
)


@pytest.fixture
async def chained(estate18: Estate) -> Estate:
    estate18.near.psql(CHAIN, estate18.shared)
    return estate18


async def refusals(estate: Estate, **tables: str) -> dict[str, list[tuple[str, str]]]:
    mover = estate.mover(tenancy=Tenancy(setting=SETTING, tables=tables))
    found: dict[str, list[tuple[str, str]]] = {}
    for one in (await mover.plan(estate.tenant, "acme")).refusals:
        found.setdefault(one.code, []).append((one.problem, one.fix))
    return found


async def test_each_table_of_a_chain_is_refused_with_the_key_that_leads_to_the_tenants(chained: Estate) -> None:
    told = await refusals(chained)
    assert [problem for problem, _ in told["tenant-column-missing"]] == [
        '"It\'s"."Far ""away"" off" belongs to tenants by foreign keys only (Far "away" off_Part_fkey)',
        '"It\'s"."Line" belongs to tenants by foreign keys only (Line_Of Entry_fkey)',
        '"It\'s"."Parts" belongs to tenants by foreign keys only (Parts_Line_fkey)',
    ]


@pytest.mark.parametrize("word", ["ignore", "reference", "once"])
async def test_no_override_of_a_chain_lets_it_stay_behind_and_the_printed_fix_ends_it(
    chained: Estate, word: str
) -> None:
    told = await refusals(chained, **dict.fromkeys((LINE, PARTS, FAR), word))
    first = [problem for problem, _ in told["table-undecided"]]
    # What hangs on rows that are everybody's is nobody's; what hangs on ignored ones is the tenants' all the same.
    assert len(first) == (3 if word == "ignore" else 1)
    assert all(f"is listed as {word!r}, but its rows belong to tenants by its foreign key" in one for one in first)
    for _, fix in told["table-undecided"]:
        chained.near.psql(fix.partition("if its rows are nobody's: ")[2], chained.shared)
    assert "table-undecided" not in await refusals(chained, **dict.fromkeys((LINE, PARTS, FAR), word))


async def test_what_the_audit_prints_for_a_chain_makes_the_whole_of_it_the_tenants(chained: Estate) -> None:
    tenancy = Tenancy(setting=SETTING)
    connection = await asyncpg.connect(chained.endpoints["shared"].dsn)
    try:
        for _ in range(3):  # a table two keys away is filled from one that has the column by then
            findings = audit(await read(connection), tenancy, role="app").findings
            for one in findings:
                if one.rule.code == "TN204":
                    assert "Parts 1" not in one.object, "its parent's column is the partition's"
                    for statement in one.fix:
                        await connection.execute(statement)
        for _ in range(2):
            for step in plan_rls(await read(connection), tenancy, role="app", foreign_keys=True).steps:
                for statement in step.statements:
                    await connection.execute(statement)
        left = audit(await read(connection), tenancy, role="app").findings
        assert [one.object for one in left if one.rule.code == "TN204"] == ["public.currency"]
    finally:
        await connection.close()
    mover = chained.mover(tenancy=tenancy)
    plan = await mover.plan(chained.tenant, "acme")
    assert plan.refusals == ()
    assert (await mover.run(plan)).state is State.FLIPPED
    assert chained.far.psql(COUNTED, chained.dedicated) == "200 200 200"
