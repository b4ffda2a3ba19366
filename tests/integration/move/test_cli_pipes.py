"""A move goes on to its end, and its exit code tells the truth, when nobody reads what it says any more."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.integration.move.operators import operator_file
from tests.support.estate import Estate

PROGRAM = f"{sys.executable} -m tenantry"


async def shell(line: str, folder: Path, estate: Estate) -> list[int]:
    """Run a pipeline; the exit codes of its parts. Nothing may look like a crash."""
    environment = {**os.environ, "TENANTRY_CONFIG": str(operator_file(estate, folder))}
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        f"{line}; echo ${{PIPESTATUS[@]}} >&9",
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=[],
        preexec_fn=lambda: os.dup2(os.open(folder / "codes", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 9),
        close_fds=False,
    )
    _, errors = await process.communicate()
    assert b"Traceback" not in errors
    assert b"Exception ignored" not in errors
    assert b"unexpected error" not in errors
    return [int(code) for code in (folder / "codes").read_text().split()]


LONG = pytest.mark.faults


@pytest.mark.parametrize(
    "ending",
    [
        "--json | head -n 1",
        pytest.param("2>&1 >/dev/null | head -n 1", marks=LONG),
        pytest.param("--json >&-", marks=LONG),
        pytest.param("2>&-", marks=LONG),
        "--json 2>&1 | true",
        pytest.param("| true", marks=LONG),
    ],
)
async def test_a_move_that_nobody_listens_to_is_done_all_the_same(
    estate18: Estate, tmp_path: Path, ending: str
) -> None:
    line = f"{PROGRAM} promote {estate18.tenant} --to acme --yes {ending}"
    assert (await shell(line, tmp_path, estate18))[0] == 0
    (record,) = await estate18.mover().list()
    assert (record.state.value, record.step) == ("flipped", "audit")


@pytest.mark.parametrize(
    "ending",
    [pytest.param("--json | true", marks=LONG), pytest.param("2>&1 | true", marks=LONG), ">&- 2>&-"],
)
async def test_a_move_that_is_refused_says_so_by_its_code_though_nobody_listens(
    estate18: Estate, tmp_path: Path, ending: str
) -> None:
    estate18.near.psql("CREATE UNLOGGED TABLE draft (tenant_id uuid NOT NULL)", estate18.shared)
    for arguments, code in (
        (f"promote {estate18.tenant} --to acme --yes", 4),
        ("moves resume m0", 1),
        (f"promote {estate18.tenant} --to shared --yes", 2),
    ):
        assert (await shell(f"{PROGRAM} {arguments} {ending}", tmp_path, estate18))[0] == code
