"""What the tables are made of is compared in one form, before a row is copied."""

from __future__ import annotations

import asyncpg
import pytest

from tenantry.embedded import EmbeddedError
from tenantry.ids import IdType, Kind
from tenantry.move import MoveRefused, MoveStopped, State
from tenantry.move.pg_dump import POST_DATA, PRE_DATA, dump, find_pg_dump
from tenantry.schema import install_data
from tests.support.estate import Estate

#: Each is stored in another way once it was dumped and loaded, or is easily taken for something that it is not.
LOOKS = """
CREATE SCHEMA "My Shop";
CREATE COLLATION "My Shop"."by Number" (provider = libc, locale = 'C');
CREATE TYPE "My Shop"."State" AS ENUM ('new', 'it''s (done)');
CREATE DOMAIN "My Shop".code AS varchar(8) CHECK (VALUE IN ('A', 'B')) CONSTRAINT "Not Odd" CHECK (VALUE <> ']');
CREATE TYPE "My Shop".pair AS (a int, b text COLLATE "C");
CREATE FUNCTION "My Shop"."Price"(n numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT n * 2';
CREATE FUNCTION "My Shop".touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TABLE "My Shop"."Order Line" (
    tenant_id uuid NOT NULL, id bigint GENERATED ALWAYS AS IDENTITY (INCREMENT 3),
    state varchar(20) NOT NULL DEFAULT 'new' CHECK (state IN ('new', 'done', 'it''s]')),
    kind "My Shop"."State" DEFAULT 'new', code "My Shop".code, pair "My Shop".pair,
    name text COLLATE "My Shop"."by Number", n numeric(10, 2) DEFAULT -1.5,
    at timestamptz DEFAULT (now() AT TIME ZONE 'utc'), day date,
    "twice" numeric GENERATED ALWAYS AS ("My Shop"."Price"(n)) STORED,
    CONSTRAINT "Range" CHECK (n BETWEEN -10 AND 10 AND state <> 'x' AND (day IS NULL OR day > '2020-01-01')),
    CONSTRAINT loose CHECK (n < 100) NOT VALID,
    CHECK (state = ANY (ARRAY['new', 'done', 'it''s]']::varchar[])),
    PRIMARY KEY (tenant_id, id) WITH (fillfactor = 70), UNIQUE NULLS NOT DISTINCT (tenant_id, code)
);
CREATE INDEX "By State" ON "My Shop"."Order Line" (tenant_id, lower(state)) WITH (fillfactor = 60)
    WHERE state IN ('new', 'done') AND (n > 0 AND n < 5);
CREATE TRIGGER "T" BEFORE UPDATE ON "My Shop"."Order Line" FOR EACH ROW
    WHEN (NEW.state IN ('new', 'done') AND OLD.n BETWEEN 1 AND 2) EXECUTE FUNCTION "My Shop".touch();
CREATE TABLE "My Shop".log (
    tenant_id uuid NOT NULL, "Day" date NOT NULL, what varchar CHECK (what IN ('a', 'b')),
    PRIMARY KEY (tenant_id, "Day")
) PARTITION BY RANGE ("Day");
CREATE TABLE "My Shop"."log 2026" PARTITION OF "My Shop".log (CHECK (what IN ('a')))
    FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE INDEX ON "My Shop".log (tenant_id) WHERE what IN ('a', 'b');
INSERT INTO "My Shop"."Order Line" (tenant_id, n) SELECT id::uuid, 1 FROM unnest(ARRAY[{tenants}]) AS id;
INSERT INTO "My Shop".log SELECT id::uuid, '2026-03-01', 'a' FROM unnest(ARRAY[{tenants}]) AS id;
GRANT USAGE ON SCHEMA "My Shop" TO app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA "My Shop" TO app;
"""
INVALID = 'CREATE UNIQUE INDEX CONCURRENTLY never ON "My Shop"."Order Line" (tenant_id, state)'


