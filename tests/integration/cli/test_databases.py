"""`databases …`: references to credentials, never credentials."""

from __future__ import annotations

from tests.integration.cli.conftest import Fleet


def test_databases_of_the_file_and_of_the_directory_are_listed_with_their_tenants(installed: Fleet) -> None:
    installed.ok("databases", "add", "eu", "--kind", "shared", "--dsn-env", "TENANTRY_EU_DSN", "--max", "5")
    installed.ok("tenants", "add", "ada", "--database", "shared")
    rows = {row["name"]: row for row in installed.ok("databases", "list", "--json").json}
    assert rows["eu"] == {
        "name": "eu",
        "kind": "shared",
        "dsn": "env:TENANTRY_EU_DSN",
        "source": "directory",
        "tenants": 0,
        "max": 5,
        "region": None,
        "tier": None,
    }
    assert rows["shared"]["source"] == "both"
    assert rows["shared"]["tenants"] == 1


def test_a_database_that_only_the_directory_knows_can_be_installed_and_used(installed: Fleet) -> None:
    acme, operator = (
        installed.environment["TENANTRY_ACME_DSN"],
        installed.environment["TENANTRY_ACME_OPERATOR_DSN"],
    )
    text = installed.path.read_text()
    installed.write(text[: text.index("  acme:")])
    installed.ok("databases", "remove", "acme", "--yes")
    installed.set("EXTRA_DSN", acme)
    secret = installed.path.with_name("operator.dsn")
    secret.write_text(operator + "\n")
    arguments = ("--kind", "dedicated", "--dsn-env", "EXTRA_DSN", "--operator-file", secret)
    installed.server.psql("DROP SCHEMA tenantry CASCADE", installed.acme)
    installed.ok("databases", "add", "extra", *arguments)
    installed.ok("init")
    installed.ok("tenants", "add", "ada", "--database", "extra")
    assert installed.placement("ada", installed.acme) == "extra|1|f"
    installed.ok("tenants", "suspend", "ada", "--yes")
    assert installed.placement("ada", installed.acme) == "extra|1|t"


def test_databases_show_tells_the_address_and_nothing_secret(installed: Fleet) -> None:
    facts = installed.ok("databases", "show", "shared", "--json").json
    assert facts["address"] == f"{installed.server.host}:{installed.server.port}/{installed.shared}"
    assert facts["operator"] is True


def test_databases_set_changes_what_is_given_and_leaves_the_rest(installed: Fleet) -> None:
    installed.ok("databases", "add", "eu", "--kind", "shared", "--dsn-env", "A_DSN", "--max", "5")
    installed.ok("databases", "set", "eu", "--idle", "1m")
    facts = installed.ok("databases", "show", "eu", "--json").json
    assert (facts["max"], facts["idle"], facts["dsn"]) == (5, 60.0, "env:A_DSN")


def test_a_reference_that_leads_nowhere_here_is_a_warning(installed: Fleet) -> None:
    ran = installed.ok("databases", "add", "eu", "--kind", "shared", "--dsn-env", "NOT_SET_HERE")
    assert "env:NOT_SET_HERE: the environment variable is not set on this machine" in ran.err


def test_a_name_that_can_not_be_one_is_refused(installed: Fleet) -> None:
    assert installed.run("databases", "add", "no name", "--kind", "shared", "--dsn-env", "X").code == 2


def test_adding_a_database_twice_is_a_no(installed: Fleet) -> None:
    assert installed.run("databases", "add", "shared", "--kind", "shared", "--dsn-env", "X").code == 1


def test_a_database_with_tenants_is_not_removed_nor_made_dedicated(installed: Fleet) -> None:
    installed.ok("tenants", "add", "ada", "--database", "shared")
    installed.ok("tenants", "add", "ben", "--database", "shared")
    assert installed.run("databases", "remove", "shared", "--yes").code == 4
    assert installed.run("databases", "set", "shared", "--kind", "dedicated").code == 4
    assert installed.run("databases", "remove", "acme").code == 2
    installed.ok("databases", "remove", "acme", "--yes")
