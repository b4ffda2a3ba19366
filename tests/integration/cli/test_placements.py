"""`tenantry placements check`, and the commands that keep regions and tiers."""

from __future__ import annotations

from pathlib import Path

from tests.integration.cli.conftest import Fleet

FILE = """
tenancy:
  type: text
  placement: least-loaded
control:
  dsn: ${TENANTRY_CONTROL_DSN}
databases:
  shared:
    kind: shared
    dsn: ${TENANTRY_SHARED_DSN}
    operator_dsn: ${TENANTRY_SHARED_OPERATOR_DSN}
    region: eu
    capacity: 3
  acme:
    kind: shared
    dsn: ${TENANTRY_ACME_DSN}
    operator_dsn: ${TENANTRY_ACME_OPERATOR_DSN}
    region: us
    tier: gold
"""


def two_regions(fleet: Fleet) -> Fleet:
    fleet.write(FILE)
    fleet.ok("init")
    return fleet


def homes(fleet: Fleet) -> dict[str, str]:
    return {row["id"]: row["database"] for row in fleet.ok("tenants", "list", "--json").json}


def test_sign_ups_and_imports_keep_to_the_tenants_region_and_tier(fleet: Fleet, tmp_path: Path) -> None:
    two_regions(fleet)
    for number in range(3):
        fleet.ok("tenants", "add", f"e{number}", "--region", "eu")
    fleet.ok("tenants", "add", "rich", "--tier", "gold")
    assert homes(fleet) == {"e0": "shared", "e1": "shared", "e2": "shared", "rich": "acme"}
    full = fleet.run("tenants", "add", "e3", "--region", "eu")
    assert (full.code, "shared (3); not for it: acme" in full.err) == (1, True), full.err
    nowhere = fleet.run("tenants", "add", "j", "--region", "jp")
    assert (nowhere.code, "is for a tenant of region jp" in nowhere.err) == (1, True), nowhere.err
    named = fleet.run("tenants", "add", "x", "--region", "eu", "--database", "acme")
    assert (named.code, "may not live in acme: its region is us" in named.err) == (4, True), named.err
    assert fleet.ok("tenants", "add", "any", "--region", "", "--json").json["region"] is None
    fleet.ok("tenants", "remove", "any", "--yes")
    spelt = fleet.run("tenants", "add", "x", "--region", "EU")
    assert (spelt.code, "small letters" in spelt.err) == (2, True), spelt.err
    file = tmp_path / "ids"
    file.write_text("i1\ni2\n")
    refused = fleet.run("tenants", "import", "--file", file, "--database", "acme", "--region", "eu")
    assert (refused.code, "may not live in acme" in refused.err) == (4, True), refused.err
    assert len(homes(fleet)) == 4, "what was refused is not in the directory"
    fleet.ok("tenants", "import", "--file", file, "--database", "acme", "--region", "us", "--tier", "gold")
    shown = fleet.ok("tenants", "show", "i1", "--json").json
    assert (shown["region"], shown["tier"]) == ("us", "gold")
    assert fleet.placement("i1", fleet.acme) == f"{'acme'}|1|f"


def test_who_lives_where_they_may_not_is_told_and_no_move_makes_it_worse(fleet: Fleet) -> None:
    two_regions(fleet)
    for tenant in ("a", "b", "c"):
        fleet.ok("tenants", "add", tenant, "--database", "shared")
    clean = fleet.ok("placements", "check", "--json")
    assert clean.json == []
    moved = fleet.run("move", "a", "--to", "acme", "--plan", "--json")
    assert "wrong-region" not in moved.out, "who names none may live anywhere"
    fleet.ok("tenants", "set", "a", "--region", "eu")
    plan = fleet.run("move", "a", "--to", "acme", "--plan", "--json")
    assert plan.code == 4
    [finding] = [one for one in plan.json["findings"] if one["code"] == "wrong-region"]
    assert "is of region eu, and database acme is of us" in finding["problem"]
    fleet.ok("tenants", "set", "a", "--region", "us", "--tier", "gold")
    told = fleet.ok("tenants", "set", "b", "--region", "us").err
    assert "lives in shared, where it may not any more (its region is eu, not us)" in " ".join(told.split())
    ran = fleet.run("placements", "check", "--json")
    assert ran.code == 1
    assert [(one["database"], one["rule"], one["wanted"], one["named"]) for one in ran.json] == [
        ("shared", "region", "us", ["a", "b"]),
        ("shared", "tier", "gold", ["a"]),
    ]
    each = fleet.run("placements", "check", "--tenants", "--json").json
    assert [(one["tenant"], one["database"], one["region"], one["tier"]) for one in each] == [
        ("a", "shared", "us", "gold"),
        ("b", "shared", "us", None),
    ]
    words = fleet.run("placements", "check").out
    assert "2 tenants of region us live in shared" in " ".join(words.split())
    checked = fleet.run("check", "--json").json["findings"]
    assert {(one["code"], one["severity"]) for one in checked if one["code"].startswith("placement")} == {
        ("placement-region", "error"),
        ("placement-tier", "warning"),
    }
    fleet.ok("tenants", "set", "a", "--region", "", "--tier", "")
    fleet.ok("tenants", "set", "b", "--region", "eu")
    assert fleet.ok("placements", "check", "--json").json == []


def test_a_database_that_only_the_directory_knows_keeps_its_region_too(fleet: Fleet) -> None:
    two_regions(fleet)
    there = ("--kind", "shared", "--dsn-env", "TENANTRY_ACME_DSN")
    fleet.ok("databases", "add", "third", *there, "--region", "jp", "--capacity", 1, "--no-accepts")
    shown = fleet.ok("databases", "show", "third", "--json").json
    assert (shown["region"], shown["capacity"], shown["accepts"]) == ("jp", 1, False)
    ran = fleet.run("tenants", "add", "x", "--region", "eu", "--database", "third")
    assert (ran.code, "its region is jp, not eu" in ran.err) == (4, True), ran.err
    fleet.server.psql(
        "INSERT INTO tenantry.tenant (id, database, region) VALUES ('p', 'third', 'jp'), ('q', 'third', 'eu')",
        fleet.control,
    )
    found = fleet.run("placements", "check", "--json").json
    assert [(one["database"], one["rule"], one["tenants"]) for one in found] == [
        ("third", "capacity", 1),
        ("third", "region", 1),
    ]
    fleet.ok("databases", "set", "third", "--region", "", "--capacity", 0, "--accepts")
    row = fleet.server.psql("SELECT settings FROM tenantry.database WHERE name = 'third'", fleet.control)
    assert row == "{}"
    bad = fleet.run("databases", "set", "third", "--region", "Über")
    assert (bad.code, "small letters" in bad.err) == (2, True), bad.err


def test_a_control_database_of_the_release_before_signs_up_and_says_what_regions_need(fleet: Fleet) -> None:
    two_regions(fleet)
    fleet.server.psql("ALTER TABLE tenantry.tenant DROP COLUMN region, DROP COLUMN tier", fleet.control)
    fleet.ok("tenants", "add", "plain")
    assert fleet.ok("tenants", "show", "plain", "--json").json["region"] is None
    for arguments in (("add", "e", "--region", "eu"), ("set", "plain", "--region", "eu")):
        ran = fleet.run("tenants", *arguments)
        assert (ran.code, "run `tenantry init`" in ran.err) == (3, True), ran.err
    assert fleet.ok("placements", "check", "--json").json == []
