"""The metrics of one process, in a `prometheus_client` registry. The only module that imports it.

Tenant labels are bounded: the top K tenants by busy time have series of their own, everybody else is
`_other`. Who is on top is decided once an hour and holds for that hour, so that series don't churn; until the
first decision, the first K tenants seen hold the places.
"""

from __future__ import annotations

import logging
import os
from bisect import bisect_left
from collections.abc import Callable, Hashable, Mapping
from heapq import nlargest
from itertools import accumulate
from time import monotonic
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from tenantry.events import DirectoryLookup, Event, ScopeEnded
from tenantry.ids import TenantId

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.core import Metric

    from tenantry.router import TenantRouter

logger = logging.getLogger("tenantry")

OTHER: Final = "_other"
#: Seconds for which the set of labelled tenants holds.
STABLE: Final = 3600.0

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


# Around the aim (under 250 ms) and the cap (800 ms) of a move's pause.
_PAUSES = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.8, 1.0, 2.5, 5.0, 10.0, 60.0)


class _Count:
    """What one label did to one database."""

    __slots__ = ("busy", "commits", "errors", "rollbacks", "waited")

    def __init__(self) -> None:
        self.busy = self.waited = 0.0
        self.commits = self.rollbacks = self.errors = 0


class _Tenant:
    """One tenant in the present period."""

    __slots__ = ("counts", "id", "use")

    def __init__(self, id: TenantId, counts: dict[str, _Count]) -> None:
        self.id = id
        self.counts = counts
        """Of its label, by database."""
        self.use = 0.0
        """Busy seconds of the period."""


class TopTenants:
    """Counts by label: at most `top` tenants have one of their own, the same ones for `stable` seconds."""

    # Mutable state: _tenants (those of this period, by id), counts (by label and database), _named (labels given
    # away, besides OTHER), _until. Replaced as a whole or added to: a scrape in another thread reads copies.

    def __init__(self, top: int, *, stable: float = STABLE, clock: Callable[[], float] = monotonic) -> None:
        self._limit = top
        self._stable = stable
        self._clock = clock
        self._until = clock() + stable
        self._named = 0
        self._tenants: dict[Hashable, _Tenant] = {}
        self.counts: dict[str, dict[str, _Count]] = {OTHER: {}}

    def count(self, event: ScopeEnded) -> None:
        """Add a scope."""
        tenant, database, outcome, busy, _, waited, _ = event
        if self._clock() >= self._until:
            self._turn()
        try:
            # By its number: hashing a UUID costs as much as all the rest.
            mine = self._tenants[tenant.int if type(tenant) is UUID else tenant]
            counts = mine.counts[database]
        except KeyError:
            mine = self._tenant(tenant)
            counts = mine.counts.setdefault(database, _Count())
        mine.use += busy
        counts.busy += busy
        counts.waited += waited
        if outcome == "commit":
            counts.commits += 1
        elif outcome == "rollback":
            counts.rollbacks += 1
        else:
            counts.errors += 1

    def _tenant(self, tenant: TenantId) -> _Tenant:
        key = tenant.int if type(tenant) is UUID else tenant
        known = self._tenants.get(key)
        if known is None:
            label = OTHER
            if self._named < self._limit:
                self._named, label = self._named + 1, str(tenant)
            known = self._tenants[key] = _Tenant(tenant, self.counts.setdefault(label, {}))
        return known

    def _turn(self) -> None:
        """A period is over: choose anew, by use. Labels that fell out leave nothing behind."""
        self._until = self._clock() + self._stable
        leaders = nlargest(self._limit, self._tenants.items(), key=lambda item: item[1].use)
        kept = {str(one.id) for _, one in leaders} | {OTHER}
        self.counts = {label: counts for label, counts in self.counts.items() if label in kept}
        self._tenants = {key: _Tenant(one.id, self.counts.setdefault(str(one.id), {})) for key, one in leaders}
        self._named = len(self._tenants)


#: Variables that put `prometheus_client` into multiprocess mode; the second is its older spelling.
_MULTIPROCESS: Final = frozenset({"PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"})


