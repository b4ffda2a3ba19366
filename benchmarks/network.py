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
from benchmarks.checkout import (
    CONNECTIONS,
    HAND,
    HARDENED,
    PLAIN,
    SHOT,
    TENANTRY,
    contestants,
    fill,
    fill_hardened,
)
from benchmarks.contract import Options, Row, verdict
from benchmarks.rounds import Rates, by_turns

ONE_WAY: Final = 0.0005
#: Scopes per second to reach, by callers: against the hand-written wrapper, and against the plain pool.
AIMS: Final[dict[int, tuple[float | None, float | None]]] = {
    1: (None, None),
    8: (2.1, None),
    32: (3.2, 1.4),
    128: (3.4, 1.4),
}


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
            for callers in AIMS:
                found[callers] = await by_turns(works, callers=callers, rounds=rounds, seconds=seconds)
    how = f"{rounds} rounds of {seconds} s by turns, PostgreSQL {options.version}"
    lines = []
    for callers, rates in found.items():
        wrapper, plain = AIMS[callers]
        if wrapper is not None:
            lines.append(line(rates, callers, TENANTRY, HAND, wrapper, how))
        if plain is not None:
            lines.append(line(rates, callers, TENANTRY, PLAIN, plain, how))
        if callers == 1:
            lines.append(line(rates, callers, SHOT, PLAIN, 1.6, how))
    return lines


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


def line(rates: Rates, callers: int, side: str, base: str, bound: float, how: str) -> Row:
    """Where everybody stands."""
    ratio = rates.ratio(side, base)
    others = [f"{name} {rates.ratio(name, base):.2f} x" for name in rates.by_side if name not in (side, base)]
    who = "" if side == TENANTRY else f"{side}, "
    return Row(
        claim=f"over a network of {ONE_WAY * 1000:g} ms each way: {who}{callers} callers on "
        f"{CONNECTIONS} connections, against the {base}",
        measured=f"{ratio:.2f} x ({rates.rate(side):,.0f}/s against {rates.rate(base):,.0f}/s)",
        bound=f"at least {bound} x",
        verdict=verdict(ratio >= bound),
        beside=", ".join(others),
        note=f"{how}; middle half of the rounds {rates.spread(side, base)}",
        figures={
            "ratio": round(ratio, 4),
            "hardened": round(rates.ratio(HARDENED, base), 4),
            **{f"{name} per second": round(rates.rate(name), 1) for name in rates.by_side},
        },
    )
