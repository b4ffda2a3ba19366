"""A real Prometheus scrapes `tenantry serve` while a service is under load, and says whose load it is."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import yaml

from tenantry import Router
from tenantry.config import UsageSection
from tenantry.embedded import EmbeddedServer
from tenantry.embedded.server import free_port
from tenantry.ids import TenantId
from tests.support.product import Product, product_on
from tests.support.programs import require_program
from tests.support.until import until

SECONDS = 15.0
LONG = 90.0
RULES = Path(__file__).parents[3] / "config" / "prometheus" / "rules" / "recording.yml"
#: The database's total of this hour is there before the first difference of two readings is.
_BEGIN = (
    "INSERT INTO tenantry.database_usage (hour, database) VALUES (date_trunc('hour', now(), 'UTC'), 'shared') "
    "ON CONFLICT DO NOTHING"
)
_READ_AT = "SELECT (reading ->> 'at')::float8 FROM tenantry.database_reading"
_TOTAL = "SELECT sum(busy_seconds) FROM tenantry.database_usage"


def expression(name: str) -> str:
    """The PromQL of one of our recording rules."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    (found,) = [rule["expr"] for group in groups for rule in group["rules"] if rule.get("record") == name]
    return str(found)


@asynccontextmanager
async def serving(product: Product, folder: Path) -> AsyncIterator[str]:
    """`tenantry serve` over the product; its address."""
    config = folder / "tenantry.yaml"
    direct = product.server.dsn(product.database)
    config.write_text(f"control: {{dsn: '{direct}'}}\ndatabases: {{shared: {{kind: shared, dsn: '{direct}'}}}}\n")
    command = ["-m", "tenantry", "serve", "--port", "0", "--config", str(config)]
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stderr=asyncio.subprocess.PIPE)
    try:
        assert process.stderr is not None
        address = re.search(r"http://(\S+)", (await process.stderr.readline()).decode())
        assert address is not None
        yield address[1]
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def prometheus(target: str, folder: Path) -> AsyncIterator[Callable[[str], Awaitable[dict[str, float]]]]:
    """A Prometheus that scrapes the target as the job `tenantry`; asks it, by tenant."""
    config = folder / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s}\n"
        f"scrape_configs: [{{job_name: tenantry, static_configs: [{{targets: ['{target}']}}]}}]\n"
    )
    address = f"127.0.0.1:{free_port()}"
    options = [
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={address}",
    ]
    with (folder / "prometheus.log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            require_program("prometheus"), *options, stdout=log, stderr=log, cwd=folder
        )
        async with httpx.AsyncClient(base_url=f"http://{address}", timeout=10) as client:

            async def ask(query: str) -> dict[str, float]:
                try:
                    answer = (await client.get("/api/v1/query", params={"query": query})).json()
                except (httpx.TransportError, ValueError):
                    return {}  # it is still starting
                assert answer["status"] == "success", answer
                found = answer["data"]["result"]
                return {one["metric"].get("tenant", ""): float(one["value"][1]) for one in found}

            try:
                yield ask
            finally:
                process.terminate()
                await process.wait()


async def load(router: Router, tenants: list[TenantId], seconds: float) -> Counter[str]:
    """Two callers a tenant, the first one's statements three times as long; the seconds of each as asked for."""
    tally: Counter[str] = Counter()
    stop = time.perf_counter() + seconds

    async def call(tenant: TenantId, pause: float) -> None:
        while time.perf_counter() < stop:
            async with router.tenant(tenant) as connection:
                await connection.execute(f"SELECT pg_sleep({pause})")
            tally[str(tenant)] += pause  # type: ignore[assignment]
            await asyncio.sleep(0.05)

    pauses = [0.15, *[0.05] * (len(tenants) - 1)]
    await asyncio.gather(*(call(t, pause) for t, pause in zip(tenants, pauses, strict=True) for _ in range(2)))
    return tally


@pytest.mark.long
@pytest.mark.timeout(300)  # three programs; the server's totals come every ten seconds
async def test_prometheus_answers_which_tenant_makes_a_databases_load(
    pg18: EmbeddedServer, tmp_path: Path
) -> None:
    """The recording rule's own query, against the load generator's tally, within five points."""
    require_program("prometheus")
    with product_on(pg18) as product:
        config = product.config().model_copy(update={"usage": UsageSection(record=True, flush=0.2)})
        async with (
            product.admin() as admin,
            serving(product, tmp_path) as target,
            prometheus(target, tmp_path) as ask,
        ):

            async def scraped(metric: str, at_least: float) -> bool:
                found = await ask(metric)
                return sum(found.values()) >= at_least

            async with Router.open(config, metrics=False) as router:
                tenants = await product.signed_up(router, 3)
                # Every series must be there before the load: a rate does not see how a series began.
                await load(router, tenants, 0.1)
                await admin.execute(_BEGIN)
                await until(lambda: scraped("count(tenantry_tenant_busy_seconds_total)", 3), seconds=LONG)
                await until(lambda: scraped("count(tenantry_database_busy_seconds_total)", 1), seconds=LONG)

                begun = await admin.fetchval(_TOTAL)
                tally = await load(router, tenants, SECONDS)

            # Its sessions are over, and so what they executed is in the server's statistics.
            ended = await admin.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")

            async def complete() -> bool:
                """The server's totals have been read since, and Prometheus has what they added."""
                read = await admin.fetchrow(f"SELECT ({_READ_AT}) AS at, ({_TOTAL}) AS total")
                assert read is not None
                return (read["at"] or 0) > ended and await scraped(
                    "tenantry_database_busy_seconds_total", (read["total"] - begun) * 0.999
                )

            await until(complete, seconds=LONG)
            shares = await ask(expression("tenant_database:tenantry_share:ratio5m"))

    wanted = {tenant: seconds / sum(tally.values()) for tenant, seconds in tally.items()}
    print("\nPrometheus:", shares, "tally:", wanted)
    assert shares.keys() >= wanted.keys()
    for tenant, share in wanted.items():
        assert abs(shares[tenant] - share) < 0.05
