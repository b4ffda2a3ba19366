"""What `check` says of facts that no test server can be made to show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tenantry import schema
from tenantry.config import Config, ResolvedDatabase
from tenantry.directory import DatabaseRow
from tenantry.ids import Kind
from tenantry.move import Leftover, State
from tenantry.operations.check.facts import CitusFacts, DatabaseFacts, FleetFacts, Reached
from tenantry.operations.check.findings import CheckFinding
from tenantry.operations.check.rules import judge

HEALTHY = Reached(
    version=180_099,
    version_text="18.99",
    role="app",
    cluster="1",
    max_connections=100,
    reserved=3,
    installed=True,
    schema=schema.migrations("data")[-1].number,
)
CONTROL = replace(HEALTHY, role="control", schema=schema.migrations("control")[-1].number)
LOCAL_DSN = "postgresql://app@localhost/shop"


def config(**control: Any) -> Config:
    """The smallest one."""
    return Config.parse(
        {
            "control": {"dsn": LOCAL_DSN, **control},
            "databases": {"shared": {"kind": "shared", "dsn": LOCAL_DSN, "operator_dsn": LOCAL_DSN}},
        }
    )


def fleet(router: Reached = HEALTHY, *, control: Reached = CONTROL, dsn: str = LOCAL_DSN) -> FleetFacts:
    """A fleet of one database."""
    database = ResolvedDatabase("shared", Kind.SHARED, "config", dsn, LOCAL_DSN)
    facts = DatabaseFacts(database, router, replace(HEALTHY, local=router.local), None)
    return FleetFacts(control, None, (facts,), (DatabaseRow("shared", Kind.SHARED, "config", {}),))


def found(facts: FleetFacts, processes: int = 1, **control: Any) -> dict[str, CheckFinding]:
    """Findings by code."""
    return {finding.code: finding for finding in judge(facts, config(**control), processes)}


def test_a_fleet_in_order_has_no_findings() -> None:
    assert found(fleet()) == {}


@pytest.mark.parametrize(
    ("dsn", "plain"),
    [
        ("postgresql://app@db.example/shop", True),
        ("postgresql://app:pw@10.0.0.5:5432/shop?sslmode=prefer", True),
        ("postgresql://app@[2001:db8::1]:5432/shop", True),
        ("postgresql://app@localhost,db2.example:5433/shop", True),
        ("postgresql:///shop?host=db.example", True),
        ("postgresql://app@db.example/shop?sslmode=require", False),
        ("postgresql://app@db.example/shop?sslmode=verify-full", False),
        ("postgresql://app@localhost:6432/shop", False),
        ("postgresql://app@127.0.0.1/shop", False),
        ("postgresql://app@[::1]:5432/shop", False),
        ("postgresql:///shop?host=/var/run/postgresql", False),
        ("postgresql:///shop", False),
    ],
)
def test_a_remote_dsn_without_tls_is_found_and_a_local_one_is_not(dsn: str, plain: bool) -> None:
    assert ("no-tls" in found(fleet(dsn=dsn))) is plain


@pytest.mark.parametrize(
    ("version", "holes"),
    [
        (180_006, ["CVE-2026-120154"]),
        (180_007, []),
        (160_016, []),
        (160_009, ["CVE-2025-8713", "CVE-2026-120154"]),
        (150_003, ["CVE-2023-39418", "CVE-2024-4317"]),
        (170_000, ["CVE-2024-10976", "CVE-2025-8713", "CVE-2026-120154"]),
    ],
)
def test_minors_with_known_holes_in_row_security_are_found(version: int, holes: list[str]) -> None:
    facts = found(fleet(replace(HEALTHY, version=version, version_text="x")))
    if not holes:
        assert "server-outdated" not in facts
    else:
        for hole in holes:
            assert hole in facts["server-outdated"].problem


def test_versions_beyond_what_was_tested_are_found() -> None:
    assert found(fleet(replace(HEALTHY, version=140_099)))["version-unsupported"].severity == "error"
    assert found(fleet(replace(HEALTHY, version=190_000)))["version-untested"].severity == "warning"


@pytest.mark.parametrize(("skew", "told"), [(1.9, False), (2.1, True), (-2.1, True)])
def test_a_clock_that_is_off_is_found(skew: float, told: bool) -> None:
    assert ("clock-skew" in found(fleet(replace(HEALTHY, skew=skew)))) is told


def test_budgets_count_every_process_and_both_databases_of_one_server() -> None:
    assert "max-connections" not in found(fleet(), processes=4)  # 4 x (20 + 4) = 96 of 97
    assert "120 connections" in found(fleet(), processes=5)["max-connections"].problem
    apart = fleet(control=replace(CONTROL, cluster="2"))
    assert "max-connections" not in found(apart, processes=4)


def test_connections_that_end_at_a_pooler_are_no_budget_of_the_servers() -> None:
    assert "max-connections" not in found(fleet(replace(HEALTHY, pooled=True)), processes=20)


def test_a_standby_as_the_routers_database_is_found() -> None:
    assert "read-only" in found(fleet(replace(HEALTHY, replica=True)))


def test_a_database_that_thinks_it_is_another_is_found() -> None:
    local = {
        "name": "other",
        "kind": "shared",
        "setting": "app.current_tenant",
        "id_type": "uuid",
        "hardened": True,
    }
    facts = fleet(replace(HEALTHY, local=local))
    problems = [f.problem for f in judge(facts, config(), 1) if f.code == "differs"]
    assert len(problems) == 2
    assert any("name other" in problem for problem in problems)
    assert any("hardened" in problem for problem in problems)


@pytest.mark.parametrize("later", [True, False])
def test_citus_that_came_after_the_schema_is_found(later: bool) -> None:
    facts = fleet(replace(HEALTHY, local={"name": "shared", "citus_came_later": later}))
    assert ("citus-later" in found(facts)) is later


CITUS = CitusFacts("13.2-1", coordinator=True)


@pytest.mark.parametrize(
    ("said", "there", "differs"),
    [(None, None, False), (None, CITUS, False), ("citus", CITUS, False), ("postgresql", None, False),
     ("citus", None, True), ("postgresql", CITUS, True)],
)  # fmt: skip
def test_an_engine_that_is_another_than_the_configured_one_is_found(
    said: str | None, there: CitusFacts | None, differs: bool
) -> None:
    facts = fleet(replace(HEALTHY, citus=there))
    plain = {"kind": "shared", "dsn": LOCAL_DSN, "operator_dsn": LOCAL_DSN, **({"engine": said} if said else {})}
    configured = Config.parse({"control": {"dsn": LOCAL_DSN}, "databases": {"shared": plain}})
    codes = {finding.code for finding in judge(facts, configured, 1)}
    assert codes == ({"engine-differs"} if differs else set())


def test_what_citus_can_not_do_is_found() -> None:
    worker = found(fleet(replace(HEALTHY, citus=CITUS._replace(coordinator=False))))
    assert worker.keys() == {"citus-worker"}
    elsewhere = found(fleet(replace(HEALTHY, citus=CITUS._replace(elsewhere=("public.a", "public.b")))))
    assert "public.a, public.b" in elsewhere["citus-distribution"].problem


def test_hardened_mode_on_citus_is_found() -> None:
    hardened = {"hardened": True, "secret": "x" * 40}
    plain = {"kind": "shared", "dsn": LOCAL_DSN, "operator_dsn": LOCAL_DSN}
    configured = Config.parse({"tenancy": hardened, "control": {"dsn": LOCAL_DSN}, "databases": {"shared": plain}})
    codes = {finding.code for finding in judge(fleet(replace(HEALTHY, citus=CITUS)), configured, 1)}
    assert codes == {"citus-hardened"}


def test_a_pooled_control_database_is_found_unless_there_is_a_direct_way() -> None:
    pooled = fleet(control=replace(CONTROL, pooled=True))
    assert "control-pooled" in found(pooled)
    assert "control-pooled" not in found(replace(pooled, listen=CONTROL), direct_dsn=LOCAL_DSN)


@pytest.mark.parametrize(
    ("state", "fix"),
    [
        (State.RUNNING, "`tenantry moves resume m1` or `tenantry moves abort m1`"),
        (State.FLIPPED, "`tenantry moves release m1` or `tenantry moves rollback m1`"),
        (State.ROLLING_BACK, "`tenantry moves resume m1`"),
        (State.ABORTED, "`tenantry moves abort m1`"),
        (State.ROLLED_BACK, "`tenantry moves abort m1`"),
    ],
)
def test_what_a_move_has_left_is_one_finding_with_the_command_that_its_state_allows(
    state: State, fix: str
) -> None:
    objects = [("acme", "publication"), ("acme", "slot"), ("shared", "subscription")]
    left = [Leftover("m1", state, database, kind, f"tenantry_m1_{kind}") for database, kind in objects]
    facts = replace(fleet(), leftovers=(*left, Leftover("m2", State.RUNNING, "acme", "slot", "tenantry_m2")))
    one, two = [finding for finding in judge(facts, config(), 1) if finding.code == "move-leftover"]
    assert one.fix.partition("; ")[0] == fix
    assert one.problem.startswith(f"move m1 is {state.replace('_', ' ')}")
    assert one.problem.endswith("2 in acme and 1 in shared")
    assert "m2" in two.problem
    assert "m2" in two.fix


def test_checks_errors_come_before_its_warnings() -> None:
    facts = fleet(replace(HEALTHY, skew=9, role_problems=(("it is a superuser", "fix"),)))
    assert [finding.severity for finding in judge(facts, config(), 1)] == ["error", "warning"]


def test_a_link_that_applies_nothing_is_named() -> None:
    finding = found(fleet(replace(HEALTHY, stuck=("tenantry_m0123456789_ref",))))["link-stuck"]
    assert finding.database == "shared"
    assert "tenantry_m0123456789_ref" in finding.problem


def test_undecided_tables_are_one_finding_however_many_and_each_vain_override_is_one() -> None:
    tables = tuple(f"public.t{number}" for number in range(7))
    facts = fleet(replace(HEALTHY, undecided=tables, unmatched=("public.a", "public.b")))
    findings = [(one.code, one.problem) for one in judge(facts, config(), 1)]
    assert [code for code, _ in findings] == ["override-unmatched", "override-unmatched", "tables-undecided"]
    assert "7 tables" in findings[2][1]
    assert "public.t4 and 2 more" in findings[2][1]


def test_undecided_tables_are_told_by_the_operators_session_where_the_routers_dsn_leads_nowhere() -> None:
    facts = fleet(Reached(error="nobody answers"))
    (one,) = facts.databases
    facts = replace(facts, databases=(replace(one, operator=replace(HEALTHY, undecided=("public.t",))),))
    assert "1 table is" in found(facts)["tables-undecided"].problem
