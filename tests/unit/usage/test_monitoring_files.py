"""The rules and the dashboard are valid, do what they say, and name no metric that does not exist."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from tenantry.metrics import FleetCollector, PrometheusSink
from tenantry.promotion import PromotionRule
from tests.support.programs import require_program

CONFIG = Path(__file__).parents[3] / "config"
RULES = sorted((CONFIG / "prometheus" / "rules").glob("*.yml"))
DASHBOARDS = sorted((CONFIG / "grafana" / "dashboards").glob("*.json"))

#: What the library and `tenantry serve` export, with their labels.
EXPORTED = {
    "tenantry_tenant_busy_seconds_total": {"tenant", "database"},
    "tenantry_tenant_transactions_total": {"tenant", "database", "outcome"},
    "tenantry_tenant_wait_seconds_total": {"tenant", "database"},
    "tenantry_tenant_share_ratio": {"tenant", "database"},
    "tenantry_promotion_streak_days": {"tenant"},
    "tenantry_promotion_candidate": {"tenant"},
    "tenantry_database_busy_seconds_total": {"database"},
    "tenantry_pool_connections": {"database", "state"},
    "tenantry_admission_waiting": {"database"},
    "tenantry_checkout_seconds_bucket": {"le"},
    "tenantry_checkout_seconds_count": set(),
    "tenantry_checkout_seconds_sum": set(),
    "tenantry_directory_lookups_total": {"result"},
    "tenantry_move_phase": {"tenant", "phase"},
    "tenantry_move_lag_bytes": {"tenant"},
    "tenantry_move_pause_seconds_bucket": {"le"},
    "tenantry_move_pause_seconds_count": set(),
    "tenantry_move_pause_seconds_sum": set(),
    "tenantry_ledger_coverage_ratio": set(),
    "tenantry_database_backup_age_seconds": {"database"},
    "tenantry_database_backup_every_seconds": {"database"},
    "tenantry_control_up": set(),
}
_METRIC = re.compile(r"[a-z_]*:?tenantry_[a-z0-9_:]+")


def rules() -> Iterator[dict[str, Any]]:
    for file in RULES:
        for group in yaml.safe_load(file.read_text())["groups"]:
            yield from group["rules"]


def recorded() -> set[str]:
    return {rule["record"] for rule in rules() if "record" in rule}


def queries() -> Iterator[tuple[str, str]]:
    """Panel title and PromQL of every query of every dashboard."""
    for file in DASHBOARDS:
        dashboard = json.loads(file.read_text())
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                yield panel["title"], target["expr"]
        for variable in dashboard["templating"]["list"]:
            yield variable["name"], variable["query"]["query"]


def run(*arguments: str | Path) -> None:
    done = subprocess.run(
        [require_program("promtool"), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def exported() -> set[str]:
    """Names of everything that the library's and the server's registries really export."""

    class Router:
        pools: Any = SimpleNamespace(open_pools=dict)

    library, fleet = CollectorRegistry(), CollectorRegistry()
    PrometheusSink(Router(), registry=library)  # type: ignore[arg-type]
    fleet.register(FleetCollector())
    text = generate_latest(library).decode() + generate_latest(fleet).decode()
    return set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))


def test_every_metric_that_the_rules_and_the_dashboard_may_name_is_really_exported() -> None:
    families = {re.sub("_(bucket|count|sum)$", "", name) for name in EXPORTED}

    assert families <= exported()


def test_the_labels_that_queries_may_use_are_those_of_the_real_metrics() -> None:
    pools: Any = SimpleNamespace(open_pools=dict)
    router: Any = SimpleNamespace(pools=pools)
    sink, fleet = PrometheusSink(router, registry=CollectorRegistry()), FleetCollector()
    real = {
        metric.name: set(getattr(metric, "_labelnames", ())) for one in (sink, fleet) for metric in one.describe()
    }

    assert len(real) >= 15
    for name, labels in EXPORTED.items():
        family = re.sub("_(total|bucket|count|sum)$", "", name)
        assert labels - {"le"} == real[family], name


def test_the_rules_and_the_scrape_configuration_are_valid() -> None:
    assert len(RULES) >= 2
    run("check", "rules", "--lint=all", "--lint-fatal", *RULES)
    run("check", "config", CONFIG / "prometheus" / "prometheus.yml")


def test_the_rules_in_promql_say_what_the_rule_says() -> None:
    run("test", "rules", CONFIG / "prometheus" / "tests.yml")


def test_every_alert_is_tested_to_fire_and_is_documented() -> None:
    alerts = {rule["alert"] for rule in rules() if "alert" in rule}
    tests = yaml.safe_load((CONFIG / "prometheus" / "tests.yml").read_text())["tests"]
    fired = {
        one["alertname"] for test in tests for one in test.get("alert_rule_test", ()) if one.get("exp_alerts")
    }
    page = (CONFIG.parent / "docs" / "reference" / "metrics.md").read_text()

    assert {"TenantryControlDown", "TenantryBackupOverdue", "TenantryMoveUnreleased"} <= alerts
    assert fired == alerts
    assert {alert for alert in alerts if f"`{alert}`" in page} == alerts


def test_the_rules_in_promql_have_the_rules_numbers() -> None:
    text = "".join(rule["expr"] for rule in rules() if "record" in rule)
    rule = PromotionRule()

    assert f"> {rule.threshold:.2f}" in text
    assert f">= {rule.floor:g}" in text
    assert f">= {rule.coverage:g}" in text
    assert f"[{rule.window}d:1d]" in text


@pytest.mark.parametrize("expression", [rule["expr"] for rule in rules()])
def test_every_metric_of_the_rules_is_exported_or_recorded(expression: str) -> None:
    names = set(_METRIC.findall(expression))

    assert names
    assert names <= set(EXPORTED) | recorded()


@pytest.mark.parametrize(("title", "expression"), list(queries()))
def test_every_metric_and_label_of_the_dashboard_exists(title: str, expression: str) -> None:
    names = set(_METRIC.findall(expression))
    assert names, title
    assert names <= set(EXPORTED) | recorded()
    labels = set().union(*(EXPORTED.get(name, {"tenant", "database"}) for name in names))

    used = re.findall(r"by \(([^)]*)\)", expression) + re.findall(r"\{([^}]*)\}", expression)
    named = {re.split(r"[=!~]", part.strip())[0].strip() for text in used for part in text.split(",")}
    assert named - {""} <= labels | {"job"}


def test_every_query_of_the_dashboard_is_valid_promql(tmp_path: Path) -> None:
    listed = [
        {"record": f"q{number}", "expr": expression.replace("$database", ".*")}
        for number, (_, expression) in enumerate(queries())
        if not expression.startswith("label_values")
    ]
    assert len(listed) >= 15
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": listed}]}))

    run("check", "rules", file)


def test_the_dashboard_is_provisioned_with_the_data_source_that_it_names() -> None:
    home = CONFIG / "grafana" / "provisioning"
    (source,) = yaml.safe_load((home / "datasources" / "prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((home / "dashboards" / "tenantry.yml").read_text())["providers"]
    uids = {
        panel["datasource"]["uid"]
        for file in DASHBOARDS
        for panel in json.loads(file.read_text())["panels"]
        if "datasource" in panel
    }

    assert uids == {source["uid"]}
    assert provider["type"] == "file"
