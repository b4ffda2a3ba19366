"""Every fix that plan and audit print runs as it stands on hostile names, and ends what it was printed for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tenantry.catalog.read import read
from tenantry.catalog.tables import Undecided
from tenantry.catalog.tenancy import Tenancy
from tenantry.ids import IdType
from tenantry.isolation.apply import adopt, compute
from tenantry.isolation.audit import audit
from tenantry.isolation.misspelt import read_misspelt
from tenantry.runtime.sqltext import identifier, qualified
from tests.integration.isolation.conftest import Connection, install
from tests.support.citus import PRETEND

TENANCY = Tenancy(column='Tenant "Id"', tables={"My App.50%": "reference"})
SCHEMA = Path(__file__).parents[2] / "schemas" / "hostile.sql"
NAMES = {
    "{T}": identifier(TENANCY.column),
    "{orders}": qualified("My App", "Order's"),
    "{lines}": qualified("it's", 'Line "Item"'),
    "{days}": qualified("My App", "$do$"),
    "{part}": qualified("it's", "$do$ 2026"),
    "{log}": qualified("My App", "Log's"),
    "{view}": qualified("it's", "All's"),
    "{sums}": qualified("it's", "Sum's"),
    "{sequence}": qualified("it's", 'Line "Item"_Id_seq'),
    "{S}": "nullif(current_setting('app.current_tenant', true), '')::uuid",
    "{a}": "11111111-1111-4111-8111-111111111111",
    "{b}": "22222222-2222-4222-8222-222222222222",
}
DEFINER = "SECURITY DEFINER SET search_path = pg_catalog"

FAULTS = {
    "TN101": "ALTER TABLE {orders} DISABLE ROW LEVEL SECURITY",
    "TN102": "ALTER TABLE {lines} NO FORCE ROW LEVEL SECURITY",
    "TN103": "DROP POLICY tenantry_tenant ON {days}",
    "TN104": "ALTER POLICY tenantry_tenant ON {orders} USING (true) WITH CHECK (true)",
    "TN105": """CREATE POLICY "It's open" ON {lines} USING (true)""",
    "TN106": "ALTER POLICY tenantry_tenant ON {orders} USING ({T} = current_setting('app.current_tenant')::uuid)",
    "TN107": """DROP POLICY tenantry_tenant ON {orders}; CREATE POLICY "It's slow" ON {orders} USING ({T} = {S}
        AND EXISTS (SELECT FROM {lines} AS l WHERE l."Order" = "Order's"."No%s"))""",
    "TN108": "ALTER POLICY tenantry_tenant ON {lines} WITH CHECK (true)",
    "TN109": """DROP POLICY tenantry_tenant ON {orders};
        CREATE POLICY "It's odd" ON {orders} USING (ARRAY[{T}] <@ ARRAY[{S}])""",
    "TN110": "ALTER POLICY tenantry_tenant ON {days} USING ({T} = {S} AND {T} = {S})",
    "TN111": "ALTER POLICY tenantry_tenant ON {lines} USING ({T} = {S} OR current_setting('a.b', true) = 'on')",
    "TN112": """ALTER POLICY tenantry_tenant ON {lines}
        USING ({T}::text = nullif(current_setting('a.b', true), ''))""",
    "TN115": "ALTER POLICY tenantry_tenant ON {orders} USING ({T}::text = current_user)",
    "TN116": "DROP POLICY tenantry_guard ON {orders}; ALTER POLICY tenantry_guard ON {days} USING (true)",
    "TN117": """CREATE POLICY "It's staff" ON {lines}
        USING (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role' = 'staff')""",
    "TN118": """CREATE POLICY "It's theirs" ON {lines} USING ({T} = {S}
        AND current_setting('request.jwt.claims', true)::jsonb ->> 'sub' = 'It''s')""",
    "TN119": f"""{PRETEND}; INSERT INTO pg_catalog.pg_dist_partition
        SELECT oid, '' FROM pg_class WHERE relname = 'Line "Item"';
        CREATE POLICY "It's narrow" ON {{lines}} AS RESTRICTIVE USING ({{T}} = {{S}})""",
    "TN201": """DROP INDEX "My App"."Log's_tenantry_idx" """,
    "TN203": """CREATE TABLE "it's"."Free's" ({T} uuid, "Id" int)""",
    "TN204": """CREATE TABLE "it's"."No Tenant's" ("Id" int PRIMARY KEY,
        "Was" bigint REFERENCES {orders} ("No%s"), "Is" int NOT NULL REFERENCES {lines} ("Id"));
        INSERT INTO "it's"."No Tenant's" SELECT "Id", NULL, "Id" FROM {lines}""",
    "TN204 ": """CREATE TABLE "it's"."No Tenant's" ("Id" int PRIMARY KEY,
        "Was" bigint REFERENCES {orders} ("No%s"));
        INSERT INTO "it's"."No Tenant's" VALUES (1)""",
    "TN205": """CREATE TABLE "it's"."Padded's" ({T} char(36))""",
    "TN207": 'GRANT INSERT ON "My App"."50%" TO {group}',
    "TN208": """CREATE TABLE "it's"."Text's" ({T} varchar(60), "Id" int);
        INSERT INTO "it's"."Text's" VALUES (upper('{a}'), 1), (' ' || replace('{a}', '-', ''), 2), ('{a}', 3)""",
    "TN301": "ALTER TABLE {part} DISABLE ROW LEVEL SECURITY; GRANT SELECT ON {part} TO {group}",
    "TN302": "ALTER VIEW {view} SET (security_invoker = false); GRANT SELECT ON {view} TO {group}",
    "TN303": "GRANT SELECT ON {sums} TO {group}",
    "TN305": """ALTER TABLE {lines} ADD CONSTRAINT "It's loose"
        FOREIGN KEY ("Was") REFERENCES {orders} ("No%s")""",
    "TN306": """ALTER TABLE {orders} ADD CONSTRAINT "One's" UNIQUE ("Bill To")""",
    "TN401": f"""CREATE PROCEDURE "it's"."Do It"("A b" int) LANGUAGE sql {DEFINER}
        AS $$ DELETE FROM {{orders}} $$""",
    "TN402": """CREATE FUNCTION "it's"."F's"("A b" int) RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'""",
    "TN403": f"""CREATE FUNCTION "it's"."T's"() RETURNS trigger LANGUAGE plpgsql {DEFINER}
        AS $$ BEGIN DELETE FROM {{lines}}; RETURN new; END $$;
        CREATE TRIGGER "On's" AFTER INSERT ON {{orders}} FOR EACH ROW EXECUTE FUNCTION "it's"."T's"()""",
    "TN404": "GRANT TRUNCATE ON {orders} TO {group}",
    "TN405": "GRANT pg_read_server_files TO {group}",
    "TN406": "ALTER TABLE {orders} OWNER TO {group}",
    "TN407": "GRANT UPDATE ON SEQUENCE {sequence} TO {group}",
    "TN408": "SELECT lo_create(4242); ALTER LARGE OBJECT 4242 OWNER TO {group}",
    "TN409": "GRANT SELECT ON pg_catalog.pg_statistic TO {group}",
    "TN410": "GRANT SELECT, UPDATE ON tenantry.placement TO {group}",
    "TN411": """GRANT CREATE ON SCHEMA "it's" TO {group}; GRANT CREATE ON SCHEMA public TO {group}""",
    "TN412": "ALTER ROLE {role} SET app.current_tenant = 'x'",
    "TN413": """CREATE TABLE tenantry.tenant (id text, state text);
        GRANT SELECT, INSERT ON tenantry.tenant TO {group}""",
    "TN501": "ALTER TABLE {orders} REPLICA IDENTITY DEFAULT",
}


