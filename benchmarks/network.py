"""The checkout benchmark over a network of some length: what round trips cost when the server is another machine.

The same contestants as in `benchmarks.checkout`, by turns, with a proxy between all of them and the server that
passes everything on half a millisecond later, each way: a service and a database in neighbouring data centres.
The proxy takes its part of the two cores, from all sides alike.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from benchmarks import stage
from benchmarks.checkout import CONNECTIONS, HAND, HARDENED, PLAIN, TENANTRY, contestants, fill, fill_hardened
from benchmarks.contract import Options, Row
from benchmarks.rounds import Rates, by_turns

ONE_WAY: Final = 0.0005


async def run(options: Options) -> list[Row]:
    """A row for each number of callers."""
    rounds, seconds = (2, 0.3) if options.quick else (9, 0.8)
    found = {}
    with stage.server(options.version) as server, delayed(server.host, server.port) as port:
        scene = await stage.prepare(server)
        fortress = await stage.prepare(server, "fortress", secret="benchmark " * 4)
        errands = await fill(scene)
        await fill_hardened(fortress)
        far, far_fortress = replace(scene, through=port), replace(fortress, through=port)
        async with contestants(far, far_fortress, errands) as (works, _):
            for callers in (8, 32, 128):
                found[callers] = await by_turns(works, callers=callers, rounds=rounds, seconds=seconds)
    how = f"{rounds} rounds of {seconds} s by turns, PostgreSQL {options.version}"
    return [line(rates, callers, how) for callers, rates in found.items()]


@contextmanager
def delayed(host: str, port: int) -> Iterator[int]:
    """A port on which the server answers as if it were far away."""
    command = [sys.executable, "-m", "benchmarks.delay", host, str(port), str(ONE_WAY)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as proxy:
        assert proxy.stdout is not None
        assert proxy.stdin is not None
        try:
            yield int(proxy.stdout.readline())
        finally:
            proxy.stdin.close()


def line(rates: Rates, callers: int, how: str) -> Row:
    """Where everybody stands."""
    ratio = rates.ratio(TENANTRY, HAND)
    others = [f"{name} {rates.ratio(name, HAND):.2f} x" for name in rates.by_side if name not in (TENANTRY, HAND)]
    return Row(
        claim=f"over a network of {ONE_WAY * 1000:g} ms each way: {callers} callers on {CONNECTIONS} connections, "
        f"against the {HAND}",
        measured=f"{ratio:.2f} x ({rates.rate(TENANTRY):,.0f}/s against {rates.rate(HAND):,.0f}/s); "
        f"{rates.ratio(TENANTRY, PLAIN):.2f} x a {PLAIN}",
        bound="",
        verdict="shown",
        beside=", ".join(others),
        note=f"{how}; middle half of the rounds {rates.spread(TENANTRY, HAND)}",
        figures={
            "ratio": round(ratio, 4),
            "against plain": round(rates.ratio(TENANTRY, PLAIN), 4),
            "hardened": round(rates.ratio(HARDENED, HAND), 4),
            **{f"{name} per second": round(rates.rate(name), 1) for name in rates.by_side},
        },
    )
