"""The scopes' role and the directory's are apart: and a fleet of one role is told, and can be parted."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import asyncpg
import pytest

from tenantry import Config, Router
from tests.integration.cli.conftest import CANARY, Fleet

PAGE = Path(__file__).parents[3] / "docs/how-to/roles.md"


@pytest.fixture
def control_role(fleet: Fleet) -> Iterator[str]:
    """A second role, for the control database."""
    role = f"{fleet.role}_control"
    fleet.server.psql(f"CREATE ROLE {role} LOGIN")
    yield role
    for database in (fleet.control, fleet.shared):
        fleet.server.psql(f"DROP OWNED BY {role} CASCADE", database)
    fleet.server.psql(f"DROP ROLE {role}")


def at_home(fleet: Fleet, role: str, database: str | None = None) -> None:
    """Let the control database be this one, and reached as this role."""
    database = database or fleet.shared
    fleet.set("TENANTRY_CONTROL_DSN", fleet.server.dsn(database, role, CANARY))
    fleet.set("TENANTRY_CONTROL_DIRECT_DSN", fleet.server.dsn(database, password=CANARY))
    text = fleet.path.read_text()
    if "direct_dsn" not in text:
        fleet.write(text.replace("databases:", "  direct_dsn: ${TENANTRY_CONTROL_DIRECT_DSN}\ndatabases:", 1))


def one_role(fleet: Fleet) -> list[dict[str, str]]:
    found = fleet.run("check", "--json").json["findings"]
    return [finding for finding in found if finding["code"] == "one-role"]


def granted_tables() -> set[str]:
    """The control tables, as routers are granted them."""
    text = files("tenantry.schema").joinpath("grants", "control.sql").read_text(encoding="utf-8")
    return set(re.findall(r"tenantry\.([a-z_]+)[ ,]", text)) - {"move_id_block", "migration"}


async def work_in_scopes(fleet: Fleet) -> None:
    """What a router of two roles can do, and what its scopes can't."""
    async with Router.open(Config.load(fleet.path), metrics=False) as router:
        await router.add_tenant("ada", database="shared")
        async with router.tenant("ada") as connection:
            assert await connection.fetchval("SELECT session_user") == fleet.role
            for table in sorted(granted_tables()):
                for statement in (f"TABLE tenantry.{table}", f"DELETE FROM tenantry.{table}"):
                    with pytest.raises(asyncpg.InsufficientPrivilegeError):
                        async with connection.transaction():
                            await connection.execute(statement)
        async with router.operator(reason="a look", database="shared") as connection:
            assert await connection.fetchval("SELECT count(*) FROM tenantry.event WHERE kind = 'operator'") == 1


def test_with_two_roles_in_one_database_no_scope_reads_or_writes_a_control_table(
    fleet: Fleet, control_role: str, caplog: pytest.LogCaptureFixture
) -> None:
    at_home(fleet, control_role)
    assert "docs/how-to/roles.md" not in fleet.ok("init").err
    assert {"tenant", "database", "event", "usage", "move"} <= granted_tables()
    asyncio.run(work_in_scopes(fleet))
    assert one_role(fleet) == []
    assert not [record for record in caplog.records if "control tables" in record.getMessage()]


def control_tables(fleet: Fleet) -> set[str]:
    text = fleet.server.psql(
        "SELECT string_agg(relname, ' ') FROM pg_class WHERE relnamespace = 'tenantry'::regnamespace "
        "AND relkind = 'r'",
        fleet.control,
    )
    return set(text.split())


def test_the_query_of_ways_names_every_table_of_the_control_database(installed: Fleet) -> None:
    from tenantry import sql

    named = set(re.findall(r"'([a-z_]+)'", sql.query("catalog/ways")))
    assert control_tables(installed) - named == {"migration", "function_set"}, "a control table that nobody guards"


async def first_tenant(fleet: Fleet) -> int:
    """Signs ada up; how many tenants her scope can list."""
    async with Router.open(Config.load(fleet.path), metrics=False) as router:
        await router.add_tenant("ada", database="shared")
        async with router.tenant("ada") as connection:
            return int(await connection.fetchval("SELECT count(*) FROM tenantry.tenant"))


