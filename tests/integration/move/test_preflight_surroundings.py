"""What a database has beside its tables moves too, or is named before the move starts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.move import Endpoint, State
from tenantry.runtime.sqltext import identifier
from tests.support.estate import Estate

ROLE = 'It\'s "app"'
READER = "Report's"
SHOP = """
CREATE SCHEMA "My Shop";
CREATE TABLE "My Shop".note (tenant_id uuid NOT NULL, id int, PRIMARY KEY (tenant_id, id));
CREATE SCHEMA "It's"; CREATE EXTENSION IF NOT EXISTS vector SCHEMA "It's";
CREATE FUNCTION "My Shop"."Greet"(n int, "a b" text DEFAULT 'x') RETURNS text LANGUAGE sql AS 'SELECT ''it''''s''';
CREATE VIEW "My Shop"."All's" WITH (security_invoker = true) AS
    SELECT * FROM "My Shop".note WHERE id IN (1, 2) AND (id > 0 AND id < 9);
CREATE MATERIALIZED VIEW "My Shop"."Sum's" AS SELECT count(*) AS n FROM "My Shop".note;
CREATE FUNCTION "My Shop".saw() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER "It's seen" ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'DROP TABLE')
    EXECUTE FUNCTION "My Shop".saw();
ALTER DEFAULT PRIVILEGES IN SCHEMA "My Shop" GRANT SELECT ON TABLES TO "Report's";
ALTER DEFAULT PRIVILEGES GRANT USAGE ON SEQUENCES TO PUBLIC;
COMMENT ON TABLE "My Shop".note IS 'it''s a note'; COMMENT ON COLUMN "My Shop".note.id IS 'a "number"';
ALTER TABLE "My Shop".note OWNER TO "Report's";
"""
SETTINGS = {
    "search_path": '"My Shop", "$user", public',
    "app.shop_mode": "'it''s on'",
    "statement_timeout": "'7s'",
}


@pytest.fixture
def roles(pg18: EmbeddedServer, far18: EmbeddedServer) -> Iterator[tuple[EmbeddedServer, EmbeddedServer]]:
    made = f"CREATE ROLE {identifier(ROLE)} LOGIN; CREATE ROLE {identifier(READER)} LOGIN"
    for server in (pg18, far18):
        server.psql(made)
    yield pg18, far18
    for server in (pg18, far18):
        server.psql(f"DROP ROLE {identifier(ROLE)}; DROP ROLE {identifier(READER)}")


@pytest.fixture
def shop(roles: tuple[EmbeddedServer, EmbeddedServer], estate18: Estate) -> Iterator[Estate]:
    """An estate whose application logs in as a role with a name that wants quoting, with settings."""
    estate = estate18
    estate.near.psql(SHOP, estate.shared)
    estate.near.psql(f"SELECT tenantry.grant_application('{ROLE.replace(chr(39), chr(39) * 2)}')", estate.shared)
    for name, value in SETTINGS.items():
        where = "" if name == "app.shop_mode" else f'IN DATABASE "{estate.shared}" '
        estate.near.psql(f"ALTER ROLE {identifier(ROLE)} {where}SET {name} = {value}")
    estate.near.psql(f'ALTER ROLE {identifier(READER)} IN DATABASE "{estate.shared}" SET search_path = "My Shop"')
    yield estate
    for server, databases in ((estate.near, [estate.shared]), (estate.far, [estate.dedicated])):
        for database in databases:
            for role in (ROLE, READER):
                server.psql(f"ALTER ROLE {identifier(role)} RESET ALL")
                if server.psql(f"SELECT 1 FROM pg_database WHERE datname = '{database}'"):
                    server.psql(f"DROP OWNED BY {identifier(role)} CASCADE", database)


def ends(estate: Estate) -> dict[str, Endpoint]:
    acme = replace(estate.endpoints["acme"], server_dsn=estate.far.dsn("postgres"))
    return {**estate.endpoints, "acme": acme}


async def told(estate: Estate, *codes: str) -> list[tuple[str, str, bool]]:
    plan = await estate.mover().plan(estate.tenant, "acme")
    return [(one.problem, one.fix, one.refuses) for one in plan.findings if one.code in codes]


def begins_with(server: EmbeddedServer, database: str, role: str, name: str) -> str:
    return server.psql(f"SHOW {name}", database, user=role)


async def test_a_database_that_the_move_makes_lets_sessions_begin_as_at_the_source(shop: Estate) -> None:
    shop.far.psql(f'DROP DATABASE "{shop.dedicated}"')
    mover = shop.mover(endpoints=ends(shop))
    plan = await mover.plan(shop.tenant, "acme")
    assert plan.refusals == ()
    assert (await mover.run(plan)).state is State.FLIPPED
    for name in SETTINGS:
        there, here = (
            begins_with(server, database, ROLE, name)
            for server, database in ((shop.far, shop.dedicated), (shop.near, shop.shared))
        )
        assert there == here != ""
    assert begins_with(shop.far, shop.dedicated, READER, "search_path") == '"My Shop"'


async def test_settings_that_a_target_lacks_are_named_and_the_printed_statement_ends_it(shop: Estate) -> None:
    found = await told(shop, "setting-differs")
    assert sorted(refuses for _, _, refuses in found) == [False, False, True, True], found
    assert [problem for problem, _, refuses in found if not refuses and "statement_timeout" in problem]
    assert [problem for problem, _, refuses in found if not refuses and READER in problem]
    for _, fix, _ in found:
        shop.far.psql(fix)
    assert await told(shop, "setting-differs") == []
    assert begins_with(shop.far, shop.dedicated, ROLE, "app.shop_mode") == "it's on"


async def test_what_a_target_with_tables_lacks_beside_them_is_named_and_the_printed_statements_end_it(
    shop: Estate,
) -> None:
    mover = shop.mover()
    record = await mover.run(await _settled(shop))
    await mover.rollback(record.id)
    shop.far.psql(
        'DROP FUNCTION "My Shop"."Greet"; DROP VIEW "My Shop"."All\'s"; DROP MATERIALIZED VIEW "My Shop"."Sum\'s";'
        ' DROP EVENT TRIGGER "It\'s seen"; DROP EXTENSION vector; ALTER TABLE "My Shop".note OWNER TO postgres; '
        'CREATE VIEW "My Shop"."All\'s" AS SELECT 1 AS one; '
        'ALTER DEFAULT PRIVILEGES IN SCHEMA "My Shop" REVOKE SELECT ON TABLES FROM "Report\'s"; '
        "ALTER DEFAULT PRIVILEGES REVOKE USAGE ON SEQUENCES FROM PUBLIC; "
        'COMMENT ON TABLE "My Shop".note IS NULL; COMMENT ON COLUMN "My Shop".note.id IS NULL',
        shop.dedicated,
    )
    found = await told(shop, "surroundings-differ", "extension-missing")
    kinds = [problem.split(" of ")[0] for problem, _, refuses in found if not refuses]
    assert len(kinds) == 7, found
    assert kinds == [
        "event triggers",
        "functions",
        "views",
        "materialized views",
        "default privileges",
        "owners",
        "comments",
    ]
    assert [refuses for problem, _, refuses in found if "vector" in problem] == [True]
    shop.far.psql('CREATE SCHEMA IF NOT EXISTS "It\'s"', shop.dedicated)
    for _, fix, _ in sorted(found, key=lambda one: "event trigger" in one[0]):
        shop.far.psql(fix, shop.dedicated)
    assert await told(shop, "surroundings-differ", "extension-missing") == []


async def _settled(shop: Estate):  # type: ignore[no-untyped-def]  # a plan of the mover
    for _, fix, _ in await told(shop, "setting-differs"):
        shop.far.psql(fix)
    plan = await shop.mover().plan(shop.tenant, "acme")
    assert plan.refusals == ()
    return plan


async def test_streams_that_would_not_follow_the_tenant_are_named(shop: Estate) -> None:
    shop.near.psql(
        'CREATE PUBLICATION "It\'s out" FOR TABLE account; SELECT lo_create(4711); '
        "CREATE SUBSCRIPTION \"It's in\" CONNECTION 'host=nowhere dbname=x' PUBLICATION p "
        "WITH (connect = false, slot_name = NONE)",
        shop.shared,
    )
    shop.near.psql(
        "INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate) "
        "SELECT oid, 'account'::regclass, 'r' FROM pg_subscription WHERE subname = 'It''s in'",
        shop.shared,
    )
    try:
        assert [p for p, _, _ in await told(shop, "publication-stays")] == [
            'who reads publication "It\'s out" of shared gets nothing of what the tenant does at acme'
        ]
        assert len(await told(shop, "large-objects-stay")) == 1
        ((problem, fix, refuses),) = await told(shop, "fed-by-subscription")
        assert refuses
        assert 'writes "public"."account" past the fence' in problem
        shop.near.psql(fix.partition(", or ")[0], shop.shared)
        assert await told(shop, "fed-by-subscription") == []
    finally:
        shop.near.psql("SELECT lo_unlink(4711)", shop.shared)
