"""The library's own metrics with 100,000 tenants: few series that hold for an hour, and a cheap scrape."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from tenantry.events import DirectoryLookup, ScopeEnded
from tenantry.metrics import PrometheusSink, exposition

TOP = 20
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Service:
    """A process with a registry of its own and a clock that goes on when told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.registry = CollectorRegistry()
        pools = SimpleNamespace(open_pools=dict)
        router: Any = SimpleNamespace(pools=pools)
        self.sink = PrometheusSink(router, top=TOP, registry=self.registry, clock=lambda: self.now)

    def scope(self, tenant: object, busy: float, outcome: str = "commit", waited: float = 0.001) -> None:
        event: Any = ScopeEnded(tenant, "shared", outcome, busy, busy, waited, 1)  # type: ignore[arg-type]
        self.sink(event)

    def scrape(self) -> Samples:
        _, text = exposition(self.registry)
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text.decode())
            for sample in family.samples
        }


def tenants(samples: Samples) -> set[str]:
    return {value for _, labels in samples for name, value in labels if name == "tenant"}


def test_churning_leaders_among_100_000_tenants_make_few_series_that_hold_for_an_hour() -> None:
    service, chance = Service(), random.Random(11)
    sets: dict[int, set[frozenset[str]]] = {}
    for minute in range(180):
        service.now = 60.0 * minute
        for tenant in chance.sample(range(100_000), 600):  # new leaders every minute
            service.scope(tenant, chance.uniform(0.001, 5.0), chance.choice(["commit", "rollback", "error"]))
        samples = service.scrape()
        assert len(samples) < 400
        sets.setdefault(minute // 60, set()).add(frozenset(tenants(samples)))
    assert all(len(labels) <= TOP + 1 for seen in sets.values() for labels in seen)
    # Within an hour, labels only come: none goes, and no other takes its place.
    for seen in sets.values():
        assert len(max(seen, key=len)) <= TOP + 1
        assert all(labels <= max(seen, key=len) for labels in seen)


def test_a_scrape_with_100_000_tenants_counts_every_scope() -> None:
    service = Service()
    for tenant in range(100_000):
        service.scope(tenant, 0.01)
    assert (
        sum(value for (name, _), value in service.scrape().items() if name.endswith("transactions_total")) == 1e5
    )


def test_the_registry_counts_what_happened() -> None:
    service = Service()
    for tenant, busy, outcome in (("a", 1.0, "commit"), ("a", 2.0, "rollback"), ("b", 4.0, "error")):
        service.scope(tenant, busy, outcome, waited=0.02)
    service.sink(DirectoryLookup("loaded"))
    samples = service.scrape()

    def value(name: str, **labels: str) -> float:
        return samples[f"tenantry_{name}", tuple(sorted(labels.items()))]

    assert value("tenant_busy_seconds_total", tenant="a", database="shared") == 3.0
    assert value("tenant_transactions_total", tenant="a", database="shared", outcome="rollback") == 1.0
    assert value("tenant_wait_seconds_total", tenant="b", database="shared") == 0.02
    assert value("directory_lookups_total", result="loaded") == 1.0
    assert value("directory_lookups_total", result="absent") == 0.0
    assert value("checkout_seconds_bucket", le="0.01") == 0.0
    assert value("checkout_seconds_bucket", le="0.025") == 3.0
    assert value("checkout_seconds_bucket", le="+Inf") == value("checkout_seconds_count") == 3.0
    assert abs(value("checkout_seconds_sum") - 0.06) < 1e-12


def test_a_tenant_that_falls_from_the_top_leaves_no_series_behind_and_comes_back_from_zero() -> None:
    service = Service()
    for number in range(TOP):
        service.scope(f"early-{number}", 0.1)
    for number in range(TOP):
        service.scope(f"late-{number}", 5.0)
    before = service.scrape()
    assert "early-0" in tenants(before)
    service.now = 3600.0
    service.scope("late-0", 5.0)
    after = service.scrape()

    assert not {name for name in tenants(after) if name.startswith("early")}
    assert after["tenantry_tenant_busy_seconds_total", (("database", "shared"), ("tenant", "late-0"))] == 5.0
    other = ("tenantry_tenant_busy_seconds_total", (("database", "shared"), ("tenant", "_other")))
    assert after[other] == before[other] == 5.0 * TOP


@pytest.mark.parametrize("variable", ["PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"])
def test_in_multiprocess_mode_the_router_says_at_open_that_its_metrics_will_not_be_shown(
    variable: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Service()
    assert not caplog.records
    monkeypatch.setenv(variable, "/tmp")
    Service()
    (record,) = caplog.records
    assert "multiprocess mode" in record.getMessage()
    assert "tenantry serve" in record.getMessage()
