"""Ctrl-C is a clean pause: a real `tenantry` process on a pseudo-terminal, real signals, at named points."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tenantry.move import Mover, State
from tenantry.move.failpoints import VARIABLE
from tests.integration.move.operators import operator_file
from tests.support.estate import Estate
from tests.support.load import check, load

ROOT = Path(__file__).parents[3]
SECONDS = 60.0
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Terminal:
    """One `tenantry …` on a pseudo-terminal of its own."""

    process: subprocess.Popen[bytes]
    master: int
    seen: bytearray = field(default_factory=bytearray)

    @classmethod
    def run(cls, path: Path, *arguments: str, failpoints: str = "") -> Terminal:
        master, slave = pty.openpty()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TENANTRY_")}
        environment |= {"TENANTRY_CONFIG": str(path), VARIABLE: failpoints, "COLUMNS": "100", "TERM": "xterm"}
        process = subprocess.Popen(
            [sys.executable, "-m", "tenantry", *arguments],
            stdin=slave, stdout=slave, stderr=slave, env=environment, cwd=ROOT, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        os.set_blocking(master, False)
        return cls(process, master)

    async def frozen(self) -> None:
        """Wait until a failpoint has frozen it, reading what it says meanwhile."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            self._read()
            pid, status = os.waitpid(self.process.pid, os.WUNTRACED | os.WNOHANG)  # noqa: ASYNC222  WNOHANG
            if pid:
                assert os.WIFSTOPPED(status), f"ended instead of freezing ({status}): {self.text}"
                return
            await asyncio.sleep(0.005)
        raise AssertionError(f"did not freeze: {self.text}")

    def press(self) -> None:
        """Ctrl-C, while it is frozen: it hears of it in the moment in which it goes on."""
        self.process.send_signal(signal.SIGINT)
        self.process.send_signal(signal.SIGCONT)

    async def said(self, words: str) -> None:
        """Wait until it has said this."""
        async with asyncio.timeout(SECONDS):
            while words not in self.text:
                self._read()
                await asyncio.sleep(0.005)

    async def ended(self) -> int:
        """Its exit code."""
        async with asyncio.timeout(SECONDS):
            while self.process.poll() is None:
                self._read()
                await asyncio.sleep(0.005)
        self._read()
        return self.process.returncode

    @property
    def text(self) -> str:
        """What was on the terminal, in one line and without colours."""
        return " ".join(_CONTROL.sub("", self.seen.decode(errors="replace")).split())

    def _read(self) -> None:
        try:
            while chunk := os.read(self.master, 65536):
                self.seen += chunk
        except OSError:  # nothing to read now, or nobody is left to write
            pass

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)


@pytest.fixture
def terminals(estate18: Estate, tmp_path: Path) -> Iterator[list[Terminal]]:
    made: list[Terminal] = []
    yield made
    for terminal in made:
        terminal.close()


@pytest.fixture
def path(estate18: Estate, tmp_path: Path) -> Path:
    """A configuration file for the estate."""
    return operator_file(estate18, tmp_path)


async def the_move(mover: Mover) -> str:
    (record,) = await mover.list()
    return record.id


LONG = pytest.mark.faults
#: Where an interruption leaves the move. A fence that was asked to stop may still flip, or miss its budget.
STATES = {
    **{
        point: {State.RUNNING}
        for point in ("slot.created", "copy.half", "subscription.enabled", "indexes.built", "verify.started")
    },
    **{point: {State.RUNNING, State.FLIPPED} for point in ("fence.locked", "fence.reverse_opened")},
    **{point: {State.FLIPPED} for point in ("fence.commit_sent", "directory.updated")},
}