class World(NamedTuple):
    """The hostile schema, adopted, and a role that is a member of a group with a hostile name."""

    connection: Connection
    role: str
    group: str

    async def undecided(self) -> tuple[Undecided, ...]:
        """As `tenantry rls plan` asks."""
        return (await compute(self.connection, TENANCY, role=self.role, not_null=False)).undecided

    async def findings(self) -> dict[str, tuple[str, ...]]:
        catalog = await read(self.connection)
        misspelt = await read_misspelt(self.connection, catalog, TENANCY)
        report = audit(catalog, TENANCY, role=self.role, misspelt=misspelt)
        return {one.key: one.fix for one in report.findings if one.rule.code != "TN502"}

    async def run(self, statements: str) -> None:
        roles = {"{group}": identifier(self.group), "{role}": identifier(self.role)}
        for name, value in {**NAMES, **roles}.items():
            statements = statements.replace(name, value)
        await self.connection.execute(statements)


@pytest.fixture
async def world(connection: Connection, role: str, other_role: str) -> AsyncIterator[World]:
    group = f"it's 50% {other_role}"
    made = World(connection, role, group)
    await install(connection, IdType.UUID)
    await connection.execute("SELECT tenantry.grant_application($1)", role)
    await connection.execute(f"ALTER ROLE {identifier(other_role)} RENAME TO {identifier(group)}")
    try:
        await made.run(
            f"GRANT {{group}} TO {identifier(role)}; SELECT tenantry.grant_application('{{plain}}')".replace(
                "{plain}", group.replace("'", "''")
            )
        )
        await made.run(SCHEMA.read_text(encoding="utf-8"))
        await adopt(connection, TENANCY, role=role, foreign_keys=True)
        yield made
    finally:
        await connection.execute(f"ALTER ROLE {identifier(group)} RENAME TO {identifier(other_role)}")