def test_one_role_for_both_works_is_warned_of_and_can_be_parted_without_an_outage(
    fleet: Fleet, control_role: str, caplog: pytest.LogCaptureFixture
) -> None:
    at_home(fleet, fleet.role)
    assert "docs/how-to/roles.md" in fleet.ok("init").err
    with caplog.at_level(logging.WARNING, "tenantry"):
        assert asyncio.run(first_tenant(fleet)) == 1, "the case itself: a scope sees the directory"
    told = [record for record in caplog.records if "control tables" in record.getMessage()]
    assert len(told) == 1, "told once, not with every connection"
    assert {(one["severity"], one["database"]) for one in one_role(fleet)} == {
        ("error", "shared"),
        ("warning", "acme"),
    }
    audit = fleet.run("rls", "audit", "--json").json["findings"]
    (open_tables,) = [each for each in audit if each["code"] == "TN413"]

    at_home(fleet, control_role)
    assert "docs/how-to/roles.md" in fleet.ok("init").err, (
        "what the old role has stays until somebody takes it away"
    )
    assert one_role(fleet)
    for statement in open_tables["fix"]:
        fleet.server.psql(statement, fleet.shared)
    assert one_role(fleet) == []
    assert "docs/how-to/roles.md" not in fleet.ok("init").err
    asyncio.run(work_in_scopes(fleet))


def test_one_role_on_one_server_is_warned_of_although_the_databases_are_two(fleet: Fleet) -> None:
    at_home(fleet, fleet.role, fleet.control)
    fleet.ok("init")
    assert {(one["severity"], one["database"]) for one in one_role(fleet)} == {
        ("warning", "shared"),
        ("warning", "acme"),
    }


@pytest.mark.parametrize("same", [True, False])
def test_membership_in_the_control_role_counts_as_the_role(fleet: Fleet, control_role: str, same: bool) -> None:
    at_home(fleet, control_role, fleet.shared if same else fleet.control)
    fleet.server.psql(f"GRANT {control_role} TO {fleet.role}")
    fleet.ok("init")
    found = one_role(fleet)
    assert {one["severity"] for one in found} == ({"error", "warning"} if same else {"warning"})
    if same:
        audit = fleet.run("rls", "audit", "--json").json["findings"]
        (open_tables,) = [each for each in audit if each["code"] == "TN413"]
        for statement in open_tables["fix"]:
            fleet.server.psql(statement, fleet.shared)
        assert one_role(fleet) == []
        assert not fleet.run("tenants", "list").code, "the control role keeps what it has"


def test_the_roles_that_the_page_prints_are_enough_and_apart(fleet: Fleet) -> None:
    """docs/how-to/roles.md, literally: its roles, then `init`, `check` and `rls audit`."""
    (script,) = re.findall(r"^```sql\n(-- roles\.sql.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    names = {name: f"{fleet.role}_{name}" for name in ("app", "control", "operator")}
    for name, made in names.items():
        script = re.sub(rf"\b(ROLE|TO|GRANT) {name}\b", rf"\1 {made}", script)
    script = script.replace("DATABASE shop", f"DATABASE {fleet.shared}")
    fleet.server.psql(script, fleet.shared)
    try:
        fleet.write(
            "tenancy: {type: text}\n"
            f"control: {{dsn: '{fleet.server.dsn(fleet.shared, names['control'])}', "
            f"direct_dsn: '{fleet.server.dsn(fleet.shared, names['operator'])}'}}\n"
            f"databases: {{shared: {{kind: shared, dsn: '{fleet.server.dsn(fleet.shared, names['app'])}', "
            f"operator_dsn: '{fleet.server.dsn(fleet.shared, names['operator'])}'}}}}\n"
        )
        fleet.ok("init")
        codes = {finding["code"] for finding in fleet.run("check", "--json").json["findings"]}
        assert codes <= {"server-outdated"}
        findings = fleet.run("rls", "audit", "--json").json["findings"]
        assert {finding["code"] for finding in findings} <= {"TN502"}
        fleet.ok("tenants", "add", "ada", "--database", "shared")
    finally:
        for name in names.values():
            fleet.server.psql(f"DROP OWNED BY {name} CASCADE", fleet.shared)
            fleet.server.psql(f"REVOKE ALL ON DATABASE {fleet.shared} FROM {name}; DROP ROLE {name}")


def test_init_lets_the_operators_role_become_the_scopes_role(fleet: Fleet, control_role: str) -> None:
    operator = control_role  # any role will do
    fleet.set("TENANTRY_SHARED_OPERATOR_DSN", fleet.server.dsn(fleet.shared, operator))
    text = fleet.path.read_text().replace(
        "_OPERATOR_DSN}\n  acme", "_OPERATOR_DSN}\n    direct_dsn: ${TENANTRY_DIRECT_DSN}\n  acme"
    )
    fleet.write(text)
    fleet.set("TENANTRY_DIRECT_DSN", fleet.server.dsn(fleet.shared))
    member = f"SELECT pg_has_role('{operator}', '{fleet.role}', 'MEMBER')"
    assert fleet.server.psql(member) == "f"
    fleet.ok("init")
    assert fleet.server.psql(member) == "t"
    fleet.ok("init")
