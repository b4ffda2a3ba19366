"""A mover in a process of its own, so that it can be killed and frozen at named points."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tenantry.ids import Kind
from tenantry.move import Endpoint, Limits, MoveError, Mover
from tenantry.move.failpoints import VARIABLE
from tests.support.estate import LIMITS, Estate

ROOT = Path(__file__).parents[2]
SECONDS = 60.0


class MoverProcess:
    """`python -m tests.support.process`, with a failpoint set."""

    def __init__(
        self,
        estate: Estate,
        command: str,
        argument: str,
        *,
        failpoints: str = "",
        endpoints: dict[str, Endpoint] | None = None,
        to: str = "acme",
        **limits: Any,
    ) -> None:
        """`command` and `argument`: "move" and a tenant, or a command of Mover and a move's id.

        `to`: the target of "move".
        """
        order = {
            "control": estate.control_dsn,
            "endpoints": [
                {"name": e.name, "kind": e.kind, "dsn": e.dsn, "peer_dsn": e.peer_dsn, "server_dsn": e.server_dsn}
                for e in (endpoints or estate.endpoints).values()
            ],
            "limits": asdict(replace(LIMITS, **limits)),
            "command": command,
            "argument": argument,
            "to": to,
        }
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TENANTRY_")}
        environment |= {VARIABLE: failpoints, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.process", json.dumps(order)],
            env=environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    async def ended(self) -> tuple[int, str]:
        """Exit code (negative: the signal) and what it has said."""
        try:
            output, _ = await asyncio.to_thread(self.process.communicate, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            output, _ = self.process.communicate()
            raise AssertionError(f"the mover did not end: {output}") from None
        return self.process.returncode, output

    async def killed(self) -> None:
        """Wait until the failpoint has killed it."""
        code, output = await self.ended()
        assert code == -signal.SIGKILL, f"not killed at its point ({code}): {output}"

    async def stopped(self) -> None:
        """Wait until the failpoint has frozen it."""
        async with asyncio.timeout(SECONDS):
            _, status = await asyncio.to_thread(os.waitpid, self.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), f"ended instead of freezing ({status})"

    def go_on(self) -> None:
        """Let a frozen one continue."""
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Make sure that it is gone."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


async def main(order: dict[str, Any]) -> str:
    """What the process does."""
    endpoints = {end["name"]: Endpoint(**{**end, "kind": Kind(end["kind"])}) for end in order["endpoints"]}
    mover = Mover(order["control"], endpoints, limits=Limits(**order["limits"]))
    if order["command"] == "move":
        plan = await mover.plan(order["argument"], order["to"])
        record = await mover.run(plan, lambda event: print(event, flush=True))
    else:
        record = await getattr(mover, order["command"])(order["argument"])
    return f"{record.state}"


if __name__ == "__main__":
    try:
        print(asyncio.run(main(json.loads(sys.argv[1]))))
    except MoveError as error:
        print(f"{type(error).__name__}: {error}")
        sys.exit(1)
