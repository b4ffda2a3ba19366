"""OpenTelemetry: each scope as a span under the caller's own, and the router's events as metrics.

    async with Router.open(config, sinks=(otel_sink(),)) as router: ...

Uses the API only: what becomes of spans and metrics is the SDK's that the application has set up.
"""

from __future__ import annotations

import time
from typing import Any

from opentelemetry import metrics, trace

from tenantry.events import (
    CheckoutFailed,
    ConnectionClosed,
    ConnectionOpened,
    DatabaseDown,
    Event,
    OperatorScopeEnded,
    ScopeEnded,
    Sink,
)

#: Bounds in seconds: a scope takes from under a millisecond to minutes.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


def otel_sink(tracer: trace.Tracer | None = None, meter: metrics.Meter | None = None) -> Sink:
    """A sink for `Router.open(sinks=…)`.

    Spans, with the tenant as an attribute, each made when it has ended: `tenantry.scope`, `tenantry.checkout` (a
    caller got no scope) and `tenantry.operator`. Metrics have no tenant among their attributes, so that there are
    not more of them with more tenants: `tenantry.scope.duration` and `tenantry.scope.wait` (histograms, seconds),
    `tenantry.checkout.failures`, `tenantry.database.down` (counters) and `tenantry.pool.connections`.

    Args:
        tracer, meter: None: the application's global ones, under the name "tenantry".
    """
    return _OtelSink(tracer or trace.get_tracer("tenantry"), meter or metrics.get_meter("tenantry"))


class _OtelSink:
    """Called with each event, in the task of whom it is about."""

    def __init__(self, tracer: trace.Tracer, meter: metrics.Meter) -> None:
        self._tracer = tracer
        self._held = meter.create_histogram(
            "tenantry.scope.duration",
            unit="s",
            description="Time that scopes held their connections",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._waited = meter.create_histogram(
            "tenantry.scope.wait",
            unit="s",
            description="Time from asking for a scope until it was open",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._failures = meter.create_counter(
            "tenantry.checkout.failures", description="Callers that got no scope"
        )
        self._down = meter.create_counter(
            "tenantry.database.down", description="Times that a database refused a connection"
        )
        self._connections = meter.create_up_down_counter(
            "tenantry.pool.connections", description="Open connections of the pools"
        )

    def __call__(self, event: Event) -> None:
        match event:
            case ScopeEnded():
                self._scope(event)
            case CheckoutFailed():
                database = event.database or ""
                self._failures.add(1, {"tenantry.database": database, "error.type": event.error})
                said = {"tenantry.tenant": str(event.tenant), "error.type": event.error}
                self._span("tenantry.checkout", event.waited, database, said, event.error)
            case OperatorScopeEnded():
                said = {"tenantry.reason": event.reason, "tenantry.outcome": event.outcome}
                failed = None if event.outcome == "commit" else event.outcome
                self._span("tenantry.operator", event.seconds, event.database, said, failed)
            case ConnectionOpened():
                self._connections.add(1, {"tenantry.database": event.database})
            case ConnectionClosed():
                self._connections.add(-1, {"tenantry.database": event.database})
            case DatabaseDown():
                self._down.add(1, {"tenantry.database": event.database})
            case _:
                pass  # of the directory: nothing that a request waits for

    def _scope(self, event: ScopeEnded) -> None:
        kept = {"tenantry.database": event.database, "tenantry.outcome": event.outcome}
        self._held.record(event.held, kept)
        self._waited.record(event.waited, {"tenantry.database": event.database})
        said = {
            "tenantry.tenant": str(event.tenant),
            "tenantry.outcome": event.outcome,
            "tenantry.statements": event.statements,
            "tenantry.busy": event.busy,
            "tenantry.waited": event.waited,
        }
        failed = "error" if event.outcome == "error" else None
        self._span("tenantry.scope", event.held + event.waited, event.database, said, failed)

    def _span(self, name: str, seconds: float, database: str, said: dict[str, Any], failed: str | None) -> None:
        """A span that ends now, under the one that the caller is in."""
        now = time.time_ns()
        span = self._tracer.start_span(
            name,
            kind=trace.SpanKind.CLIENT,
            attributes={"db.system.name": "postgresql", "tenantry.database": database, **said},
            start_time=now - int(seconds * 1e9),
        )
        if failed is not None:
            span.set_status(trace.StatusCode.ERROR, failed)
        span.end(now)
