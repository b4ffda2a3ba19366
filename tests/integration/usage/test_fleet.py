"""Seen from outside: four processes under skewed load, one of them killed, against independent tallies.

`make test` counts scopes. What hangs on how time passes, the shares of busy seconds, is measured by `make long` on
a machine with nothing else to do; TENANTRY_FLEET_SECONDS sets how long the load runs there.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import asyncpg
import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.sql import query
from tenantry.usage import sampler, shares, upkeep
from tenantry.usage.ledger import to_datetime
from tenantry.usage.monitor import DatabaseMonitor
from tests.support.product import Product, product_on

SECONDS = float(os.environ.get("TENANTRY_FLEET_SECONDS", "20"))
EVERY, CALLERS = 1.0, 3


class Scope(NamedTuple):
    """A line of a tally."""

    end: float
    tenant: str
    seconds: float
    executed: float
    """Seconds by the server's clock."""


class Service:
    """One process of the fleet, from outside."""

    def __init__(self, number: int, product: Product, tenants: list[str], folder: Path, mean: float) -> None:
        self.tally = folder / f"tally-{number}"
        self.settings = {
            "config": {
                "tenancy": {"type": "uuid"},
                "control": {"dsn": product.server.dsn(product.database)},
                "usage": {"record": False},  # the process has a meter of its own, with a faster ledger
                "databases": {"shared": {"kind": "shared", "dsn": product.dsn(), "pool": {"max": 4}}},
            },
            "tenants": tenants,
            "seed": number,
            "every": EVERY,
            "callers": CALLERS,
            "mean": mean,
            "tally": str(self.tally),
        }
        self.process: asyncio.subprocess.Process
        self.router: UUID

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            Path(__file__).with_name("fleet_process.py"),
            json.dumps(self.settings),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self.process.stdout is not None
        self.router = UUID((await self.process.stdout.readline()).decode().strip())

    async def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert await self.process.wait() == 0

    async def kill(self) -> float:
        self.process.send_signal(signal.SIGKILL)
        at = time.time()
        await self.process.wait()
        return at

    def scopes(self) -> list[Scope]:
        lines = [line.split() for line in self.tally.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [Scope(float(end), tenant, float(took), float(executed)) for end, tenant, took, executed in lines]


async def test_of_a_fleet_of_which_one_is_killed_every_flushed_scope_is_in_the_ledger_once(
    pg18: EmbeddedServer, tmp_path: Path
) -> None:
    await loaded(pg18, tmp_path, 0.04, 5.0, measured=False)


@pytest.mark.long
@pytest.mark.timeout(SECONDS * 3 + 60)
@pytest.mark.parametrize("mean", [0.04, 0.01], ids=["40 to 80 ms", "10 to 20 ms"])
async def test_the_ledger_and_the_witness_agree_with_the_load_generators_own_tally(
    pg18: EmbeddedServer, tmp_path: Path, mean: float
) -> None:
    await loaded(pg18, tmp_path, mean, SECONDS, measured=True)


async def loaded(pg18: EmbeddedServer, tmp_path: Path, mean: float, seconds: float, *, measured: bool) -> None:
    """Let the fleet work for so long, kill one half-way, and compare; `measured`: the shares of time too."""
    with product_on(pg18) as product:
        async with product.admin() as control, asyncpg.create_pool(pg18.dsn(product.database), min_size=0) as pool:
            tenants = [str(product.new_id()) for _ in range(8)]
            async with product.open() as router:
                for tenant in tenants:
                    await router.add_tenant(UUID(tenant), database="shared")
            watch = DatabaseMonitor(
                "shared", lambda: asyncpg.connect(pg18.dsn(product.database)), pool, sample=0.05, flush=1.0
            )
            watch.start()
            await watch.leading.wait()
            services = [Service(number, product, tenants, tmp_path, mean) for number in range(4)]
            await asyncio.gather(*(service.start() for service in services))
            began = time.time()
            await asyncio.sleep(seconds / 2)  # the load's length, not a synchronisation
            killed = await services[0].kill()
            await asyncio.sleep(seconds / 2)
            await asyncio.gather(*(service.stop() for service in services[1:]))
            await watch.close()
            await judge(control, pool, services, tenants[0], began, killed, measured=measured)


async def judge(
    control: asyncpg.Connection[asyncpg.Record],
    pool: asyncpg.Pool[asyncpg.Record],
    services: list[Service],
    heavy: str,
    began: float,
    killed: float,
    *,
    measured: bool,
) -> None:
    rows = await control.fetch(
        "SELECT tenant, sum(busy_seconds) AS busy, sum(commits)::bigint AS commits, "
        "sum(rollbacks + errors)::bigint AS others FROM tenantry.usage GROUP BY tenant"
    )
    until = await control.fetchval(
        "SELECT extract(epoch FROM reported_until)::float8 FROM tenantry.reporter WHERE id = $1",
        services[0].router,
    )
    lost = [scope for scope in services[0].scopes() if scope.end > until]
    kept = [scope for scope in services[0].scopes() if scope.end <= until]
    kept += [scope for service in services[1:] for scope in service.scopes()]
    tally: Counter[str] = Counter()
    executed: Counter[str] = Counter()
    for scope in [*kept, *lost]:
        tally[scope.tenant] += scope.seconds  # type: ignore[assignment]
        executed[scope.tenant] += scope.executed  # type: ignore[assignment]
    told = tally[heavy] / sum(tally.values())
    wanted = executed[heavy] / sum(executed.values())

    ledger = {row["tenant"]: row["busy"] for row in rows}
    share = ledger[heavy] / sum(ledger.values())
    seen = (await sampler.sampled_sessions(pool, began - 3600, killed + 7200))["shared"]
    tagged = sum(seen.seen(tenant) for tenant in seen.sessions if tenant)
    witness = seen.seen(heavy) / tagged
    commits = sum(row["commits"] for row in rows)
    total = await control.fetchval("SELECT sum(busy_seconds) FROM tenantry.database_usage")
    charged = await judged(pool, heavy)
    print(
        f"\nheavy tenant's share: tally {told:.4f} (by the server's clock {wanted:.4f}), "
        f"ledger {share:.4f} (as judged {charged:.4f}), witness {witness:.4f} "
        f"({seen.samples} samples, {tagged} sessions); scopes: tally {len(kept)} + {len(lost)} lost with the "
        f"killed process, ledger {commits}; killed {killed - until:.2f} s after its last flush; busy: tally "
        f"{sum(tally.values()):.1f} s, ledger {sum(ledger.values()):.1f} s, database {total:.1f} s"
    )
    if measured:
        # By the callers' clocks: the statements, and every delay in these processes.
        assert abs(share - told) < 0.02
        # By the server's: what the rule judges, and what the witness saw.
        assert abs(charged - wanted) < 0.03
        assert abs(witness - wanted) < 0.03
        # At most the last interval is lost, which is 1.25 times EVERY long at most, and what a flush takes.
        assert killed - until < 1.25 * EVERY + 1.0
        assert total >= 0.5 * sum(ledger.values())
    # Nothing is lost but what the killed process had not flushed, nothing is counted twice: but for scopes at the
    # very moment of the last flush, and those that were cut off by the end of the load.
    assert abs(commits - len(kept)) <= len(services) * CALLERS
    assert len(kept) > len(services) * CALLERS
    await flush_again(control, services, heavy)


async def flush_again(control: asyncpg.Connection[asyncpg.Record], services: list[Service], tenant: str) -> None:
    """Send every process's last batch again, as one does whose answer was lost: nothing changes."""
    whole = "SELECT sum(busy_seconds) AS busy, sum(commits) AS commits FROM tenantry.usage"
    before = await control.fetchrow(whole)
    for service in services:
        batch = await control.fetchval("SELECT batch FROM tenantry.reporter WHERE id = $1", service.router)
        now = to_datetime(time.time())
        use = [[to_datetime(0.0)], ["shared"], [tenant], [1e6], [1e6], [0.0], [1000], [0], [0], [1000]]
        assert not await control.fetchval(
            query("usage/count"), service.router, batch, now, now, None, *use, [to_datetime(0.0)], [3600.0]
        )
    assert await control.fetchrow(whole) == before


async def judged(pool: asyncpg.Pool[asyncpg.Record], tenant: str) -> float:
    """The tenant's part of what is the tenants', as the rule and `tenantry usage` see it."""
    now = time.time()
    today = upkeep.today(now)
    # The collector began with the load: before that, nothing was executed, and so the hours are known as a whole.
    await pool.execute("UPDATE tenantry.database_usage SET covered_seconds = 3600")
    await upkeep.close_days(pool, now)
    loaded = await shares.load(pool, today, today + timedelta(days=1))
    total = loaded.totals["shared", today]
    charged = {who: total.charged(used) for (who, *_), used in loaded.used.items()}
    return charged[tenant] / sum(charged.values())
