"""`tenantry rls`: plan, apply, audit, probe from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.cli.conftest import CANARY, Fleet

SCHEMA = """
CREATE TABLE orders (id bigint PRIMARY KEY, tenant_id text, name text);
INSERT INTO orders VALUES (1, 'acme', 'a'), (2, 'beta', 'b');
SELECT tenantry.enroll('acme', 1), tenantry.enroll('beta', 1);
"""


@pytest.fixture
def product(installed: Fleet) -> Fleet:
    """A fleet whose shared database holds a product without any policy."""
    installed.server.psql(SCHEMA, installed.shared)
    return installed


def test_a_product_is_planned_applied_audited_and_probed(product: Fleet) -> None:
    plan = product.run("rls", "plan")
    assert plan.code == 1
    assert "CREATE POLICY tenantry_tenant" in plan.out
    product.server.psql("CREATE TABLE by_hand (tenant_id text)", product.shared)
    assert product.run("rls", "audit").code == 1
    product.ok("rls", "apply", "--yes")
    undecided = product.ok("rls", "plan", "--json").json["undecided"]
    (asked,) = [one for one in undecided if one["object"] == "public.by_hand"]
    assert asked["topic"] == "nulls"
    assert "every row has a tenant" in asked["choices"][0]
    product.ok("rls", "apply", "--not-null", "--yes")
    assert product.ok("rls", "plan", "--json").json == {"steps": [], "undecided": [], "kept": []}
    report = product.run("rls", "audit", "--json").json
    assert {finding["code"] for finding in report["findings"]} <= {"TN502"}
    product.server.psql("INSERT INTO by_hand VALUES ('acme'), ('beta')", product.shared)
    probe = product.ok("rls", "probe", "--json").json
    assert probe["passed"]
    assert {attempt["outcome"] for attempt in probe["attempts"]} == {"held"}


def test_the_plan_that_psql_runs_leaves_nothing_to_do(product: Fleet) -> None:
    script = product.run("rls", "plan").out
    product.server.psql(script, product.shared)
    assert product.ok("rls", "plan", "--json").json["steps"] == []


def test_observing_records_and_enforcing_ends_it(product: Fleet) -> None:
    product.ok("rls", "apply", "--observe", "--yes")
    product.server.psql(f"GRANT SELECT ON orders TO {product.role}", product.shared)
    product.server.psql("SELECT name FROM orders WHERE id = 1", product.shared, product.role)
    seen = product.run("rls", "observed", "--json")
    assert seen.code == 1
    assert [(one["relation"], one["problem"]) for one in seen.json] == [("public.orders", "no tenant bound")]
    assert product.run("rls", "probe").code == 1
    product.ok("rls", "apply", "--enforce", "--yes")
    product.ok("rls", "probe")


@pytest.mark.parametrize("format", ["table", "json", "sarif", "github"])
def test_findings_are_written_in_every_format_and_a_baseline_accepts_them(
    product: Fleet, tmp_path: Path, format: str
) -> None:
    found = product.run("rls", "audit", "--format", format)
    assert found.code == 1
    assert "TN101" in found.out
    accepted = tmp_path / "accepted"
    product.ok("rls", "audit", "--write-baseline", accepted)
    assert "TN101 public.orders" in accepted.read_text()
    product.ok("rls", "audit", "--baseline", accepted, "--format", format)


def test_a_database_that_tenantry_does_not_route_is_audited_without_a_configuration(product: Fleet) -> None:
    product.monkeypatch.setenv("TENANTRY_CONFIG", "/nowhere/tenantry.yaml")
    product.server.psql("CREATE TABLE stray (id int)", product.shared)
    dsn = product.server.dsn(product.shared, product.role, CANARY)
    arguments = ["rls", "audit", "--json", "--dsn", dsn, "--type", "text", "--table", "public.stray=ignore"]
    codes = {finding["code"] for finding in product.run(*arguments).json["findings"]}
    assert "TN101" in codes
    assert "TN204" not in codes


def test_what_can_not_be_told_is_a_usage_error_with_the_way_out(product: Fleet) -> None:
    assert product.run("rls", "plan", "--column", "org").code == 2
    assert "--dsn" in product.run("rls", "plan", "--column", "org").err
    assert product.run("rls", "plan", "--database", "nobody").code == 2
