"""Makes pictures of the console for the docs: `python -m tools.screenshots OUTDIR`.

The demo's two servers, its forty customers, an invented past, and one real promotion; Debian's Chromium (or the
program that TENANTRY_CHROMIUM names) looks at each page in light and in dark.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx
from playwright.async_api import Browser, async_playwright

from tenantry.demo import world as worlds
from tenantry.demo.product import HEAVY, OWNED, customers, named
from tenantry.demo.stages.rule import LABEL, invented
from tenantry.demo.world import CONTROL, SHARED, World
from tenantry.ids import Kind
from tenantry.move import Endpoint, Mover
from tenantry.operations.context import Context
from tenantry.promotion import PromotionRule
from tenantry.server import run
from tenantry.usage import exchange
from tenantry.wiring import Router

SCHEMES: Final[tuple[Any, ...]] = ("light", "dark")
#: Name of the picture and path of the page, before the promotion.
PAGES: Final = {
    "overview": "/",
    "tenants": "/tenants",
    "tenant": f"/tenant?id={quote(str(named(HEAVY).id))}",
    "candidates": "/candidates",
    "databases": "/databases",
    "database": f"/database?name={SHARED}",
    "checks": "/checks",
    "fleet": "/fleet",
}
#: Hours that the ledger would have, had the product run since yesterday.
_HOURS: Final = """
INSERT INTO tenantry.usage (hour, database, tenant, busy_seconds, waited_seconds, commits, errors)
SELECT hour, 'shared', t.id, weight * CASE WHEN id = $1 THEN 1.4 + 0.6 * sin(n / 3.8) ELSE 1 END, weight / 90,
       (weight * 40)::bigint, (n % 7 = 0)::int
FROM generate_series(0, 24) AS n,
     LATERAL (SELECT date_trunc('hour', now(), 'UTC') - n * interval '1 hour' AS hour) AS at,
     (SELECT id, CASE WHEN id = $1 THEN 900.0 ELSE 900.0 / (3 + row_number() OVER (ORDER BY id)) END AS weight
      FROM tenantry.tenant WHERE database = 'shared') AS t
ON CONFLICT DO NOTHING
"""
_TOTALS: Final = """
INSERT INTO tenantry.database_usage (hour, database, busy_seconds, covered_seconds)
SELECT hour, database, sum(busy_seconds) * 1.1, least(3600, extract(epoch FROM now() - hour)) FROM tenantry.usage
GROUP BY 1, 2 ON CONFLICT (hour, database) DO UPDATE SET busy_seconds = EXCLUDED.busy_seconds,
    covered_seconds = EXCLUDED.covered_seconds
"""


async def prepare(router: Router) -> None:
    """Sign everybody up, and give them a past."""
    for customer in customers():
        home = OWNED if customer.name == OWNED else SHARED
        await router.add_tenant(customer.id, plan=customer.plan, database=home)
    pool = await router.directory.store.pool()
    await pool.executemany(
        "UPDATE tenantry.tenant SET name = $2, placed_at = now() - interval '60 days' WHERE id = $1",
        [(str(customer.id), customer.name.capitalize()) for customer in customers()],
    )
    await exchange.put(pool, list(invented(PromotionRule(), datetime.now(UTC).date())), LABEL)
    await pool.execute(_HOURS, str(named(HEAVY).id))
    await pool.execute(_TOTALS)


async def promote(world: World) -> str:
    """Move the heavy customer; the move's id."""
    kinds = {SHARED: Kind.SHARED, OWNED: Kind.DEDICATED, HEAVY: Kind.DEDICATED}
    endpoints = {name: Endpoint(name, kind, world.dsn(name, "postgres")) for name, kind in kinds.items()}
    mover = Mover(world.dsn(CONTROL, CONTROL), endpoints)
    plan = await mover.plan(named(HEAVY).id, HEAVY)
    await mover.run(plan)
    return plan.id


async def settled(address: str) -> None:
    """Until everything has been looked at."""
    async with asyncio.timeout(120), httpx.AsyncClient(timeout=60) as client:
        while (await client.get(f"{address}/index.json")).json()["verdict"]["state"] == "pending":  # noqa: ASYNC110  another program's
            await asyncio.sleep(0.5)


async def take(browser: Browser, address: str, pages: dict[str, str], folder: Path) -> None:
    """Pictures of some pages, in both schemes; of the first one on a phone, too."""
    for scheme in SCHEMES:
        for width in (1280, 390):
            context = await browser.new_context(
                color_scheme=scheme, viewport={"width": width, "height": 800}, java_script_enabled=False
            )
            page = await context.new_page()
            for name, path in pages.items():
                if width == 1280 or name == "overview":
                    await page.goto(address + path)
                    phone = "" if width == 1280 else "-phone"
                    await page.screenshot(path=folder / f"{name}{phone}-{scheme}.png", full_page=True)
            await context.close()


async def main(folder: Path, program: str) -> None:
    """All of it."""
    with worlds.servers(18) as world:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
            await worlds.furnish(world)
            context = Context(world.config(), "screenshots")
            context.enter()
            try:
                async with Router.open(world.config()) as router:
                    await prepare(router)
                async with run.serving(context) as address:
                    await settled(address)
                    await take(browser, address, PAGES, folder)
                    move = await promote(world)
                    after = {"move": f"/move?id={move}", "moves": "/moves", "events": "/events"}
                    await take(browser, address, after, folder)
            finally:
                await context.close()
                await browser.close()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("python -m tools.screenshots OUTDIR")
    chromium = os.environ.get("TENANTRY_CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        raise SystemExit("there is no chromium: install it, or name one with TENANTRY_CHROMIUM")
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(target, chromium))
    print(f"{len(list(target.glob('*.png')))} pictures in {target}")
