"""All customers at once, as fast as it goes: throughput, latency, who used how much, nothing lost."""

from __future__ import annotations

from tenantry.demo import history
from tenantry.demo.load import Sample, quantile
from tenantry.demo.product import HEAVY, OWNED
from tenantry.demo.stage import Demo
from tenantry.demo.story import Section
from tenantry.demo.watch import bars_of, watched
from tenantry.demo.world import POOL, SHARED

#: Callers that ask at the same time: more than there are connections, so that some always wait for a turn.
CALLERS = 24


async def run(demo: Demo) -> None:
    """The load at full speed."""
    load, seconds = demo.load, demo.options.seconds
    section = demo.story.section("traffic", "Forty customers, one router")
    section.claim(
        "A service asks the router for a connection for a customer and writes plain SQL. No statement of this "
        "load names a customer; each gets its own rows all the same."
    )
    section.did(
        f"{CALLERS} callers at once on {POOL[SHARED]} + {POOL[OWNED]} connections for {seconds:g} s: look-ups, "
        f"log entries, counters, reports. 60 of 100 requests are {HEAVY}'s."
    )
    await _warm(demo)
    sample = load.sample()
    async with watched(demo.story.teller, load, "requests through the router", seconds):
        await load.flat_out(CALLERS, seconds)
    load.finish(sample)
    demo.rate = sample.requests / sample.seconds
    _tell_speed(demo, section, sample)
    await _tell_use(demo, sample)
    await tell_history(demo)


async def _warm(demo: Demo) -> None:
    """Open the connections and plan the statements, so that the figures are those of a service that runs."""
    sample = demo.load.sample()
    await demo.load.flat_out(CALLERS, min(1.0, demo.options.seconds / 4))
    demo.load.finish(sample)


def _tell_speed(demo: Demo, section: Section, sample: Sample) -> None:
    latencies = sample.latencies()
    small = sample.latencies(lambda place: demo.load.customers[place].name != HEAVY)
    p50, p99 = quantile(latencies, 0.50) * 1000, quantile(latencies, 0.99) * 1000
    others = quantile(small, 0.99) * 1000
    failures = [failure for book in demo.load.books for failure in book.failures]
    section.saw(
        f"{sample.requests:,} requests in {sample.seconds:.1f} s: {demo.rate:,.0f} a second, each a transaction "
        f"of its own with its scope checked in the database. Half took less than {p50:.1f} ms, 99 of 100 less "
        f"than {p99:.1f} ms; of the 39 smaller customers' 99 of 100 took less than {others:.1f} ms."
    )
    section.check(sample.requests > 0 and not failures, f"no request failed ({len(failures)} failures)")
    if failures:
        section.quote("\n".join(sorted(set(failures))[:5]))
    section.facts(
        requests=sample.requests,
        seconds=round(sample.seconds, 3),
        requests_per_second=round(demo.rate, 1),
        p50_ms=round(p50, 3),
        p99_ms=round(p99, 3),
        others_p99_ms=round(others, 3),
        failures=len(failures),
        customers=sum(1 for taken in sample.taken if taken),
    )


async def _tell_use(demo: Demo, sample: Sample) -> None:
    section = demo.story.section("use", "Who used how much")
    section.claim("The router meters every customer: for how long its statements ran, as the service saw it.")
    section.did("What the load used was written to the ledger, in the control database, and read back.")
    await demo.ledger.flush()
    pool = await demo.router.directory.store.pool()
    rows = await pool.fetch(
        "SELECT tenant, sum(busy_seconds) AS busy, sum(commits) AS commits FROM tenantry.usage GROUP BY tenant"
    )
    used = {row["tenant"]: float(row["busy"]) for row in rows}
    busy = [used.get(str(customer.id), 0.0) for customer in demo.load.customers]
    commits = int(sum(row["commits"] for row in rows))
    done, _ = demo.load.totals()
    whole = sum(busy) or 1.0
    requests = len(sample.taken[0]) / (sample.requests or 1)
    section.saw(
        f"{whole:.1f} s of statements running side by side, {busy[0] / whole:.0%} of it for {HEAVY}, which made "
        f"{requests:.0%} of the requests:"
    )
    section.bars(list(bars_of([customer.name for customer in demo.load.customers], busy, shown=8)))
    section.check(commits == done, f"the ledger has every request, once: {commits:,} of {done:,}")
    section.facts(
        busy_seconds=round(whole, 3),
        heavy_share_of_time=round(busy[0] / whole, 4),
        heavy_share_of_requests=round(requests, 4),
        ledger_commits=commits,
        requests=done,
    )


async def tell_history(demo: Demo) -> None:
    """Hold the books against the tables."""
    section = demo.story.section("history", "Nothing lost, nothing doubled")
    section.claim("What a customer was told is done is there, exactly once, under its own id, at its own home.")
    section.did("Every write carried an operation number; the books of the 40 customers against the tables.")
    found = await history.check(demo.world, demo.router, demo.load)
    section.saw(
        f"{found.acknowledged:,} acknowledged writes: {found.lost} lost, {found.doubled} doubled, "
        f"{found.strange} that nobody asked for."
    )
    section.check(found.acknowledged > 0 and found.clean, "acknowledged means present exactly once")
    section.facts(acknowledged=found.acknowledged, lost=found.lost, doubled=found.doubled, strange=found.strange)