class PrometheusSink(Collector):
    """Counts what the router does in plain numbers, and makes metrics of them at each scrape.

    Counters of `prometheus_client` take a lock for each addition, four to a scope: several times what the rest of
    metering costs.
    """

    # Mutable state: _top, _buckets (checkouts by bound, not cumulative), _waited (their seconds), _lookups.

    def __init__(
        self,
        router: TenantRouter,
        *,
        top: int = 20,
        registry: CollectorRegistry | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._registry = REGISTRY if registry is None else registry
        if _MULTIPROCESS & os.environ.keys():
            logger.warning(
                "prometheus_client is in multiprocess mode (PROMETHEUS_MULTIPROC_DIR): its collector does not "
                "show tenantry's metrics, which each process keeps for itself; scrape `tenantry serve` for the "
                "fleet, and open the router with metrics=False"
            )
        self._router = router
        self._top = TopTenants(top, clock=clock)
        self._buckets = [0] * (len(_BUCKETS) + 1)
        self._waited = 0.0
        self._lookups = dict.fromkeys(("loaded", "absent", "failed"), 0)
        self._registry.register(self)

    def __call__(self, event: Event) -> None:
        """See `tenantry.events.Sink`."""
        if type(event) is ScopeEnded:
            self._top.count(event)
            self._buckets[bisect_left(_BUCKETS, event.waited)] += 1
            self._waited += event.waited
        elif type(event) is DirectoryLookup:
            self._lookups[event.result] += 1

    def describe(self) -> Iterable[Metric]:
        """Names only: nothing is read at registration."""
        return self._families()

    def collect(self) -> Iterable[Metric]:
        """One sample a label, a pool, a bucket."""
        families = self._families()
        busy, transactions, waits, checkout, lookups, connections, unpipelined, waiting = families
        for label, databases in list(self._top.counts.items()):
            for name, count in list(databases.items()):
                busy.add_metric([label, name], count.busy)
                waits.add_metric([label, name], count.waited)
                for outcome, number in (
                    ("commit", count.commits),
                    ("rollback", count.rollbacks),
                    ("error", count.errors),
                ):
                    transactions.add_metric([label, name, outcome], number)
        bounds = [*map(str, _BUCKETS), "+Inf"]
        checkout.add_metric([], list(zip(bounds, accumulate(self._buckets), strict=True)), self._waited)
        for result, number in self._lookups.items():
            lookups.add_metric([result], number)
        for name, pool in list(self._router.pools.open_pools().items()):
            for state, number in pool.state().items():
                connections.add_metric([name, state], number)
            unpipelined.add_metric([name], pool.unpipelined)
            waiting.add_metric([name], pool.admission.waiting)
        return families

    def _families(self) -> tuple[Any, ...]:
        labels = ("tenant", "database")
        return (
            CounterMetricFamily("tenantry_tenant_busy_seconds", "Seconds that statements ran", labels=labels),
            CounterMetricFamily("tenantry_tenant_transactions", "Scopes ended", labels=(*labels, "outcome")),
            CounterMetricFamily("tenantry_tenant_wait_seconds", "Seconds waited for a scope", labels=labels),
            HistogramMetricFamily("tenantry_checkout_seconds", "Seconds from asking for a scope to having it"),
            CounterMetricFamily(
                "tenantry_directory_lookups", "Tenants asked of the control database", labels=("result",)
            ),
            GaugeMetricFamily("tenantry_pool_connections", "Connections by state", labels=("database", "state")),
            GaugeMetricFamily(
                "tenantry_pool_unpipelined_connections",
                "Connections whose scopes are opened by a flight of their own",
                labels=("database",),
            ),
            GaugeMetricFamily(
                "tenantry_admission_waiting", "Checkouts waiting for a connection", labels=("database",)
            ),
        )

    async def close(self) -> None:
        """Take the metrics out of the registry."""
        self._registry.unregister(self)


def exposition(registry: CollectorRegistry | None = None) -> tuple[str, bytes]:
    """What a scrape gets: the content type and the text. None: the global registry."""
    return CONTENT_TYPE_LATEST, generate_latest(REGISTRY if registry is None else registry)


class FleetNumbers(NamedTuple):
    """What the control database knows of the whole fleet, read by `tenantry.server` every few seconds."""

    up: bool = False
    """The control database answered when it was last read. Else what was last known stands in the counters, and
    nothing elsewhere.
    """
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
    backups: Mapping[str, float] = MappingProxyType({})
    """By database with a policy: seconds since its last backup began; infinite: there is none."""
    backups_every: Mapping[str, float] = MappingProxyType({})
    """By database with a policy: how old, in seconds, its last backup may become."""


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
        busy, scopes, waits, database, coverage, share, streak, *rest = families
        candidate, tenants, phase, lag, pause, backup, every, up = rest
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
        for name, age in now.backups.items():
            backup.add_metric([name], age)
        for name, seconds in now.backups_every.items():
            every.add_metric([name], seconds)
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
            gauge("database_backup_age_seconds", "Seconds since the last backup began", "database"),
            gauge("database_backup_every_seconds", "How old the last backup may become", "database"),
            gauge("control_up", "1 if the control database answered when it was last read"),
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
