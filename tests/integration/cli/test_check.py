"""`check`: finds what an operator would otherwise find at 3 a.m."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.integration.cli.conftest import Fleet
from tests.support.pgbouncer import PgBouncer

#: The servers that the tests run on are not of the newest minor.
EXPECTED = {"server-outdated"}


def codes(fleet: Fleet, *arguments: object) -> dict[str, list[dict[str, Any]]]:
    """Findings by code, without those that depend on the server's minor version."""
    ran = fleet.run("check", "--json", *arguments)
    found: dict[str, list[dict[str, Any]]] = {}
    for finding in ran.json["findings"]:
        found.setdefault(finding["code"], []).append(finding)
    assert ran.code == (1 if found else 0)
    assert ran.json["ok"] is not bool(found)
    return {code: findings for code, findings in found.items() if code not in EXPECTED}


def test_a_fleet_in_order_has_no_findings_but_the_servers_age(installed: Fleet) -> None:
    assert codes(installed) == {}
    facts = installed.run("check", "--json").json
    by_name = {one["database"]: one for one in facts["databases"]}
    assert set(by_name) == {"control", "shared", "acme"}
    assert by_name["shared"]["role"] == installed.role
    assert by_name["shared"]["schema"] > 0
    assert set(facts["databases"][0]) == {
        "database",
        "kind",
        "reachable",
        "server",
        "role",
        "pooled",
        "tls",
        "schema",
    }


def test_check_prints_tables_for_people(installed: Fleet) -> None:
    out = installed.run("check").out
    assert "DATABASE" in out
    assert "shared" in out


def test_check_before_init_says_to_run_init(fleet: Fleet) -> None:
    found = codes(fleet)
    assert {finding["database"] for finding in found["not-installed"]} == {"control", "shared", "acme"}
    assert "tenantry init" in found["not-installed"][0]["fix"]


def test_a_superuser_as_the_routers_role_is_found_with_its_fix(installed: Fleet) -> None:
    installed.set("TENANTRY_SHARED_DSN", installed.environment["TENANTRY_SHARED_OPERATOR_DSN"])
    found = codes(installed)["unsafe-role"]
    assert {(finding["database"], finding["severity"]) for finding in found} == {("shared", "error")}
    assert any("NOSUPERUSER" in finding["fix"] for finding in found)


def test_a_dead_database_is_a_finding_and_the_rest_is_looked_at(installed: Fleet) -> None:
    installed.set("TENANTRY_ACME_DSN", "postgresql://app:Zxq7-canary-S3cret@127.0.0.1:1/acme")
    ran = installed.run("check", "--json")
    by_name = {one["database"]: one for one in ran.json["databases"]}
    assert by_name["acme"]["reachable"] is False
    assert by_name["shared"]["reachable"] is True
    assert [f["database"] for f in ran.json["findings"] if f["code"] == "unreachable"] == ["acme"]


def test_a_dead_control_database_is_a_finding_and_the_file_is_looked_at(installed: Fleet) -> None:
    installed.set("TENANTRY_CONTROL_DSN", "postgresql://app:Zxq7-canary-S3cret@127.0.0.1:1/control")
    found = codes(installed)
    assert [finding["database"] for finding in found["unreachable"]] == ["control"]


def test_a_schema_that_is_older_or_newer_than_ours_is_found(installed: Fleet) -> None:
    installed.server.psql("DELETE FROM tenantry.migration WHERE side = 'data' AND number > 1", installed.shared)
    installed.server.psql(
        "INSERT INTO tenantry.migration (side, number, name) VALUES ('data', 99, 'future')", installed.acme
    )
    found = codes(installed)
    assert found["schema-old"][0]["database"] == "shared"
    assert found["schema-new"][0]["database"] == "acme"
    assert found["schema-new"][0]["severity"] == "warning"


def test_functions_of_another_version_are_found_and_init_mends_them(installed: Fleet) -> None:
    installed.server.psql("UPDATE tenantry.function_set SET checksum = 'older'", installed.shared)
    installed.server.psql("UPDATE tenantry.function_set SET checksum = 'older'", installed.control)
    assert {finding["database"] for finding in codes(installed)["functions-differ"]} == {"shared", "control"}
    rows = {row["database"]: row for row in installed.ok("init", "--json").json}
    assert [line.rpartition(" ")[0] for line in rows["shared"]["applied"]] == ["data functions plain"]
    assert [line.rpartition(" ")[0] for line in rows["control"]["applied"]] == ["control functions control"]
    assert not rows["acme"]["applied"]
    assert "functions-differ" not in codes(installed)


def test_a_schema_of_an_earlier_release_is_found_although_its_tables_have_other_names(installed: Fleet) -> None:
    installed.server.psql(
        "ALTER TABLE tenantry.database_identity RENAME TO local; DROP TABLE tenantry.function_set; "
        "DELETE FROM tenantry.migration WHERE side = 'data' AND number > 2",
        installed.shared,
    )
    assert [finding["database"] for finding in codes(installed)["schema-old"]] == ["shared"]


def test_a_dsn_that_leads_to_another_database_is_found(installed: Fleet) -> None:
    installed.set("TENANTRY_ACME_DSN", installed.environment["TENANTRY_SHARED_DSN"])
    installed.set("TENANTRY_ACME_OPERATOR_DSN", installed.environment["TENANTRY_SHARED_OPERATOR_DSN"])
    assert {finding["database"] for finding in codes(installed)["differs"]} == {"acme"}


