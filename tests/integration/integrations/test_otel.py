"""The OpenTelemetry sink tells what a router did, under the caller's span, and never by a tenant in a metric."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from opentelemetry import context, metrics, trace

from tenantry import Router, UnknownTenant
from tenantry.embedded import EmbeddedServer
from tenantry.ids import TenantId
from tenantry.integrations.otel import otel_sink
from tenantry.testing import Product, Server, two_tenants

SCHEMA = "CREATE TABLE students (tenant_id uuid, id int, PRIMARY KEY (tenant_id, id))"


class Recorded(trace.NonRecordingSpan):
    """A span as the API hands it to an SDK."""

    def __init__(self, name: str, attributes: Mapping[str, Any], start: int) -> None:
        super().__init__(trace.SpanContext(1, 2, is_remote=False))
        self.name, self.attributes, self.start = name, dict(attributes), start
        self.parent = trace.get_current_span()
        self.status: trace.StatusCode | None = None
        self.ended = 0

    def set_status(self, status: Any, description: str | None = None) -> None:
        self.status = status

    def end(self, end_time: int | None = None) -> None:
        self.ended = end_time or time.time_ns()


class Tracer(trace.Tracer):
    """Keeps the spans that it was asked for."""

    def __init__(self) -> None:
        self.spans: list[Recorded] = []

    def start_span(
        self, name: str, *_: Any, attributes: Any = None, start_time: int | None = None, **__: Any
    ) -> Any:
        self.spans.append(Recorded(name, attributes or {}, start_time or 0))
        return self.spans[-1]

    def start_as_current_span(self, name: str, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("the sink makes spans that have ended")


class Meter(metrics.NoOpMeter):
    """Keeps what its instruments were told."""

    def __init__(self) -> None:
        super().__init__("test")
        self.told: list[tuple[str, float, dict[str, Any]]] = []

    def _instrument(self, name: str) -> Any:
        told = self.told

        class Instrument:
            def add(self, amount: float, attributes: Any = None) -> None:
                told.append((name, amount, dict(attributes or {})))

            record = add

        return Instrument()

    def create_counter(self, name: str, *_: Any, **__: Any) -> Any:
        return self._instrument(name)

    def create_up_down_counter(self, name: str, *_: Any, **__: Any) -> Any:
        return self._instrument(name)

    def create_histogram(self, name: str, *_: Any, **__: Any) -> Any:
        return self._instrument(name)


class Stand:
    """A product, and what was told of it."""

    def __init__(self, router: Router, tenant: TenantId, tracer: Tracer, meter: Meter) -> None:
        self.router, self.tenant, self.tracer, self.meter = router, tenant, tracer, meter


@pytest.fixture
async def stand(pg18: EmbeddedServer) -> AsyncIterator[Stand]:
    async def seed(conn: Any) -> None:
        await conn.execute("INSERT INTO students (id) VALUES (1)")

    tracer, meter = Tracer(), Meter()
    async with (
        Product.installed(Server(pg18.dsn()), SCHEMA) as product,
        product.router() as router,
        two_tenants(router, seed) as (tenant, _),
    ):
        router.events.subscribe(otel_sink(tracer, meter))
        yield Stand(router, tenant, tracer, meter)


async def test_a_scope_is_a_span_under_the_callers_with_its_tenant_and_its_time(stand: Stand) -> None:
    mine = trace.NonRecordingSpan(trace.SpanContext(7, 8, is_remote=False))
    before = time.time_ns()
    token = context.attach(trace.set_span_in_context(mine))
    try:
        assert await stand.router.fetchval(stand.tenant, "SELECT count(*) FROM students, pg_sleep(0.02)") == 1
    finally:
        context.detach(token)
    (span,) = stand.tracer.spans
    assert (span.name, span.parent, span.status) == ("tenantry.scope", mine, None)
    assert span.attributes["tenantry.tenant"] == str(stand.tenant)
    assert span.attributes["tenantry.outcome"] == "commit"
    assert span.attributes["tenantry.statements"] == 1
    assert before - 5_000_000 <= span.start <= span.ended - 20_000_000


async def test_failures_and_operators_are_spans_too(stand: Stand) -> None:
    with pytest.raises(UnknownTenant):
        await stand.router.fetch(uuid.UUID(int=9), "SELECT 1")
    with pytest.raises(ZeroDivisionError):
        async with stand.router.tenant(stand.tenant):
            raise ZeroDivisionError
    async with stand.router.operator(reason="a report") as conn:
        await conn.fetch("SELECT 1")
    failed, rolled_back, operator = stand.tracer.spans
    assert (failed.name, failed.status) == ("tenantry.checkout", trace.StatusCode.ERROR)
    assert failed.attributes["error.type"] == "UnknownTenant"
    assert (rolled_back.attributes["tenantry.outcome"], rolled_back.status) == ("rollback", None)
    assert (operator.name, operator.attributes["tenantry.reason"]) == ("tenantry.operator", "a report")
    assert all(span.ended for span in stand.tracer.spans)


async def test_metrics_have_no_tenant_and_connections_come_to_what_is_open(stand: Stand) -> None:
    other = Meter()
    stand.router.events.subscribe(otel_sink(Tracer(), other))
    for _ in range(3):
        await stand.router.fetch(stand.tenant, "SELECT 1")
    durations = [told for told in other.told if told[0] == "tenantry.scope.duration"]
    assert [attributes for _, _, attributes in durations] == [
        {"tenantry.database": "shared", "tenantry.outcome": "commit"}
    ] * 3
    assert str(stand.tenant) not in str(other.told)
    opened = sum(amount for name, amount, _ in stand.meter.told if name == "tenantry.pool.connections")
    await stand.router.close()
    closed = sum(amount for name, amount, _ in stand.meter.told if name == "tenantry.pool.connections")
    assert closed == opened - 1  # the one that was open before


async def test_without_an_sdk_nothing_happens_and_nothing_breaks(stand: Stand) -> None:
    stand.router.events.subscribe(otel_sink())
    assert await stand.router.fetchval(stand.tenant, "SELECT 1") == 1
