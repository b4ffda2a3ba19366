"""A fleet of 1,000 routers, 12 shared databases, 1,000 dedicated ones and a million tenants, on paper.

    python -m benchmarks.scale [--quick]

Measures what one thing costs (`benchmarks.fleet.costs`), lets one router of the fleet run in simulated time by the
code that decides (`benchmarks.fleet.simulate`), and multiplies. Prints the tables; without `--quick` they replace
those of docs/explanation/scale.md. No fleet of this size was run: the page says what is which.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from benchmarks import migrate, stage
from benchmarks.contract import Options
from benchmarks.fleet import costs, simulate
from benchmarks.fleet.costs import Costs
from benchmarks.fleet.simulate import Fleet, Reads, Seen
from benchmarks.processor import server_seconds

PAGE: Final = Path(__file__).parent.parent / "docs" / "explanation" / "scale.md"
START: Final = "<!-- scale:start -->"
END: Final = "<!-- scale:end -->"
#: The fleet in three settings: its words, and what is other than in `Fleet`.
WAYS: Final[Sequence[tuple[str, dict[str, float]]]] = (
    ("as it comes: every router serves every tenant", {}),
    ("a dedicated tenant's requests go to 10 of the routers", {"sticky": 10}),
    ("the same, and `pool.max: 2`, `pool.idle: 60s`", {"sticky": 10, "pool": 2, "idle": 60.0}),
)
#: Sessions that each process has at the control database, of which one listens.
CONTROL_SESSIONS: Final = 4


class Migration(NamedTuple):
    """Seconds of processor time for one database, Alembic's first two revisions."""

    program: float
    server: float


class Result(NamedTuple):
    """All that was measured and simulated."""

    fleet: Fleet
    costs: Costs
    migration: Migration
    seen: Sequence[Seen]
    """In the order of `WAYS`."""
    reads: Reads
    rows: tuple[float, float]
    """Of a flush every 5 s, and every 30 s."""


def result(options: Options) -> Result:
    """Measure and simulate; some minutes."""
    fleet = Fleet(seconds=120.0) if options.quick else Fleet()
    ways = [replace(fleet, **changed) for _, changed in WAYS]  # type: ignore[arg-type]
    return Result(
        fleet,
        asyncio.run(costs.measure(options, fleet.tenants)),
        migrated(options),
        [simulate.connections(way) for way in ways],
        simulate.directory_reads(fleet),
        (simulate.ledger_rows(fleet, 5.0), simulate.ledger_rows(fleet, 30.0)),
    )