def dress(estate: Estate) -> None:
    tenants = ", ".join(f"'{tenant}'" for tenant in estate.tenants)
    estate.near.psql(LOOKS.replace("{tenants}", tenants), estate.shared)
    for name in ('"My Shop"."Order Line"', '"My Shop".log', '"My Shop"."log 2026"'):
        estate.near.psql(
            f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY; ALTER TABLE {name} FORCE ROW LEVEL SECURITY; "
            f"CREATE POLICY tenantry_tenant ON {name} USING (tenant_id = nullif(current_setting("
            "'app.current_tenant', true), '')::uuid AND (SELECT tenantry.admitted()))",
            estate.shared,
        )


async def dumped(estate: Estate) -> str:
    """The schema as a target of migrations has it: not the source's own, but loaded from its dump."""
    program = await find_pg_dump(18)
    assert program is not None
    parts = [await dump(program, estate.endpoints["shared"], section) for section in (PRE_DATA, POST_DATA)]
    return "\n".join(parts)


async def test_definitions_that_only_look_different_pass_whoever_loads_them(estate: Estate) -> None:
    dress(estate)
    estate.near.psql(
        'INSERT INTO "My Shop"."Order Line" (tenant_id, code) SELECT tenant_id, \'A\' FROM "My Shop"."Order Line"',
        estate.shared,
    )
    with pytest.raises(EmbeddedError, match="could not create unique"):
        estate.near.psql(INVALID, estate.shared)
    mover = estate.mover()
    plan = await mover.plan(estate.tenant, "acme")
    assert plan.refusals == ()
    assert plan.load_schema
    record = await mover.run(plan)
    assert record.state is State.FLIPPED
    assert (await mover.rollback(record.id)).state is State.ROLLED_BACK
    again = await mover.plan(estate.tenant, "acme")
    assert [one for one in again.refusals if one.code != "target-not-empty"] == []
    assert not again.load_schema


#: What is done to the target, and what of it is told.
DIFFERENT = {
    'ALTER TABLE "My Shop"."Order Line" DROP CONSTRAINT "Range"':
        'lacks constraint "My Shop"."Order Line"."Range"',
    'ALTER TABLE "My Shop".log ADD CONSTRAINT "more""" CHECK (what <> \'c\')': 'only acme has constraint',
    'DROP INDEX "My Shop"."By State"': 'lacks index "My Shop"."By State"',
    'ALTER TABLE "My Shop"."Order Line" ALTER n SET DEFAULT 4': 'default "My Shop"."Order Line".n is',
    'ALTER TABLE "My Shop"."Order Line" ALTER state DROP NOT NULL': 'lacks not null "My Shop"."Order Line".state',
    'ALTER TABLE "My Shop"."log 2026" ALTER what SET NOT NULL': 'only acme has not null "My Shop"."log 2026".what',
    'CREATE OR REPLACE FUNCTION "My Shop"."Price"(n numeric) RETURNS numeric LANGUAGE sql IMMUTABLE '
    "AS 'SELECT n * 3'": 'function "My Shop"."Price"(numeric) is',
    'CREATE OR REPLACE FUNCTION "My Shop".touch() RETURNS trigger LANGUAGE plpgsql AS \'BEGIN RETURN NULL; END\'':
        'function "My Shop".touch() is',
    'ALTER DOMAIN "My Shop".code DROP CONSTRAINT "Not Odd"': 'lacks constraint "My Shop".code."Not Odd"',
    'CREATE RULE "odd one" AS ON DELETE TO "My Shop".log DO ALSO NOTHING':
        'only acme has rule "My Shop".log."odd one"',
    'ALTER SEQUENCE "My Shop"."Order Line_id_seq" INCREMENT 7': 'sequence "My Shop"."Order Line_id_seq" is',
}  # fmt: skip
AGAIN = {
    'ALTER TABLE "My Shop"."Order Line" DROP CONSTRAINT "Range", ADD CONSTRAINT "Range" CHECK (n > 1)':
        'constraint "My Shop"."Order Line"."Range" is CHECK',
    'DROP INDEX "My Shop"."By State"; CREATE INDEX "By State" ON "My Shop"."Order Line" (tenant_id, lower(state)) '
    "WHERE state IN ('new')": 'index "My Shop"."By State" is CREATE INDEX',
    'ALTER TABLE "My Shop"."Order Line" ALTER n DROP DEFAULT': 'lacks default "My Shop"."Order Line".n',
}  # fmt: skip
#: The fix is no statement, because rows hang on it.
UNFIXED = {
    'ALTER TABLE "My Shop"."Order Line" ALTER name TYPE text COLLATE "C"':
        'column "My Shop"."Order Line".name is text COLLATE',
    'ALTER TYPE "My Shop"."State" ADD VALUE \'gone\'': 'type "My Shop"."State" is enum',
    'ALTER TYPE "My Shop".pair ADD ATTRIBUTE c int': 'type "My Shop".pair is composite',
    'ALTER TABLE "My Shop"."Order Line" ADD extra int': 'only acme has column "My Shop"."Order Line".extra',
    'ALTER TABLE "My Shop"."Order Line" SET UNLOGGED': 'table "My Shop"."Order Line" is ordinary in shared',
    'DROP TABLE "My Shop"."log 2026"': 'lacks table "My Shop"."log 2026"',
    'CREATE TABLE kid () INHERITS (account)': "only acme has child public.kid",
}  # fmt: skip