def test_a_database_that_only_the_file_knows_is_found(installed: Fleet) -> None:
    installed.server.psql("DELETE FROM tenantry.database WHERE name = 'acme'", installed.control)
    assert codes(installed)["not-in-directory"][0]["database"] == "acme"


def test_budgets_beyond_the_servers_connections_are_found(installed: Fleet) -> None:
    assert "max-connections" not in codes(installed, "--processes", 2)
    (finding,) = codes(installed, "--processes", 100)["max-connections"]
    assert "4400" in finding["problem"]


def test_a_pooler_in_statement_mode_is_found(installed: Fleet) -> None:
    with PgBouncer.start(installed.server, "statement") as bouncer:
        installed.set("TENANTRY_SHARED_DSN", bouncer.dsn(installed.shared, installed.role))
        found = codes(installed)
    assert found["statement-pooler"][0]["database"] == "shared"
    assert "unreachable" not in found


def test_a_pooler_in_transaction_mode_is_no_finding_for_data_but_for_control(installed: Fleet) -> None:
    with PgBouncer.start(installed.server, "transaction") as bouncer:
        installed.set("TENANTRY_SHARED_DSN", bouncer.dsn(installed.shared, installed.role))
        assert codes(installed) == {}
        installed.set("TENANTRY_CONTROL_DSN", bouncer.dsn(installed.control))
        assert set(codes(installed)) == {"control-pooled"}
        direct = installed.server.dsn(installed.control)
        installed.write(installed.path.read_text().replace("databases:", f"  direct_dsn: {direct}\ndatabases:"))
        assert codes(installed) == {}


def test_what_moves_would_need_is_looked_at_when_asked_for(installed: Fleet) -> None:
    installed.server.psql("CREATE TABLE ticket (tenant_id text NOT NULL, id int PRIMARY KEY)", installed.shared)
    assert "identity-without-tenant" not in codes(installed)
    found = codes(installed, "--moves")
    (finding,) = found["identity-without-tenant"]
    assert (finding["database"], finding["severity"]) == ("shared", "error")
    assert "CREATE UNIQUE INDEX" in finding["fix"]
    installed.server.psql(
        "DROP TABLE ticket; CREATE TABLE ticket (tenant_id text, id int, PRIMARY KEY (tenant_id, id))",
        installed.shared,
    )
    assert "identity-without-tenant" not in codes(installed, "--moves")


def test_a_database_that_moves_cant_reach_is_said_so(installed: Fleet) -> None:
    installed.set("TENANTRY_SHARED_OPERATOR_DSN", "postgresql://operator@127.0.0.1:1/nowhere")
    (finding,) = codes(installed, "--moves")["moves-unchecked"]
    assert (finding["database"], finding["severity"]) == ("shared", "warning")


def test_a_baseline_accepts_what_was_looked_at_and_nothing_else(installed: Fleet, tmp_path: Path) -> None:
    installed.server.psql("UPDATE tenantry.function_set SET checksum = 'older'", installed.shared)
    file = tmp_path / "accepted"
    ran = installed.ok("check", "--write-baseline", file)
    keys = {line for line in file.read_text().splitlines() if not line.startswith("#")}
    assert {key.split()[0] for key in keys} == {"server-outdated", "functions-differ"}
    file.write_text(
        file.read_text().replace("functions-differ shared", "functions-differ shared  # tonight's upgrade")
    )
    ran = installed.ok("check", "--json", "--baseline", file)
    assert ran.json["ok"]
    assert {f"{finding['code']} {finding['database']}" for finding in ran.json["accepted"]} == keys
    installed.server.psql("UPDATE tenantry.function_set SET checksum = 'older'", installed.acme)
    ran = installed.run("check", "--json", "--baseline", file)
    assert (ran.code, [finding["database"] for finding in ran.json["findings"]]) == (1, ["acme"])
    installed.ok("init")
    assert "no longer found" in installed.ok("check", "--baseline", file).err


def test_a_baseline_that_is_no_file_or_no_text_is_named(installed: Fleet, tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    for command in (("check",), ("rls", "audit")):
        for file, words in ((tmp_path / "none", "No such file"), (tmp_path, "directory"), (binary, "UTF-8")):
            ran = installed.run(*command, "--baseline", file)
            assert ran.code == 2, ran.err
            assert str(file) in ran.err
            assert words in ran.err


def test_a_table_that_nothing_places_and_an_override_of_no_table_are_found(installed: Fleet) -> None:
    """In the databases that have tables; where the product's schema is not there yet, nothing is to be decided."""
    installed.server.psql(
        "CREATE TABLE note (id int, tenant_id text); CREATE TABLE rate (id int); "
        'CREATE TABLE "Odd" ("tenantId" text, "TenantID" text)',
        installed.shared,
    )
    text = installed.path.read_text()
    overrides = "tenancy:\n  tables: {public.nothing: org_id, public.note: tenant_id}\n"
    installed.path.write_text(text.replace("\ntenancy:\n", "\n" + overrides))
    found = codes(installed)
    assert set(found) == {"tables-undecided", "override-unmatched"}
    ((undecided,), (unmatched,)) = found["tables-undecided"], found["override-unmatched"]
    assert (undecided["database"], unmatched["database"]) == ("shared", "shared")
    assert (undecided["severity"], unmatched["severity"]) == ("warning", "warning")
    assert "2 tables" in undecided["problem"]
    assert "public.Odd, public.rate" in undecided["problem"]
    assert "public.nothing" in unmatched["problem"]
    placed = "tables: {public.rate: reference, public.Odd: tenantId}\n"
    installed.path.write_text(text.replace("\ntenancy:\n", "\ntenancy:\n  " + placed))
    assert codes(installed) == {}