@pytest.mark.parametrize("code", FAULTS)
async def test_a_printed_fix_runs_as_it_stands_and_ends_the_finding(world: World, code: str) -> None:
    before = await world.findings()
    await world.run(FAULTS[code])
    after = await world.findings()
    found = {key: fix for key, fix in after.items() if key.startswith(code.strip()) and key not in before}
    assert found, f"{code} is not found on hostile names: {sorted(after)}"
    for key, fix in found.items():
        assert fix, f"{key} has no fix"
        for statement in fix:
            await world.connection.execute(statement)
        assert key not in await world.findings()


def test_every_fix_of_the_audit_is_run_on_hostile_names() -> None:
    from tenantry.isolation.audit import every_rule

    people = {"TN113", "TN114", "TN202", "TN502"}  # the same statements as others print, or none
    assert {code.strip() for code in FAULTS} | people == {rule.code for rule, _ in every_rule()}


DECISIONS = {
    "a policy of another setting": ("policy", """DROP POLICY tenantry_tenant ON {orders};
        CREATE POLICY "Other's" ON {orders} USING ({T}::text = current_setting('a.org', true))"""),
    "a policy that fails unbound": ("policy", """DROP POLICY tenantry_tenant ON {orders};
        CREATE POLICY "Loud" ON {orders} USING ({T}::text = current_setting('app.current_tenant'))"""),
    "a policy that hides all": ("policy", """DROP POLICY tenantry_tenant ON {orders};
        CREATE POLICY "Nobody's" ON {orders}"""),
    "an open policy on a partitioned table": ("policy", """CREATE POLICY "Open's" ON {days} USING (true)"""),
    "rows of nobody that a policy shows": ("nulls", """
        CREATE TABLE "it's"."Shared's" ({T} uuid, "Id" int PRIMARY KEY);
        ALTER TABLE "it's"."Shared's" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
        CREATE POLICY "Nobody's too" ON "it's"."Shared's" FOR SELECT
            USING ({T} = {S} OR {T} IS NULL)"""),
    "a tenant that is taken away": ("nulls", """CREATE TABLE "it's"."Tenant's" (id uuid PRIMARY KEY);
        CREATE TABLE "it's"."Taken's" ("Id" int,
            {T} uuid REFERENCES "it's"."Tenant's" (id) ON DELETE SET NULL)"""),
    "a column that takes NULL": ("nulls", """CREATE TABLE "it's"."Free's" ({T} uuid, "Id" int PRIMARY KEY)"""),
    "rows of nobody": ("nulls", """CREATE TABLE "it's"."Free's" ({T} uuid, "Id" int PRIMARY KEY);
        INSERT INTO "it's"."Free's" VALUES (NULL, 1)"""),
    "a foreign key": ("foreign key", """ALTER TABLE {lines} ADD CONSTRAINT "It's loose" FOREIGN KEY ("Was")
        REFERENCES {orders} ("No%s")"""),
    "a materialized view, through a group": ("view", "GRANT SELECT ON {sums} TO {group}"),
    "a materialized view, for everybody": ("view", "GRANT SELECT ON {sums} TO PUBLIC"),
    "a role that may not call what policies call": ("role", """REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA tenantry
        FROM PUBLIC, {group}; GRANT SELECT ON {lines} TO {group}"""),
}  # fmt: skip


