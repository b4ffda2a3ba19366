"""The metrics of one process, in a `prometheus_client` registry. The only module that imports it.

Tenant labels are bounded: the top K tenants by busy time have series of their own, everybody else is
`_other`. Who is on top is decided once an hour and holds for that hour, so that series don't churn; until the
first decision, the first K tenants seen hold the places.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from heapq import nlargest
from time import monotonic
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from tenantry.events import DirectoryLookup, Event, ScopeEnded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.core import Metric

    from tenantry.router import TenantRouter

OTHER: Final = "_other"
#: Seconds for which the set of labelled tenants holds.
STABLE: Final = 3600.0

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


# Around the aim (under 250 ms) and the cap (800 ms) of a move's pause.
_PAUSES = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.8, 1.0, 2.5, 5.0, 10.0, 60.0)


class TopTenants:
    """Which tenants have a label of their own: at most `top`, the same ones for `stable` seconds."""

    # Mutable state: _use (busy seconds per tenant in this period), _top, _until.

    def __init__(self, top: int, *, stable: float = STABLE, clock: Callable[[], float] = monotonic) -> None:
        self._limit = top
        self._stable = stable
        self._clock = clock
        self._use: dict[Hashable, float] = {}
        self._top: dict[Hashable, str] = {}
        self._until = clock() + stable

    def label(self, tenant: Hashable, busy: float) -> str:
        """The label of a tenant that has just used `busy` seconds."""
        self._use[tenant] = self._use.get(tenant, 0.0) + busy
        label = self._top.get(tenant)
        if label is not None:
            return label
        if len(self._top) < self._limit:
            self._top[tenant] = str(tenant)
            return str(tenant)
        return OTHER

    def rotate(self) -> set[str]:
        """At the end of a period choose anew, by use; returns the labels that fell out."""
        now = self._clock()
        if now < self._until:
            return set()
        self._until = now + self._stable
        leaders = nlargest(self._limit, self._use.items(), key=lambda item: item[1])
        old, self._top = self._top, {tenant: str(tenant) for tenant, _ in leaders}
        self._use.clear()
        return set(old.values()) - set(self._top.values())


class PrometheusSink:
    """Counts what the router does, and reads its pools at each scrape."""

    # Mutable state: the metric objects, _top, and _gone (folded series still to be taken out).

    def __init__(
        self,
        router: TenantRouter,
        *,
        top: int = 20,
        registry: CollectorRegistry | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._registry = REGISTRY if registry is None else registry
        self._top = TopTenants(top, clock=clock)
        labels = ("tenant", "database")
        none: Any = None  # registered below, all or nothing
        self._busy = Counter("tenantry_tenant_busy_seconds", "Seconds that statements ran", labels, registry=none)
        self._transactions = Counter(
            "tenantry_tenant_transactions", "Scopes ended", (*labels, "outcome"), registry=none
        )
        self._waits = Counter("tenantry_tenant_wait_seconds", "Seconds waited for a scope", labels, registry=none)
        self._checkout = Histogram(
            "tenantry_checkout_seconds",
            "Seconds from asking for a scope to having it",
            buckets=_BUCKETS,
            registry=none,
        )
        self._lookups = Counter(
            "tenantry_directory_lookups",
            "Tenants asked of the control database",
            ("result",),
            registry=none,
        )
        for result in ("loaded", "absent", "failed"):
            self._lookups.labels(result)
        self._children: dict[tuple[str, str, str], tuple[Any, Any, Any]] = {}
        self._collectors: list[Collector] = [
            self._busy,
            self._transactions,
            self._waits,
            self._checkout,
            self._lookups,
            _Pools(router),
        ]
        for collector in self._collectors:
            self._registry.register(collector)

    def __call__(self, event: Event) -> None:
        """See `tenantry.events.Sink`."""
        if type(event) is ScopeEnded:
            label = self._top.label(event.tenant, event.busy)
            key = (label, event.database, event.outcome)
            children = self._children.get(key)
            if children is None:
                children = self._children[key] = (
                    self._busy.labels(label, event.database),
                    self._waits.labels(label, event.database),
                    self._transactions.labels(*key),
                )
                self._fold()
            busy, waits, transactions = children
            busy.inc(event.busy)
            waits.inc(event.waited)
            transactions.inc()
            self._checkout.observe(event.waited)
        elif type(event) is DirectoryLookup:
            self._lookups.labels(event.result).inc()

    def _fold(self) -> None:
        """Take out the series of tenants that are no longer on top."""
        gone = self._top.rotate()
        for key in [key for key in self._children if key[0] in gone]:
            del self._children[key]
        for metric in (self._busy, self._waits, self._transactions):
            for labels in [labels for labels in metric._metrics if labels[0] in gone]:
                metric.remove(*labels)

    async def close(self) -> None:
        """Take the metrics out of the registry."""
        for collector in self._collectors:
            self._registry.unregister(collector)


class _Pools(Collector):
    """Pools and admission, read when scraped."""

    def __init__(self, router: TenantRouter) -> None:
        self._router = router

    def describe(self) -> Iterable[Metric]:
        """Names only: nothing is read at registration."""
        return [
            GaugeMetricFamily("tenantry_pool_connections", "", labels=["database", "state"]),
            GaugeMetricFamily("tenantry_admission_waiting", "", labels=["database"]),
        ]

    def collect(self) -> Iterable[Metric]:
        """One sample a pool and state."""
        connections = GaugeMetricFamily(
            "tenantry_pool_connections", "Connections by state", labels=["database", "state"]
        )
        waiting = GaugeMetricFamily(
            "tenantry_admission_waiting", "Checkouts waiting for a connection", labels=["database"]
        )
        for name, pool in list(self._router.pools.open_pools().items()):
            for state, count in pool.state().items():
                connections.add_metric([name, state], count)
            waiting.add_metric([name], pool.admission.waiting)
        return [connections, waiting]


def exposition(registry: CollectorRegistry | None = None) -> tuple[str, bytes]:
    """What a scrape gets: the content type and the text. None: the global registry."""
    return CONTENT_TYPE_LATEST, generate_latest(REGISTRY if registry is None else registry)


class FleetNumbers(NamedTuple):
    """What the control database knows of the whole fleet, read by `tenantry.server` before each scrape."""

    up: bool = False
    """The control database answered. Else what was last known stands in the counters, and nothing elsewhere."""
    uses: Mapping[tuple[str, str], tuple[float, float, Mapping[str, int]]] = MappingProxyType({})
    """By tenant label and database: busy seconds, seconds waited, and scopes by outcome, since the start."""
    busy: Mapping[str, float] = MappingProxyType({})
    """By database: seconds that it was executing, since the start."""
    coverage: float | None = None
    """How much of the last complete hour the fleet was reporting, 0 to 1; None: not known."""
    shares: Mapping[tuple[str, str], float] = MappingProxyType({})
    """By tenant and database, of the last complete bucket, 0 to 1: tenants with a label only."""
    streaks: Mapping[str, int] = MappingProxyType({})
    """By tenant: days in a row for which it has satisfied the rule."""
    candidates: frozenset[str] = frozenset()
    """Tenants that the rule would promote."""
    tenants: Mapping[tuple[str, str], int] = MappingProxyType({})
    """By database and state: how many tenants live there."""
    moves: Mapping[str, str] = MappingProxyType({})
    """By tenant: the phase of its unfinished move."""
    lags: Mapping[str, int] = MappingProxyType({})
    """By tenant: bytes of log that the other side of its unfinished move has not confirmed."""
    pauses: tuple[float, ...] = ()
    """Seconds of pause of every move that has flipped."""


class FleetCollector(Collector):
    """The fleet's view: `numbers` as they were last set."""

    # Mutable state: numbers, replaced as a whole.

    def __init__(self) -> None:
        self.numbers = FleetNumbers()

    def describe(self) -> Iterable[Metric]:
        """Names only."""
        return [metric for metric in self._families()]

    def collect(self) -> Iterable[Metric]:
        """One sample for every number."""
        now = self.numbers
        families = self._families()
        busy, scopes, waits, database, coverage, share, streak, candidate, tenants, phase, lag, pause, up = (
            families
        )
        for (tenant, name), (seconds, waited, outcomes) in now.uses.items():
            busy.add_metric([tenant, name], seconds)
            waits.add_metric([tenant, name], waited)
            for outcome, count in outcomes.items():
                scopes.add_metric([tenant, name, outcome], count)
        for name, seconds in now.busy.items():
            database.add_metric([name], seconds)
        if now.coverage is not None:
            coverage.add_metric([], now.coverage)
        for (tenant, name), ratio in now.shares.items():
            share.add_metric([tenant, name], ratio)
        for tenant, days in now.streaks.items():
            streak.add_metric([tenant], days)
            candidate.add_metric([tenant], tenant in now.candidates)
        for (name, state), count in now.tenants.items():
            tenants.add_metric([name, state], count)
        for tenant, name in now.moves.items():
            phase.add_metric([tenant, name], 1)
        for tenant, size in now.lags.items():
            lag.add_metric([tenant], size)
        if now.up:
            pause.add_metric([], *_histogram(now.pauses))
        up.add_metric([], now.up)
        return families

    def _families(self) -> tuple[Any, ...]:
        def gauge(name: str, text: str, *labels: str) -> Any:
            return GaugeMetricFamily(f"tenantry_{name}", text, labels=labels)

        def counter(name: str, text: str, *labels: str) -> Any:
            return CounterMetricFamily(f"tenantry_{name}", text, labels=labels)

        return (
            counter("tenant_busy_seconds", "Seconds that statements ran", "tenant", "database"),
            counter("tenant_transactions", "Scopes ended", "tenant", "database", "outcome"),
            counter("tenant_wait_seconds", "Seconds waited for a scope", "tenant", "database"),
            counter("database_busy_seconds", "Seconds that the database was executing", "database"),
            gauge("ledger_coverage_ratio", "Part of the last complete hour that the fleet reported"),
            gauge("tenant_share_ratio", "Part of the database in the last complete bucket", "tenant", "database"),
            gauge("promotion_streak_days", "Days in a row that satisfy the rule", "tenant"),
            gauge("promotion_candidate", "1 if the rule would promote the tenant", "tenant"),
            gauge("directory_tenants", "Tenants by database and state", "database", "state"),
            gauge("move_phase", "1 for the phase of the tenant's unfinished move", "tenant", "phase"),
            gauge("move_lag_bytes", "Log that the other side of an unfinished move has not confirmed", "tenant"),
            HistogramMetricFamily("tenantry_move_pause_seconds", "Pause of the tenant's clients at the flip"),
            gauge("control_up", "1 if the control database answered this scrape"),
        )


def _histogram(values: tuple[float, ...]) -> tuple[list[tuple[str, float]], float]:
    """Cumulative counts by upper bound, and the sum: what an exposed histogram consists of."""
    counts = [(str(bound), float(sum(value <= bound for value in values))) for bound in _PAUSES]
    return [*counts, ("+Inf", float(len(values)))], sum(values)


class FleetScrape:
    """A registry of its own with the fleet's numbers, and nothing of this process."""

    # Mutable state: the collector's numbers.

    def __init__(self) -> None:
        self._collector = FleetCollector()
        self._registry = CollectorRegistry()
        self._registry.register(self._collector)

    def exposition(self, numbers: FleetNumbers) -> tuple[str, bytes]:
        """What a scrape gets: the content type and the text."""
        self._collector.numbers = numbers
        return exposition(self._registry)