def migrated(options: Options) -> Migration:
    """A few databases, by `tenantry migrate`."""
    names = ["shared0", *(f"tenant{n}" for n in range(1 if options.quick else 7))]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with stage.server(options.version) as server, TemporaryDirectory():
        before, at_server = resource.getrusage(resource.RUSAGE_CHILDREN), server_seconds(server)
        migrate.measure(server, names, path, by_us=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Migration(own / len(names), (server_seconds(server) - at_server) / len(names))


# -- the tables -------------------------------------------------------------------------------------


def tables(found: Result) -> str:
    """As they stand on the page."""
    when = datetime.now(UTC).strftime("%Y-%m-%d")
    return "\n".join(
        [
            "**Measured**, a processor's time for one thing, with "
            f"{found.costs.tenants:,} tenants in the directory:",
            "",
            *_table(("what", "cost"), _measured(found)),
            "",
            f"**Simulated**, the connections of one router of {found.fleet.routers:,} at "
            f"{found.fleet.requests:,.0f} requests a second in all, and what that makes of the fleet:",
            "",
            *_table(
                ("", "router", "a shared database", "a dedicated one", "opened a second", "p99 wait for one"),
                _connections(found),
            ),
            "",
            "**Calculated** from both, for the control database:",
            "",
            *_table(("what", "how often", "what it takes"), _control(found)),
            "",
            f"Measured on {when}, {os.cpu_count()} cores, by `python -m benchmarks.scale`.",
        ]
    )


def _measured(found: Result) -> Iterator[tuple[str, ...]]:
    one = found.costs
    yield "control database: a tenant that a router does not have in its cache", _time(one.lookup)
    yield "control database: a poll that finds nothing changed", _time(one.poll)
    yield "control database: a change of a tenant's row", _time(one.change)
    yield "… and more for each router that listens", _time(one.notice)
    yield "control database: a flush of the ledger without rows", _time(one.flush)
    yield "… and more for each tenant in it", _time(one.row)
    yield "control database: a sign-up by `least-loaded`, one at a time", _time(one.sign_up)
    yield "control database: `placements check`", _time(one.inhabitants)
    yield "any server: a connection opened and closed", _time(one.connection)
    yield "any server: memory of a session's own", f"{one.backend / 1e6:.1f} MB"
    yield "router: one tenant's change is heard", _time(one.heard)
    yield "router: 100,000 cached tenants are put in doubt", _time(one.doubt)
    yield "router: one decision of the admission", _time(one.admission)
    yield "`balance`: 12 databases, 100 tenants of each", _time(one.balance)
    yield (
        "`migrate`: a database by Alembic",
        (f"{_time(found.migration.program)} of the program, {_time(found.migration.server)} of its server"),
    )


def _connections(found: Result) -> Iterator[tuple[str, ...]]:
    fleet = found.fleet
    for (words, _), seen in zip(WAYS, found.seen, strict=True):
        yield (
            words,
            f"{fleet.shared * seen.shared + seen.dedicated:.0f}, {seen.most} at most",
            f"{fleet.routers * seen.shared:,.0f}",
            f"{fleet.routers * seen.dedicated / fleet.dedicated:,.0f}",
            f"{fleet.routers * seen.opened:,.0f}",
            _time(seen.wait(0.99)),
        )


def _control(found: Result) -> Iterator[tuple[str, ...]]:
    fleet, one, reads = found.fleet, found.costs, found.reads
    routers = fleet.routers
    yield (
        "sessions: the listeners",
        f"{routers:,}, direct",
        f"{routers * one.backend / 1e9:.1f} GB",
    )
    yield (
        "sessions: the others, at most",
        f"{routers * (CONTROL_SESSIONS - 1):,}, through a pooler or not",
        f"{routers * (CONTROL_SESSIONS - 1) * one.backend / 1e9:.1f} GB without one",
    )
    for words, each in (
        ("look-ups, in the first 10 s of all routers at once", reads.cold),
        ("look-ups, twenty minutes later", reads.steady),
        ("look-ups, in the 10 s after a bulk change", reads.doubtful),
    ):
        yield words, f"{routers * each:,.0f} a second", _cores(routers * each * one.lookup)
    yield "polls every 30 s", f"{routers / 30:.0f} a second", _cores(routers / 30 * one.poll)
    told = one.change + routers * one.notice
    yield "a change of one tenant, told to all", "each", f"{_time(told)}; {1 / told:,.0f} a second fill one core"
    for every, rows in zip((5, 30), found.rows, strict=True):
        each = one.flush + rows * one.row
        yield (
            f"the ledger, `usage.flush: {every}s`",
            f"{routers / every:,.0f} flushes of {rows:.0f} rows a second",
            f"{_cores(routers / every * each)}, {routers / every * rows:,.0f} rows a second",
        )
    yield "sign-ups by `least-loaded`", "one at a time", f"{1 / one.sign_up:,.0f} a second at most"
    databases = fleet.shared + fleet.dedicated
    whole = databases * found.migration.program
    yield (
        f"`migrate` of {databases:,} databases (not the control database's)",
        "once",
        f"{whole / 60:.0f} min of one core of the machine that runs it: {whole / 60 / 4:.0f} min with "
        f"`--jobs 4` on four cores, {whole / 60 / 16:.0f} min with `--jobs 16` on sixteen",
    )


def _time(seconds: float) -> str:
    if seconds < 1e-8:
        return "0"
    for bound, unit, factor in ((1e-3, "µs", 1e6), (1.0, "ms", 1e3)):
        if seconds < bound:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"


def _cores(seconds: float) -> str:
    return f"{seconds:.2f} cores"


def _table(heads: Sequence[str], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def main() -> int:
    """Print the tables, and keep them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="seconds; shows that it works, its figures mean little"
    )
    quick = parser.parse_args().quick
    text = tables(result(Options(quick=quick)))
    print(text)
    if not quick:
        head, start, rest = PAGE.read_text().partition(START)
        _, end, tail = rest.partition(END)
        if not start or not end:
            print(f"{PAGE} has no {START} … {END}", file=sys.stderr)
            return 1
        PAGE.write_text(f"{head}{START}\n{text}\n{END}{tail}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
