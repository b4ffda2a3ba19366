"""`tenantry demo` as strangers run it: a command in a terminal or a pipe, to its end or to Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import asyncpg
import httpx
import pytest

from tenantry.embedded.folder import temporary_root

pytestmark = pytest.mark.timeout(240)

_COMMAND = [sys.executable, "-c", "import sys; from tenantry.cli import main; sys.exit(main())", "demo"]


@pytest.fixture
def place() -> Iterator[Path]:
    """A temporary folder of the demo's own, which PostgreSQL's user can enter; whatever is left is found here."""
    path = Path(tempfile.mkdtemp(prefix="tdemo-", dir=temporary_root()))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def environment(place: Path, **more: str) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("TENANTRY_", "PG", "COLUMNS", "LINES"))}
    return {**inherited, "TMPDIR": str(place), "TERM": "xterm", **more}


def assert_nothing_left(place: Path) -> None:
    """No folder, and no process whose command line names one."""
    assert list(place.iterdir()) == []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            assert str(place) not in (process / "cmdline").read_text(), "a server of the demo is still running"


def until(out: IO[str], marker: str) -> str:
    """Read lines until one has `marker`; returns all of them."""
    read = ""
    for line in out:
        read += line
        if marker in line:
            return read
    raise AssertionError(f"{marker!r} never came:\n{read}")


@pytest.mark.parametrize("version", [pytest.param(16, marks=pytest.mark.long), 18])
def test_the_demo_shows_every_promise_and_leaves_nothing(place: Path, version: int) -> None:
    done = subprocess.run(
        [*_COMMAND, "--seconds", "2", "--json", "--pg", str(version)],
        env=environment(place),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary: dict[str, Any] = json.loads(done.stdout)
    assert summary["ok"]
    assert summary["postgresql"] == version
    assert len(summary["checks"]) >= 15
    assert all(check["held"] for check in summary["checks"])
    assert "Traceback" not in done.stderr
    assert_the_facts(summary["sections"])
    assert_nothing_left(place)


def assert_the_facts(sections: dict[str, dict[str, Any]]) -> None:
    traffic = sections["traffic"]
    assert traffic["requests"] > 100
    assert traffic["failures"] == 0
    assert 0 < traffic["p50_ms"] <= traffic["p99_ms"]
    assert 0.5 < sections["use"]["heavy_share_of_requests"] < 0.7
    assert sections["use"]["ledger_commits"] == sections["use"]["requests"]
    assert sections["history"]["acknowledged"] > 0
    assert (sections["homes"]["heavy_database"], sections["homes"]["own_database"]) == ("shared", "mangrove")
    forgotten = sections["forgotten_where"]
    assert 0 < forgotten["rows_returned"] < forgotten["rows_in_table"]
    assert forgotten["rows_of_others_returned"] == forgotten["rows_of_others_changed"] == 0
    assert sections["cross_tenant_write"]["sqlstates"] == ["42501", "42501"]
    assert all("row-level security policy" in error for error in sections["cross_tenant_write"]["errors"])
    assert set(sections["no_scope"]["rows_seen"].values()) == {0}
    left = sections["leftovers"]
    assert left["pid_first"] == left["pid_next"]
    assert left["left"]["role"] == "app_reports"
    assert left["found"] == {
        "pid": left["pid_next"], "setting": None, "temp_table": None, "role": "app", "locks": 0
    }  # fmt: skip
    assert sections["metrics"]["series"] > 0
    assert sections["rule"]["candidates"] == ["sequoia"]
    assert sections["rule"]["sources"] == ["simulated"]
    promotion = sections["promotion"]
    assert promotion["requests"] > 100
    assert (promotion["failures"], promotion["lost"], promotion["doubled"]) == (0, 0, 0)
    assert promotion["database"] == "sequoia"
    assert 0 < promotion["fence_ms"] <= 800


@pytest.mark.parametrize(
    ("marker", "number"),
    [("Starting", signal.SIGINT), ("Ready in", signal.SIGTERM), ("moves out, live", signal.SIGINT)],
)
def test_a_demo_stopped_at_any_moment_leaves_nothing(place: Path, marker: str, number: signal.Signals) -> None:
    with subprocess.Popen(
        [*_COMMAND, "--seconds", "1"],
        env=environment(place),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        until(process.stdout, marker)
        process.send_signal(number)
        _, errors = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert_nothing_left(place)


def assert_the_console_agrees(told: str) -> None:
    """What the story has told of the promotion is what the console shows of it."""
    page = re.search(r"watch\s+(http://\S+)/move\?id=(\S+)", told)
    assert page is not None, told
    address, move = page.groups()
    assert re.search(rf"console\s+{address}\b", told)
    shown = httpx.get(f"{address}/move.json", params={"id": move}, timeout=30).json()
    assert (shown["move"]["state"], shown["move"]["step"], shown["move"]["target"]) == (
        "flipped",
        "audit",
        "sequoia",
    )
    first = httpx.get(f"{address}/index.json", timeout=30).json()
    assert f"tenantry moves release {move}" in [step["command"] for step in first["verdict"]["next"]]


async def test_a_demo_started_with_keep_can_be_looked_at_until_ctrl_c(place: Path) -> None:
    process = subprocess.Popen(  # noqa: ASYNC220  (the test has nothing else to do meanwhile)
        [*_COMMAND, "--seconds", "1", "--keep"],
        env=environment(place),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        told = until(process.stdout, "Press Ctrl-C")
        found = re.search(r"postgresql://operator@\S+", told)
        assert found is not None, told
        assert_the_console_agrees(told)
        connection = await asyncpg.connect(found[0])
        assert await connection.fetchval("SELECT count(*) FROM request_log") > 0
        await connection.close()
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
    finally:
        process.kill()
        process.communicate()
    assert_nothing_left(place)


def test_the_demo_fits_a_narrow_terminal_and_a_typed_ctrl_c_ends_it(place: Path) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.execve(sys.executable, [*_COMMAND, "--seconds", "2"], environment(place, COLUMNS="46", LINES="20"))
    shown = b""
    try:
        while b"forgotten WHERE" not in shown:
            shown += os.read(terminal, 65536)
        os.write(terminal, b"\x03")
        with suppress(OSError):  # the end of a terminal is an error
            while more := os.read(terminal, 65536):
                shown += more
        _, status = os.waitpid(child, 0)
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 130
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert "requests/s" in text
    lines = re.split(r"[\r\n]+", text.replace("^C", ""))  # the terminal's echo of the key is not ours
    assert [line for line in lines if len(line) > 46] == []
    assert_nothing_left(place)
