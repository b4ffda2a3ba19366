"""One whole move in this process and nothing else; for `benchmarks.move_data`, which wants to know its memory.

Reads the databases and the tenant from stdin, answers with the result and this process' peak memory.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from tenantry.ids import Kind
from tenantry.move import Endpoint, Limits, Mover


async def move(given: dict[str, Any]) -> dict[str, int]:
    """Promote the tenant."""
    ends = {name: Endpoint(name, Kind(kind), dsn) for name, (kind, dsn) in given["ends"].items()}
    mover = Mover(given["control"], ends, limits=Limits(stall=600))
    record = await mover.run(await mover.plan(given["tenant"], "acme"))
    return {name: getattr(record.result, name) for name in ("copied_bytes", "verified_rows", "audited_rows")}


def peak() -> int:
    """Peak memory of this process in bytes: all of its resident pages, the interpreter's included."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise OSError("the system does not tell VmHWM")


if __name__ == "__main__":
    done = asyncio.run(move(json.load(sys.stdin)))
    print(json.dumps(done | {"peak_bytes": peak()}))