@pytest.mark.parametrize("what", DECISIONS)
async def test_every_choice_of_a_decision_runs_as_it_is_printed_and_ends_the_question(
    world: World, what: str
) -> None:
    topic, fault = DECISIONS[what]
    before = await world.undecided()
    await world.run(fault)
    asked = [one for one in await world.undecided() if one.topic == topic and one not in before]
    assert asked, await world.undecided()
    (item,) = asked
    tried = 0
    for text in item.choices:
        said, *statements = text.splitlines()
        if not statements:
            continue
        tried += 1
        transaction = world.connection.transaction()
        await transaction.start()
        for statement in statements:
            assert len(statement) < 1000
            await world.connection.execute(statement.replace(" CONCURRENTLY", ""))
        assert item not in await world.undecided(), said
        await transaction.rollback()
    assert tried or topic == "role"


async def test_rows_without_a_tenant_are_listed_by_the_query_that_the_question_prints(world: World) -> None:
    await world.run(DECISIONS["rows of nobody"][1])
    (item,) = [one for one in await world.undecided() if one.object == "it's.Free's"]
    listed = await world.connection.fetch(item.problem.partition("this lists them: ")[2])
    assert [row["Id"] for row in listed] == [1]


async def test_a_column_that_takes_null_is_left_alone_unless_the_operator_has_chosen(world: World) -> None:
    await world.run(DECISIONS["a column that takes NULL"][1])

    async def nullable() -> bool:
        return bool(
            await world.connection.fetchval(
                "SELECT NOT attnotnull FROM pg_attribute WHERE attrelid = '\"it''s\".\"Free''s\"'::regclass "
                "AND attname = $1",
                TENANCY.column,
            )
        )

    await adopt(world.connection, TENANCY, role=world.role, not_null=False)
    assert await nullable()
    assert not (await compute(world.connection, TENANCY, role=world.role, not_null=False)).steps
    await adopt(world.connection, TENANCY, role=world.role, not_null=True)
    assert not await nullable()


async def test_a_tenant_column_is_filled_through_the_key_that_every_row_has(world: World) -> None:
    await world.run(FAULTS["TN204"])
    (fix,) = [fix for key, fix in (await world.findings()).items() if key.startswith("TN204")]
    for statement in fix:
        await world.connection.execute(statement)
    wrong = await world.connection.fetchval(
        f'SELECT count(*) FROM "it\'s"."No Tenant\'s" AS n JOIN {NAMES["{lines}"]} AS l ON l."Id" = n."Is"'
        f" WHERE n.{NAMES['{T}']} IS DISTINCT FROM l.{NAMES['{T}']}"
    )
    assert wrong == 0


async def test_where_only_an_optional_key_leads_to_a_tenant_the_rows_left_without_are_named(world: World) -> None:
    await world.run(FAULTS["TN204 "])
    report = audit(await read(world.connection), TENANCY, role=world.role)
    (finding,) = [one for one in report.findings if one.rule.code == "TN204"]
    assert 'rows without "Was" are left without a tenant, for you to place' in finding.message


async def test_an_index_that_partitions_lack_is_named_where_the_plan_makes_it(world: World) -> None:
    await world.run(FAULTS["TN201"])
    assert "TN201 My App.Log's" in await world.findings()
    steps = (await compute(world.connection, TENANCY, role=world.role)).steps
    assert "My App.Log's" in {step.object for step in steps if step.kind == "index"}
