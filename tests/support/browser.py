"""A real Chromium without a screen, told what to do over its DevTools protocol."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

SECONDS = 60.0


class Tab:
    """One page of a browser."""

    # Mutable state: _calls, the number of the last call.

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._calls = 0

    def evaluate(self, script: str) -> Any:
        """What an expression is worth in the page.

        Raises:
            AssertionError: it threw.
        """
        answer = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, script: str, *, seconds: float = SECONDS) -> Any:
        """Wait until an expression is true in the page; what it is worth."""
        deadline = time.monotonic() + seconds
        while not (value := self.evaluate(script)):
            assert time.monotonic() < deadline, f"not within {seconds} s: {script}\n{self.text()}"
            time.sleep(0.1)
        return value

    def text(self) -> str:
        """What a reader sees."""
        return str(self.evaluate("document.body.innerText"))

    def _call(self, method: str, **params: Any) -> Any:
        self._calls += 1
        self._socket.send(json.dumps({"id": self._calls, "method": method, "params": params}))
        while True:
            answer = json.loads(self._socket.recv(SECONDS))
            if answer.get("id") == self._calls:
                assert "result" in answer, answer
                return answer["result"]


@contextmanager
def browsing(program: Path, home: Path, address: str) -> Iterator[Tab]:
    """A browser that shows the address; its profile is kept in `home`."""
    command = [str(program), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += ["--no-first-run", f"--user-data-dir={home}", "--remote-debugging-port=0", "about:blank"]
    with (home / "browser.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=home)
    try:
        base = f"http://127.0.0.1:{_port(process, home)}"
        page = httpx.put(f"{base}/json/new?{address}", timeout=SECONDS).raise_for_status().json()
        with connect(page["webSocketDebuggerUrl"], max_size=None, proxy=None) as socket:
            yield Tab(socket)
    finally:
        process.terminate()
        process.wait(SECONDS)


def _port(process: subprocess.Popen[bytes], home: Path) -> int:
    """The port that the browser has chosen, which it writes to a file of its profile."""
    told, deadline = home / "DevToolsActivePort", time.monotonic() + SECONDS
    while not (told.exists() and "\n" in told.read_text()):
        assert process.poll() is None, (home / "browser.log").read_text()
        assert time.monotonic() < deadline, "the browser tells no port"
        time.sleep(0.05)
    return int(told.read_text().splitlines()[0])
