"""Customers in a process of their own: they ask through a router, at fixed rates, whether answers come or not.

`python -m benchmarks.customers ORDER`, the order as JSON; asks until a line arrives at its standard input, then
writes its history to the order's file. Times are monotonic seconds, the same in all processes of one machine.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import sys
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import uvloop

from tenantry import Config, Router
from tests.support.clients import STYLES
from tests.support.load import Clients, History

#: What is asked by turns.
STYLES_BY_TURNS = ("read committed", "read only", "one-shot", "read only")
_ROOT = Path(__file__).parents[1]


class Customers:
    """A running process of customers."""

    # Mutable state: _process, while it runs.

    def __init__(self, process: asyncio.subprocess.Process, file: Path) -> None:
        self._process = process
        self._file = file

    @classmethod
    async def start(cls, sections: dict[str, Any], rates: dict[UUID, float], file: Path) -> Customers:
        """Returns when they are asking. `sections`: of the router's configuration; `rates`: requests a second."""
        order = {
            "config": sections, "rates": {str(tenant): rate for tenant, rate in rates.items()}, "file": str(file)
        }  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.customers", json.dumps(order),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=_ROOT,
        )  # fmt: skip
        assert process.stdout is not None
        assert await process.stdout.readline() == b"asking\n", "the customers could not begin"
        return cls(process, file)

    async def stop(self) -> History:
        """Let the last answers come in; what was asked and answered."""
        await self._process.communicate(b"stop\n")
        assert self._process.returncode == 0
        history: History = pickle.loads(self._file.read_bytes())
        return history

    def kill(self) -> None:
        """For when something else has failed."""
        if self._process.returncode is None:
            self._process.kill()


async def ask(order: dict[str, Any]) -> Clients:
    """What the process does."""
    clients = Clients()
    rates = {UUID(tenant): rate for tenant, rate in order["rates"].items()}
    async with Router.open(Config.parse(order["config"]), metrics=False) as router:
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        told = asyncio.create_task(reader.readline())
        print("asking", flush=True)
        async with asyncio.TaskGroup() as group:
            for number, (tenant, rate) in enumerate(rates.items()):
                group.create_task(steady(clients, router, tenant, rate, number / 7, told))
    return clients


async def steady(
    clients: Clients, router: Router, tenant: UUID, rate: float, offset: float, told: asyncio.Task[bytes]
) -> None:
    """Ask at a fixed rate: a pause can't hide behind customers that wait. Latency counts from the due moment."""
    began = time.monotonic() + offset / rate
    number = 0
    async with asyncio.TaskGroup() as group:
        while not told.done():
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            style = STYLES_BY_TURNS[number % len(STYLES_BY_TURNS)]
            group.create_task(clients.ask(router, tenant, style, STYLES[style], due))
            number += 1


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    asked = uvloop.run(ask(given))
    Path(given["file"]).write_bytes(pickle.dumps(History(asked.asked)))
