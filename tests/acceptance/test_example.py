"""`make example`, as a user sees it: a real browser promotes a tenant by the page's button, and nothing fails."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser import Tab, browsing
from tests.support.packaging import ROOT
from tests.support.programs import require_program

pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]


class Example:
    """The running example; all that it writes is below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
        command = [sys.executable, "-m", "examples.school.live", "--port", "0", "--students", "200"]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.said: list[str] = []

    def address(self) -> str:
        """Of its page, once it has told it."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if line.startswith("Open "):
                return line.split()[1]
        raise AssertionError("".join(self.said))

    def end(self, number: signal.Signals = signal.SIGINT, times: int = 1) -> tuple[int, str]:
        """Send it a signal, some times; its exit code, and the rest of what it says."""
        for _ in range(times):
            self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=60)
        return self.process.returncode, rest


@pytest.fixture
def example() -> Iterator[Example]:
    folder = Path(
        tempfile.mkdtemp(prefix="tenantry-example-")
    )  # not tmp_path: a server that root starts is nobody's
    folder.chmod(0o755)
    started = Example(folder)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.end(signal.SIGTERM)
        shutil.rmtree(folder)


def row(name: str) -> str:
    """The page's row of a centre, as an expression."""
    return f"[...document.querySelectorAll('#centres tr')].find(row => row.cells[0].textContent === '{name}')"


def press(page: Tab, name: str, label: str) -> None:
    """Press a centre's button, once it says so."""
    button = f"{row(name)}?.querySelector('button')"
    page.until(f"{button}?.textContent === '{label}' && !{button}.disabled")
    page.evaluate(f"{button}.click()")


def test_a_centre_is_promoted_and_taken_back_by_the_button_with_no_failed_request(
    example: Example, tmp_path: Path
) -> None:
    chromium = require_program("chromium")
    home = tmp_path / "profile"
    home.mkdir()
    with browsing(chromium, home, example.address()) as page:
        page.until(f"Number({row('Aurora')}?.querySelector('.requests').textContent) > 20")
        press(page, "Aurora", "A database of its own")
        page.until(f"{row('Aurora')}.className === 'away'")
        assert page.evaluate(f"{row('Aurora')}.querySelector('.home').textContent") == "aurora_1"
        seen = page.evaluate(f"Number({row('Aurora')}.querySelector('.requests').textContent)")
        page.until(f"Number({row('Aurora')}.querySelector('.requests').textContent) > {seen + 20}")
        assert page.evaluate("document.getElementById('databases').textContent") == "2"
        press(page, "Aurora", "Take it back")
        page.until(f"{row('Aurora')}.querySelector('.home').textContent === 'shared'")
        press(page, "Aurora", "A database of its own")  # a second time, and it is stopped in the middle
        page.until("document.getElementById('log').textContent.includes('aurora_2')")
        assert page.evaluate("document.getElementById('failed').textContent") == "0", page.text()
        assert page.evaluate("document.getElementById('failures').textContent") == ""
        code, rest = example.end(times=3)
        page.until("document.getElementById('failures').textContent.includes('Is it still running?')")
    assert (code, rest.strip()) == (0, "Stopped. Nothing is left behind.")
    assert list(example.folder.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_it_starts_leaves_nothing_behind(example: Example, number: signal.Signals) -> None:
    assert example.process.stdout is not None
    assert example.process.stdout.readline().startswith("Starting a PostgreSQL")
    code, rest = example.end(number, times=2)
    assert (code, rest.strip().splitlines()[-1]) == (0, "Stopped. Nothing is left behind.")
    assert list(example.folder.iterdir()) == []


def test_a_port_that_is_taken_is_said_before_anything_is_started() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for wrong in (port, "70000"):
            command = [sys.executable, "-m", "examples.school.live", "--port", wrong]
            environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
            done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
            assert (done.returncode, done.stdout) == (1, "")
            assert done.stderr.startswith(f"port {wrong} can't be used"), done.stderr
            assert len(done.stderr.splitlines()) == 1
