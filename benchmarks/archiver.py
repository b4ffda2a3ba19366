"""One export or import in this process and nothing else; for `benchmarks.tenant_data`, which measures memory.

Reads what to do from stdin, answers with the seconds that it took and this process' peak memory.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.mover import peak
from tenantry import Config, Operations


async def work(given: dict[str, Any]) -> dict[str, float]:
    """Export the tenant, or import the file."""
    async with Operations.open(Config.parse(given["config"]), actor="a benchmark") as ops:
        started = time.monotonic()
        if given["what"] == "export":
            done: Any = await ops.data.export(given["tenant"], Path(given["file"]))
        else:
            done = await ops.data.import_(Path(given["file"]), database="acme")
            assert done.written
        return {"seconds": time.monotonic() - started, "rows": done.rows}


if __name__ == "__main__":
    answer = asyncio.run(work(json.load(sys.stdin)))
    print(json.dumps(answer | {"peak_bytes": peak()}))