@pytest.mark.parametrize(
    "point",
    [
        pytest.param("slot.created", marks=LONG),
        "copy.half",
        pytest.param("subscription.enabled", marks=LONG),
        pytest.param("indexes.built", marks=LONG),
        pytest.param("verify.started", marks=LONG),
        pytest.param("fence.locked", marks=LONG),
        pytest.param("fence.reverse_opened", marks=LONG),
        "fence.commit_sent",
        pytest.param("directory.updated", marks=LONG),
    ],
)
async def test_ctrl_c_pauses_the_move_and_resume_finishes_it(
    estate18: Estate, path: Path, terminals: list[Terminal], point: str
) -> None:
    mover = estate18.mover()
    async with load(estate18) as running:
        terminal = Terminal.run(
            path, "promote", str(estate18.tenant), "--to", "acme", "--yes", failpoints=f"{point}=stop"
        )
        terminals.append(terminal)
        await terminal.frozen()
        terminal.press()
        assert await terminal.ended() == 130, terminal.text
        move = await the_move(mover)
        assert "stopping at the next clean point" in terminal.text
        assert f"tenantry moves resume {move}" in terminal.text
        record = await mover.show(move)
        assert record.state in STATES[point]
        assert record.error == "it was interrupted"
        await running.reach(estate18.tenant, 10)  # it works on, with nobody's help
        resumed = Terminal.run(path, "moves", "resume", move)  # the lease is free at once
        terminals.append(resumed)
        assert await resumed.ended() == 0, resumed.text
        await running.reach(estate18.tenant, 10)
    await check(estate18, running)
    assert (await mover.show(move)).state is State.FLIPPED
    assert (await estate18.homes())["control"] == ("acme", 2)


async def test_a_second_ctrl_c_ends_at_once_even_inside_a_fence_and_harms_nobody(
    estate18: Estate, path: Path, terminals: list[Terminal]
) -> None:
    mover = estate18.mover()
    async with load(estate18) as running:
        terminal = Terminal.run(
            path,
            "promote",
            str(estate18.tenant),
            "--to",
            "acme",
            "--yes",
            failpoints="fence.locked=stop,fence.marker_seen=stop",
        )
        terminals.append(terminal)
        await terminal.frozen()
        terminal.press()  # inside the fence: it goes on to its end, and so comes to the next point
        await terminal.frozen()
        assert "stopping at the next clean point" in terminal.text
        terminal.press()
        assert await terminal.ended() == 130, terminal.text
        assert "ended at once" in terminal.text
        await running.reach(estate18.tenant, 10)
        move = await the_move(mover)
        assert (await mover.show(move)).state is State.RUNNING
        record = await mover.abort(move)
        assert record.state is State.ABORTED
        await running.reach(estate18.tenant, 10)
    await check(estate18, running)


@pytest.mark.parametrize("command", [pytest.param("rollback", marks=LONG), "release"])
async def test_ctrl_c_pauses_an_ending_too(
    estate18: Estate, path: Path, terminals: list[Terminal], command: str
) -> None:
    mover = estate18.mover()
    before = await estate18.checksums("shared")
    move = (await mover.run(await mover.plan(estate18.tenant, "acme"))).id
    point = {"rollback": "fence.marker_written", "release": "release.deleting"}[command]
    terminal = Terminal.run(path, "moves", command, move, "--yes", failpoints=f"{point}=stop")
    terminals.append(terminal)
    await terminal.frozen()
    terminal.press()
    assert await terminal.ended() == 130, terminal.text
    state, done = {
        "rollback": (State.ROLLING_BACK, State.ROLLED_BACK),
        "release": (State.RELEASING, State.RELEASED),
    }[command]
    assert (await mover.show(move)).state is state
    assert (await mover.resume(move)).state is done
    mine = {key: value for key, value in before.items() if key[1] == estate18.tenant}
    assert await estate18.checksums("acme" if command == "release" else "shared") == (
        mine if command == "release" else before
    )


async def test_the_bars_of_a_move_show_phases_rows_and_the_pause(
    estate18: Estate, path: Path, terminals: list[Terminal]
) -> None:
    terminal = Terminal.run(path, "promote", str(estate18.tenant), "--to", "acme", "--yes")
    terminals.append(terminal)
    assert await terminal.ended() == 0, terminal.text
    text = terminal.text
    assert "copy public.entry" in text
    assert "200 rows" in text
    assert "verify: done in" in text
    assert "flipped, the tenant paused for" in text
    (listed,) = await estate18.mover().list()
    record = await estate18.mover().show(listed.id)
    verified, audited = record.result.found()["verified_rows"], record.result.found()["audited_rows"]
    assert min(verified, audited) >= 230
    assert f"all equal: {verified} rows before the flip, {audited} rows after it" in text
