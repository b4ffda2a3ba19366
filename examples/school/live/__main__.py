"""`python -m examples.school.live`: everything from nothing, until Ctrl-C; nothing is left behind."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Iterator

import uvicorn

from examples.school.app import CONFIG, create_app
from examples.school.live.page import Shown, with_page
from examples.school.live.visitors import Centre, Visitors
from examples.school.live.world import CanNotStart, furnish
from tenantry import Operations
from tenantry.testing import Server

_CENTRES = (("Aurora", "pro", 20.0), ("Borealis", "pro", 10.0), ("Corvus", "pro", 5.0), ("Draco", "basic", 5.0))


class Served(uvicorn.Server):
    """A server that leaves the signals to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing."""
        yield


async def main(port: int, students: int) -> None:
    """Until the first signal; further ones change nothing."""
    work = asyncio.create_task(_run(port, students))
    stopped = False

    def stop() -> None:
        nonlocal stopped
        if not stopped:
            stopped = True
            work.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    try:
        await work
    except asyncio.CancelledError:
        print("\nStopped. Nothing is left behind.", flush=True)


async def _run(port: int, students: int) -> None:
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", port))
            listening.listen()  # so that a second example is refused while the first one starts
        except (OSError, OverflowError) as error:
            raise CanNotStart(f"port {port} can't be used ({error}); try: make example PORT=0") from None
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        print("Starting a PostgreSQL of our own ...", flush=True)
        with Server() as server:
            await furnish(server)
            async with Operations.open(CONFIG, actor="make example") as operations:
                await _serve(listening, address, operations, students)


async def _serve(listening: socket.socket, address: str, operations: Operations, students: int) -> None:
    centres = [Centre(*one) for one in _CENTRES]
    shown = Shown(operations, centres)
    app = with_page(create_app(), shown)
    server = Served(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2))
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        while not server.started and not serving.done():  # noqa: ASYNC110  uvicorn tells nobody
            await asyncio.sleep(0.01)
        if serving.done():
            raise CanNotStart("the app has not started; why, uvicorn has said above")
        print(f"Open {address}/ in a browser. Ctrl-C ends it.", flush=True)
        await Visitors(address, centres).run(students)
    finally:
        await shown.close()
        server.should_exit = True
        await serving


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="make example", description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="0: one that is free")
    parser.add_argument("--students", type=int, default=2000, help="of each centre on the plan pro, at the start")
    chosen = parser.parse_args()
    try:
        asyncio.run(main(chosen.port, chosen.students))
    except CanNotStart as error:
        sys.exit(str(error))
