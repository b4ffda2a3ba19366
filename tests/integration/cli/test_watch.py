"""`--watch` as people use it: a real process on a terminal, redrawn as things change, ended by Ctrl-C."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

from tests.integration.cli.conftest import CANARY, Fleet

_COMMAND = [sys.executable, "-c", "import sys; from tenantry.cli import main; sys.exit(main(sys.argv[1:]))"]
_CLEAR = b"\x1b[2J"
LONG = 60.0


class Terminal:
    """A process on a pseudo-terminal."""

    def __init__(self, process: int, terminal: int) -> None:
        self.process = process
        self.terminal = terminal
        self.shown = b""

    def until(self, marker: bytes, *, after: int = 0) -> int:
        """Read until `marker` is shown beyond byte `after`; where it ends."""
        deadline = time.monotonic() + LONG
        while (at := self.shown.find(marker, after)) < 0:
            assert time.monotonic() < deadline, f"{marker!r} never came:\n{self.text()}"
            if select.select([self.terminal], [], [], 1.0)[0]:
                self.shown += os.read(self.terminal, 65536)
        return at + len(marker)

    def interrupt(self) -> int:
        """Type Ctrl-C; the exit code."""
        os.write(self.terminal, b"\x03")
        with suppress(OSError):  # the end of a terminal is an error
            while more := os.read(self.terminal, 65536):
                self.shown += more
        _, status = os.waitpid(self.process, 0)
        self.process = 0
        return os.waitstatus_to_exitcode(status)

    def text(self) -> str:
        """All that was shown, without colours and the like."""
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.shown.decode(errors="replace"))


@contextmanager
def on_a_terminal(*arguments: str) -> Iterator[Terminal]:
    process, terminal = pty.fork()
    if process == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a test run in the background of a shell ignores it
        look = {"TERM": "xterm", "COLUMNS": "200", "LINES": "50"}
        os.execve(sys.executable, [*_COMMAND, *arguments], {**os.environ, **look})
    running = Terminal(process, terminal)
    try:
        yield running
    finally:
        os.close(terminal)
        if running.process:
            os.kill(running.process, 9)
            os.waitpid(running.process, 0)


def history(fleet: Fleet, busy: int) -> None:
    """Yesterday, the tenant `heavy` used so many of the database's 10,000 seconds."""
    day = datetime.now(UTC).date() - timedelta(days=1)
    fleet.server.psql(
        f"""
        INSERT INTO tenantry.database_usage_day (day, database, source, busy_seconds, covered, reported, final)
            VALUES ('{day}', 'shared', 'billing', 10000, 1, 1, true) ON CONFLICT DO NOTHING;
        INSERT INTO tenantry.usage_day (day, database, tenant, source, busy_seconds)
            VALUES ('{day}', 'shared', 'heavy', 'billing', {busy})
            ON CONFLICT (day, database, tenant, source) DO UPDATE SET busy_seconds = excluded.busy_seconds;
        """,
        fleet.control,
    )


def test_usage_is_drawn_anew_as_it_changes_until_ctrl_c(installed: Fleet) -> None:
    installed.ok("apply")
    installed.ok("tenants", "add", "heavy", "--database", "shared")
    history(installed, 4200)
    with on_a_terminal("usage", "--watch", "--every", "100ms") as running:
        at = running.until(b"42.0%")
        history(installed, 5300)
        drawn = running.until(b"53.0%", after=at)
        running.until(_CLEAR, after=drawn)  # and again, though nothing changes
        code = running.interrupt()

    assert code == 130
    assert _CLEAR in running.shown[at:drawn], "an old picture is wiped before the new one"
    assert "42.0%" not in running.text()[running.text().index("53.0%") :]
    for bad in ("Traceback", "Exception", CANARY):
        assert bad not in running.text()


def test_top_shows_a_session_while_it_lasts(installed: Fleet) -> None:
    installed.ok("apply")
    with on_a_terminal("top", "--watch", "--every", "100ms") as running:
        running.until(b"nobody is doing anything")
        mark = f"tenantry:seen-{os.getpid()}"
        with session(installed, mark):
            at = running.until(mark.removeprefix("tenantry:").encode())
        running.until(b"nobody is doing anything", after=at)
        code = running.interrupt()

    assert code == 130
    assert "Traceback" not in running.text()


#: A session with an application_name, until its input ends.
_SESSION = """
import asyncio, asyncpg, sys
async def main(dsn, name):
    connection = await asyncpg.connect(dsn, server_settings={"application_name": name})
    sys.stdin.read()
    await connection.close()
asyncio.run(main(*sys.argv[1:]))
"""


@contextmanager
def session(fleet: Fleet, name: str) -> Iterator[None]:
    """A session with this application_name on the shared database, for as long as the block runs."""
    command = [sys.executable, "-c", _SESSION, fleet.server.dsn(fleet.shared), name]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        try:
            yield
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(30)
