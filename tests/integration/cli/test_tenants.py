"""`tenants …`: promises to operators."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from tests.integration.cli.conftest import Fleet


def test_a_tenant_that_was_added_is_listed_shown_and_placed(installed: Fleet) -> None:
    added = installed.ok(
        "tenants", "add", "ada", "--plan", "gold", "--weight", "2", "--connections", "3", "--json"
    )
    assert added.json == {
        "id": "ada",
        "database": "shared",
        "kind": "shared",
        "epoch": 1,
        "state": "active",
        "plan": "gold",
        "weight": 2.0,
        "limits": {"connections": 3},
        "name": None,
        "region": None,
        "tier": None,
    }
    assert installed.ok("tenants", "list", "--json").json == [added.json]
    shown = installed.ok("tenants", "show", "ada", "--json").json
    assert shown["in_database"] == {"database": "shared", "epoch": 1, "suspended": False}
    assert installed.placement("ada") == "shared|1|f"


def test_adding_a_tenant_again_changes_nothing_and_says_so(installed: Fleet) -> None:
    installed.ok("tenants", "add", "ada", "--plan", "gold")
    again = installed.ok("tenants", "add", "ada", "--plan", "silver")
    assert "there already" in again.err
    assert "gold" in again.out


def test_an_unknown_tenant_is_a_no(installed: Fleet) -> None:
    ran = installed.run("tenants", "show", "nobody")
    assert ran.code == 1
    assert ran.out == ""
    assert "nobody" in ran.err


def test_tenants_set_changes_what_is_given_and_leaves_the_rest(installed: Fleet) -> None:
    installed.ok("tenants", "add", "ada", "--plan", "gold", "--queue", "5", "--connections", "3")
    installed.ok("tenants", "set", "ada", "--weight", "0.5", "--statement-timeout", "2s", "--queue", "0")
    shown = installed.ok("tenants", "show", "ada", "--json").json
    assert shown["plan"] == "gold"
    assert shown["weight"] == 0.5
    assert shown["limits"] == {"connections": 3, "statement_timeout": 2000}


def test_a_suspended_tenant_is_shut_out_by_its_database_until_it_is_resumed(installed: Fleet) -> None:
    installed.ok("tenants", "add", "ada")
    installed.ok("tenants", "suspend", "ada", "--yes", "--reason", "unpaid")
    assert installed.placement("ada") == "shared|1|t"
    assert installed.ok("tenants", "list", "--state", "suspended", "--json").json[0]["id"] == "ada"
    events = installed.server.psql("SELECT kind, reason FROM tenantry.event ORDER BY id", installed.control)
    assert "tenant.suspended|unpaid" in events
    installed.ok("tenants", "resume", "ada")
    assert installed.placement("ada") == "shared|1|f"
    assert installed.ok("tenants", "list", "--state", "suspended", "--json").json == []


def test_suspending_is_refused_before_anything_is_written_when_it_can_not_be_finished(installed: Fleet) -> None:
    installed.ok("tenants", "add", "ada")
    text = installed.path.read_text().replace("operator_dsn: ${TENANTRY_SHARED_OPERATOR_DSN}", "")
    installed.write(text)
    assert installed.run("tenants", "suspend", "ada", "--yes").code == 2
    assert installed.ok("tenants", "show", "ada", "--json").json["state"] == "active"


def test_suspending_with_its_database_down_can_be_repeated(installed: Fleet) -> None:
    installed.ok("tenants", "add", "ada")
    good = installed.environment["TENANTRY_SHARED_OPERATOR_DSN"]
    installed.set("TENANTRY_SHARED_OPERATOR_DSN", "postgresql://postgres:Zxq7-canary-S3cret@127.0.0.1:1/x")
    ran = installed.run("tenants", "suspend", "ada", "--yes")
    assert ran.code == 3
    assert installed.ok("tenants", "list", "--json").json[0]["state"] == "suspended"
    installed.set("TENANTRY_SHARED_OPERATOR_DSN", good)
    installed.ok("tenants", "suspend", "ada", "--yes")
    assert installed.placement("ada") == "shared|1|t"


@pytest.mark.parametrize("action", ["suspend", "remove"])
def test_nothing_destructive_happens_without_yes_or_somebody_to_ask(installed: Fleet, action: str) -> None:
    installed.ok("tenants", "add", "ada")
    ran = installed.run("tenants", action, "ada")
    assert ran.code == 2
    assert "--yes" in ran.err
    assert installed.ok("tenants", "show", "ada", "--json").json["state"] == "active"


def test_a_removed_tenant_is_gone_and_shut_out_until_it_is_restored(installed: Fleet) -> None:
    installed.ok("tenants", "add", "ada")
    installed.ok("tenants", "remove", "ada", "--yes")
    assert installed.run("tenants", "show", "ada").code == 1
    assert installed.placement("ada") == "shared|1|t"
    refused = installed.run("tenants", "add", "ada")
    assert refused.code == 1
    assert "--restore" in refused.err
    assert installed.placement("ada") == "shared|1|t"
    installed.ok("tenants", "add", "ada", "--restore", "--plan", "gold")
    assert installed.placement("ada") == "shared|1|f"
    shown = installed.ok("tenants", "show", "ada", "--json").json
    assert (shown["state"], shown["plan"]) == ("active", "gold")
    assert installed.ok("tenants", "add", "ada", "--restore").code == 0


def test_ids_of_another_type_are_refused_before_any_input_or_output(installed: Fleet) -> None:
    installed.write(installed.path.read_text().replace("type: text", "type: uuid"))
    ran = installed.run("tenants", "add", "not-a-uuid")
    assert ran.code == 2
    assert "uuid" in ran.err


def test_lists_are_plain_aligned_text_when_they_are_piped(installed: Fleet) -> None:
    installed.ok("tenants", "add", "ada")
    lines = installed.ok("tenants", "list").out.splitlines()
    titles = "TENANT NAME DATABASE KIND EPOCH STATE PLAN WEIGHT LIMITS REGION TIER"
    assert lines[0].split() == titles.split()
    assert lines[1].split() == ["ada", "-", "shared", "shared", "1", "active", "-", "1", "-", "-", "-"]


def test_an_empty_list_is_an_empty_json_list(installed: Fleet) -> None:
    ran = installed.ok("tenants", "list", "--json")
    assert ran.json == []


def test_import_from_a_table_adopts_every_id_and_again_changes_nothing(installed: Fleet) -> None:
    installed.server.psql(
        "CREATE TABLE students (id int, tenant_id text); "
        "INSERT INTO students SELECT n, 't' || n % 1200 FROM generate_series(1, 5000) AS n; "
        "INSERT INTO students VALUES (0, NULL)",
        installed.shared,
    )
    arguments = (
        "tenants",
        "import",
        "--from",
        "public.students.tenant_id",
        "--database",
        "shared",
        "--batch",
        "500",
    )
    first = installed.ok(*arguments, "--json").json
    assert first == {"ids": 1200, "new": 1200, "known": 0, "elsewhere": 0, "removed": 0}
    assert installed.server.psql("SELECT count(*) FROM tenantry.placement", installed.shared) == "1200"
    again = installed.ok(*arguments, "--json").json
    assert again == {"ids": 1200, "new": 0, "known": 1200, "elsewhere": 0, "removed": 0}


def test_import_finishes_what_a_crash_between_the_databases_left(installed: Fleet) -> None:
    installed.server.psql("INSERT INTO tenantry.tenant (id, database) VALUES ('a', 'shared')", installed.control)
    ids = installed.path.with_name("ids.txt")
    ids.write_text("a\nb\n\n")
    assert installed.ok("tenants", "import", "--file", ids, "--json").json["new"] == 1
    assert installed.placement("a") == "shared|1|f"
    assert installed.placement("b") == "shared|1|f"


def test_import_leaves_alone_who_lives_elsewhere_was_removed_or_is_suspended(installed: Fleet) -> None:
    installed.ok("tenants", "add", "far", "--database", "acme")
    installed.ok("tenants", "add", "gone")
    installed.ok("tenants", "remove", "gone", "--yes")
    installed.ok("tenants", "add", "shut")
    installed.ok("tenants", "suspend", "shut", "--yes")
    ids = installed.path.with_name("ids.txt")
    ids.write_text("far\ngone\nshut\nnew\n")
    found = installed.ok("tenants", "import", "--file", ids, "--database", "shared", "--json").json
    assert found == {"ids": 4, "new": 1, "known": 1, "elsewhere": 1, "removed": 1}
    assert installed.placement("far") == ""
    assert installed.placement("shut") == "shared|1|t"


def test_import_reads_a_column_of_a_csv_file_and_standard_input(
    installed: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = installed.path.with_name("ids.csv")
    ids.write_text('name,tenant\n"Ada, Ltd",ada\n"Ben",ben\n', encoding="utf-8-sig")
    imported = installed.ok("tenants", "import", "--file", ids, "--column", "tenant", "--json").json
    assert imported["new"] == 2
    monkeypatch.setattr(sys, "stdin", io.StringIO("ben\ncleo\n"))
    assert installed.ok("tenants", "import", "--file", "-", "--json").json["new"] == 1


def test_a_file_with_one_bad_line_imports_nothing_and_names_the_line(installed: Fleet) -> None:
    ids = installed.path.with_name("ids.txt")
    ids.write_text("good\n" + "x" * 300 + "\n")
    ran = installed.run("tenants", "import", "--file", ids)
    assert ran.code == 2
    assert "line 2" in ran.err
    assert installed.ok("tenants", "list", "--json").json == []


def test_an_import_that_found_nothing_is_not_done(installed: Fleet) -> None:
    ids = installed.path.with_name("ids.txt")
    ids.write_text("\n")
    assert installed.run("tenants", "import", "--file", ids).code == 1


def test_import_refuses_a_dsn_that_leads_to_another_database(installed: Fleet) -> None:
    ids = installed.path.with_name("ids.txt")
    ids.write_text("a\n")
    installed.set("TENANTRY_SHARED_OPERATOR_DSN", installed.environment["TENANTRY_ACME_OPERATOR_DSN"])
    ran = installed.run("tenants", "import", "--file", ids)
    assert ran.code == 4
    assert "is called acme" in ran.err


def test_import_refuses_a_role_that_would_see_only_a_part(installed: Fleet) -> None:
    role = installed.role
    installed.server.psql(
        "CREATE TABLE students (tenant_id text); ALTER TABLE students ENABLE ROW LEVEL SECURITY; "
        f"GRANT SELECT ON students TO {role}; GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA tenantry TO {role}; "
        "INSERT INTO students VALUES ('a')",
        installed.shared,
    )
    installed.set("TENANTRY_SHARED_OPERATOR_DSN", installed.environment["TENANTRY_SHARED_DSN"])
    ran = installed.run("tenants", "import", "--from", "public.students.tenant_id")
    assert ran.code == 1
    assert "row-level security" in ran.err


def test_import_of_a_column_in_which_one_value_is_no_id_imports_nothing_and_names_it(installed: Fleet) -> None:
    """The first batch would have been written before the bad value was met."""
    installed.server.psql(
        "CREATE TABLE pupils (tenant_id text); INSERT INTO pupils VALUES ('a'), ('b'), (repeat('x', 256))",
        installed.shared,
    )
    ran = installed.run("tenants", "import", "--from", "public.pupils.tenant_id", "--batch", "1")
    assert ran.code == 2
    assert "1 values are no ids" in ran.err
    assert "'xxxx" in ran.err
    assert installed.server.psql("SELECT count(*) FROM tenantry.tenant", installed.control).strip() == "0"


def test_a_named_table_that_is_not_there_is_a_mistake_of_the_command_line(installed: Fleet) -> None:
    ran = installed.run("tenants", "import", "--from", "public.nothing.tenant_id")
    assert ran.code == 2
    assert "nothing" in ran.err
    assert Path(installed.path).exists()
