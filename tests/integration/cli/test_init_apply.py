"""`init` and `apply`: promises to whoever sets a fleet up."""

from __future__ import annotations

import asyncio

import asyncpg

from tenantry.schema import migrations
from tests.integration.cli.conftest import Fleet


def test_init_installs_both_sides_and_says_what_it_applied(fleet: Fleet) -> None:
    rows = fleet.ok("init", "--json").json
    assert [(row["database"], row["side"], row["error"]) for row in rows] == [
        ("control", "control", None),
        ("acme", "data", None),
        ("shared", "data", None),
    ]
    assert all(row["applied"] for row in rows)
    assert rows[1]["version"] == len(migrations("data"))
    assert rows[1]["role"] == fleet.role


def test_init_again_changes_nothing(installed: Fleet) -> None:
    before = installed.server.psql("SELECT name, dsn, changed FROM tenantry.database", installed.control)
    rows = installed.ok("--json", "init").json
    assert [row["applied"] for row in rows] == [[], [], []]
    assert installed.server.psql("SELECT name, dsn, changed FROM tenantry.database", installed.control) == before


def test_after_init_the_application_role_can_be_served(installed: Fleet) -> None:
    installed.ok("tenants", "add", "ada")

    async def scope() -> str:
        connection = await asyncpg.connect(installed.environment["TENANTRY_SHARED_DSN"])
        try:
            async with connection.transaction():
                await connection.execute("SELECT tenantry.bind('ada')")
                return str(await connection.fetchval("SELECT tenantry.current_tenant()"))
        finally:
            await connection.close()

    assert asyncio.run(scope()) == "ada"


def test_init_writes_references_to_the_directory_never_credentials(installed: Fleet) -> None:
    text = installed.server.psql("SELECT * FROM tenantry.database ORDER BY name", installed.control)
    assert "env:TENANTRY_SHARED_DSN" in text
    assert "postgresql://" not in text


def test_init_goes_on_when_one_database_is_down_and_exits_3(fleet: Fleet) -> None:
    fleet.set("TENANTRY_ACME_OPERATOR_DSN", "postgresql://postgres:Zxq7-canary-S3cret@127.0.0.1:1/acme")
    ran = fleet.run("init", "--json")
    assert ran.code == 3
    by_name = {row["database"]: row for row in ran.json}
    assert "unavailable" in by_name["acme"]["error"]
    assert by_name["shared"]["error"] is None


def test_init_without_an_operators_dsn_touches_nothing(fleet: Fleet) -> None:
    text = fleet.path.read_text().replace("operator_dsn: ${TENANTRY_ACME_OPERATOR_DSN}", "")
    fleet.write(text)
    ran = fleet.run("init")
    assert ran.code == 2
    assert "databases.acme.operator_dsn" in ran.err
    assert fleet.server.psql("SELECT 1 FROM pg_namespace WHERE nspname = 'tenantry'", fleet.control) == ""


def test_a_database_of_the_directory_without_an_operator_is_told_and_the_others_are_installed(
    fleet: Fleet,
) -> None:
    fleet.ok("init")
    fleet.ok("databases", "add", "eu", "--kind", "shared", "--dsn-env", "TENANTRY_SHARED_DSN")
    ran = fleet.run("init", "--json")
    assert ran.code == 3
    by_name = {row["database"]: row["error"] for row in ran.json}
    assert "databases.eu.operator_dsn" in by_name["eu"]
    assert by_name["shared"] is None


def test_init_grants_the_services_role_of_the_control_database(fleet: Fleet) -> None:
    fleet.set("TENANTRY_CONTROL_DSN", fleet.server.dsn(fleet.control, fleet.role))
    direct = fleet.server.dsn(fleet.control)
    fleet.write(fleet.path.read_text().replace("databases:", f"  direct_dsn: {direct}\ndatabases:"))
    fleet.ok("init")
    fleet.ok("tenants", "add", "ada", "--database", "shared")
    assert fleet.ok("tenants", "show", "ada", "--json").json["state"] == "active"


def test_apply_plan_shows_and_changes_nothing_then_apply_does_it(fleet: Fleet) -> None:
    fleet.ok("init")
    fleet.server.psql("DELETE FROM tenantry.database WHERE name = 'acme'", fleet.control)
    planned = fleet.run("apply", "--plan", "--json")
    assert planned.code == 1
    assert {row["database"]: row["change"] for row in planned.json} == {"acme": "add", "shared": "same"}
    assert fleet.server.psql("SELECT name FROM tenantry.database", fleet.control) == "shared"
    fleet.ok("apply")
    assert fleet.server.psql("SELECT name FROM tenantry.database ORDER BY 1", fleet.control) == "acme\nshared"
    assert fleet.run("apply", "--plan").code == 0


def test_apply_tells_what_a_database_was_before_its_change(installed: Fleet) -> None:
    installed.write(installed.path.read_text().replace("kind: shared", "kind: shared\n    pool: {max: 7}"))
    rows = {row["database"]: row for row in installed.run("apply", "--plan", "--json").json}
    assert rows["shared"]["before"]["settings"]["max"] == 20
    assert rows["shared"]["settings"]["max"] == 7


def test_apply_refuses_to_make_a_crowded_database_dedicated(installed: Fleet) -> None:
    installed.ok("tenants", "add", "ada", "--database", "shared")
    installed.ok("tenants", "add", "ben", "--database", "shared")
    installed.write(installed.path.read_text().replace("kind: shared", "kind: dedicated"))
    ran = installed.run("apply")
    assert ran.code == 4
    assert "holds 2 tenants" in ran.err
    assert (
        installed.server.psql("SELECT kind FROM tenantry.database WHERE name = 'shared'", installed.control)
        == "shared"
    )
