"""Where /metrics is: the process's registry over HTTP, read as Prometheus would."""

from __future__ import annotations

from typing import Final

from tenantry.demo import endpoint
from tenantry.demo.product import HEAVY, OWNED, named
from tenantry.demo.stage import Demo
from tenantry.metrics import OTHER

#: Series that are shown, by how they begin.
_SHOWN: Final = (
    f'tenantry_tenant_busy_seconds_total{{database="shared",tenant="{named(HEAVY).id}"}}',
    f'tenantry_tenant_busy_seconds_total{{database="{OWNED}",tenant="{named(OWNED).id}"}}',
    'tenantry_tenant_busy_seconds_total{database="shared",tenant="_other"}',
    'tenantry_pool_connections{database="shared",state="idle"}',
    "tenantry_checkout_seconds_count",
)
_TOP: Final = 20


async def run(demo: Demo) -> None:
    """Fetch the metrics, and look for those that an operator would."""
    section = demo.story.section("metrics", "What Prometheus sees")
    section.claim(
        f"The metrics are in the service's own registry. At most {_TOP} customers have a label of their own, "
        "however many there are; the rest is _other."
    )
    section.did("Fetched, as Prometheus would:")
    section.quote(demo.url)
    body = await endpoint.scrape(demo.url)
    series = [line for line in body.splitlines() if line.startswith("tenantry_")]
    shown = [line for start in _SHOWN for line in series if line.startswith(start)]
    tenants = {line.partition('tenant="')[2].partition('"')[0] for line in series if 'tenant="' in line}
    section.saw(f"{len(series)} series of tenantry's, {len(tenants - {OTHER})} customers by name. Some of them:")
    section.quote("\n".join(shown))
    section.check(
        len(shown) == len(_SHOWN) and len(tenants - {OTHER}) <= _TOP,
        f"they are there, and at most {_TOP} customers have labels",
    )
    section.facts(url=demo.url, series=len(series), tenant_labels=sorted(tenants))