async def test_definitions_that_differ_are_refused_by_name_and_the_fix_ends_the_finding(estate18: Estate) -> None:
    estate = estate18
    dress(estate)
    text = await dumped(estate)
    mover = estate.mover()
    for changes in (DIFFERENT, AGAIN, UNFIXED):
        estate.far.psql(f'DROP DATABASE "{estate.dedicated}"')
        estate.far.psql(f'CREATE DATABASE "{estate.dedicated}" TEMPLATE template0')
        target = await asyncpg.connect(estate.endpoints["acme"].dsn)
        try:
            await install_data(
                target, name="acme", kind=Kind.DEDICATED, setting="app.current_tenant", id_type=IdType.UUID,
                application_role="app", tenant=str(estate.tenant),
            )  # fmt: skip
            await target.execute(text)
            await target.execute("SET search_path = public")
            if changes is DIFFERENT:
                assert (await mover.plan(estate.tenant, "acme")).refusals == (), "as it was loaded"
            await target.execute(";".join(changes))
            plan = await mover.plan(estate.tenant, "acme")
            found = [one for one in plan.refusals if one.code == "schema-differs"]
            assert [told for told in changes.values() if not any(told in one.problem for one in found)] == []
            with pytest.raises(MoveRefused):
                await mover.run(plan)
            statements = [one.fix.partition("; as shared has it: ")[2] for one in found]
            assert [bool(statement) for statement in statements] == [changes is not UNFIXED] * len(found)
            if changes is not UNFIXED:
                await target.execute(";".join(statements))
            left = (await mover.plan(estate.tenant, "acme")).refusals
            assert (left != ()) == (changes is UNFIXED), left
        finally:
            await target.close()


async def test_a_schema_that_the_target_does_not_take_is_told_before_a_row_is_copied(estate18: Estate) -> None:
    mover = estate18.mover()
    plan = await mover.plan(estate18.tenant, "acme")
    estate18.far.psql(
        "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS "
        "$$BEGIN RAISE 'no indexes here'; END$$;"
        "CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION refuse()",
        estate18.dedicated,
    )
    with pytest.raises(MoveStopped, match="no indexes here"):
        await mover.run(plan)
    assert await estate18.fetch("acme", "SELECT FROM account") == []
    assert await estate18.fetch("shared", "SELECT FROM pg_publication") == []
    estate18.far.psql("DROP EVENT TRIGGER refuse", estate18.dedicated)
    assert (await mover.resume(plan.id)).state is State.FLIPPED
