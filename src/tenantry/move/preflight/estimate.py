"""What a move is likely to take: from earlier moves where there are any, else from benchmarks. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tenantry.move.plan import Estimate

#: Bytes a second of a copy with its indexes: the worse and the better case. Binary COPY over loopback between two
#: servers on the same two cores made 230 to 650 thousand rows a second of 130 bytes, 30 to 85 MB/s. The better
#: case keeps to the lower part of that; the worse is a sixth of its lower end, for slow disks and links.
COPY_RATE: Final = (5e6, 40e6)
#: Rows a second of the comparison of both sides. Hashing 400 thousand rows took 0.36 s on one side, so 1.1 million
#: rows a second over both on two cores at best; the worse case is a tenth of that.
VERIFY_RATE: Final = (1e5, 8e5)
#: Seconds that every move takes, however small: schema, slot, catching up.
FIXED: Final = (15.0, 2.0)
#: Moves smaller than this tell nothing about rates. Bytes.
TELLING: Final = 4_000_000
#: What was seen lately may be exceeded: both ends of the range are widened by this factor.
_MARGIN: Final = 1.5
#: The pause that the fence aims at, and the better case (docs/explanation/benchmarks.md). Seconds.
_PAUSE: Final = (0.03, 0.25)


def estimate(
    size: int, rows: int, history: Sequence[Mapping[str, Any]], *, cap: float, consented: float | None = None
) -> Estimate:
    """How long a move of `size` bytes and `rows` rows takes.

    Args:
        history: rows of sql/move/history.sql.
        cap: seconds at which the fence gives up.
        consented: seconds that a copy under the fence takes; None: it is replication.
    """
    telling = [m for m in history if (m["bytes"] or 0) >= TELLING and m["copy"] and m["verify"] and m["rows"]]
    copying = [m["bytes"] / (m["copy"] + m["indexes"]) for m in telling]
    comparing = [m["rows"] / m["verify"] for m in telling]
    slow, fast = _range(copying, COPY_RATE)
    tardy, quick = _range(comparing, VERIFY_RATE)
    seconds = (FIXED[1] + size / fast + rows / quick, FIXED[0] + size / slow + rows / tardy)
    if consented is not None:
        return Estimate((FIXED[1] + consented / 2, FIXED[0] + consented), (consented / 2, consented), "benchmarks")
    pauses = [m["pause"] for m in history if m["pause"] is not None]
    pause = (min(pauses), max(pauses)) if pauses else _PAUSE
    worst = min(max(pause[1], _PAUSE[1]), cap)
    return Estimate(seconds, (min(pause[0], worst), worst), _origin(len(telling), len(pauses)))


def _range(seen: list[float], usual: tuple[float, float]) -> tuple[float, float]:
    """The worse and the better rate."""
    return (min(seen) / _MARGIN, max(seen) * _MARGIN) if seen else usual


def _origin(telling: int, flipped: int) -> str:
    def moves(number: int) -> str:
        return f"{number} earlier move{'s' if number != 1 else ''}"

    rates = f"rates of {moves(telling)}" if telling else "rates of benchmarks on two cores"
    return f"{rates}, pause of {moves(flipped)}" if flipped else f"{rates}, pause as benchmarked"
