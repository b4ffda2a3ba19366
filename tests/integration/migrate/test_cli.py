"""`tenantry migrate`: what it prints, its exit codes, Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from tenantry import cli
from tests.support.herd import CANARY, Herd, appears


class Ran(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def tenantry(herd: Herd, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `tenantry …` in this process."""
    application = cli.build()
    monkeypatch.setattr(cli, "build", lambda: application)

    def run(*arguments: str) -> Ran:
        capsys.readouterr()
        code = cli.main(["-c", str(herd.path), *arguments])
        seen = capsys.readouterr()
        assert CANARY not in seen.out + seen.err
        assert "Traceback" not in seen.err
        return Ran(code, seen.out, seen.err)

    return run


def test_plan_run_failure_status_and_the_rest_by_the_same_command(herd: Herd, tenantry: Run) -> None:
    broken = herd.folder / "broken"
    broken.touch()
    command = herd.script(f"echo said; ! [ -e {broken} -a $TENANTRY_MIGRATE_DATABASE = tenant1 ]")
    planned = tenantry("migrate", "--plan", "--", command)
    assert planned.code == 0
    assert planned.out.split()[:4] == ["TURN", "DATABASE", "SCHEMA", "canary"]
    stopped = tenantry("migrate", "--jobs", "1", "--", command)
    assert stopped.code == 1
    assert "shared1 done in" in stopped.err
    assert "(1 of 4 done)" in stopped.err
    assert "[tenant1] said" in stopped.err
    assert "[shared1] said" not in stopped.err
    assert "Behind: tenant1, tenant2, tenant3" in stopped.err
    status = tenantry("--json", "migrate", "status")
    assert status.code == 1
    found = json.loads(status.out)
    assert (found["state"], [one["state"] for one in found["databases"]]) == (
        "stopped",
        ["done", "failed", "waiting", "waiting"],
    )
    assert found["databases"][1]["output"] == "said"
    assert "behind: tenant1" in tenantry("migrate", "status").err
    broken.unlink()
    done = tenantry("migrate", "--output", "--json", "--", command)
    assert done.code == 0
    assert [row["state"] for row in json.loads(done.out)] == ["done"] * 4
    assert f"goes on with run {found['id']}" in done.err
    assert "[tenant3] said" in done.err
    assert tenantry("migrate", "status").code == 0
    assert "no run is unfinished" in tenantry("migrate", "abandon").err


def test_tables_that_rls_plan_would_change_are_told_and_so_is_a_schema_apart(herd: Herd, tenantry: Run) -> None:
    sql = "CREATE TABLE orders (tenant_id uuid, id bigint, PRIMARY KEY (tenant_id, id))"
    odd = '[ $TENANTRY_MIGRATE_DATABASE != tenant2 ] || psql -qc "CREATE TABLE odd ()"'
    ran = tenantry("migrate", "--", herd.script(f'psql -qc "{sql}"; {odd}'))
    assert ran.code == 1
    assert "shared1: `tenantry rls plan` has" in ran.err
    assert "another one than that of the others in tenant2" in ran.err


def test_what_can_not_be_run_is_told_in_words(tenantry: Run) -> None:
    for arguments, said in (
        (("run",), "Missing argument"),
        (("--",), "Missing argument"),
        (("--", "no-such-program-here"), "no such program"),
        (("--env", "A", "--", "true"), "NAME=TEMPLATE"),
        (("--env", "A={b}", "--", "true"), "there is no {b}"),
        (("--timeout", "soon", "--", "true"), "--timeout"),
        (("--lock-timeout", "0s", "--", "true"), "--lock-timeout"),
        (("--database", "nonsense", "--", "true"), "nonsense"),
        (("--canary", "nonsense", "--", "true"), "nonsense"),
    ):
        ran = tenantry("migrate", *arguments)
        assert (ran.code, said in ran.err) == (2, True), (arguments, ran.err)


async def test_ctrl_c_ends_the_commands_and_says_where_it_was(herd: Herd) -> None:
    begun, pid = herd.folder / "begun", herd.folder / "pid"
    command = herd.script(
        f"[ $TENANTRY_MIGRATE_DATABASE = shared1 ] && exit 0\necho $$ > {pid}; touch {begun}; sleep 600"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tenantry", "-c", str(herd.path), "migrate", "--jobs", "1", "--", command,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    await appears(begun)
    process.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 130, err
    assert b"tenant1   interrupted" in out
    assert b"Behind: tenant1, tenant2, tenant3" in err
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


async def test_a_failure_is_an_exit_code_whether_or_not_anybody_reads_its_table(herd: Herd) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tenantry", "-c", str(herd.path), "migrate", "--", "false",
        stdout=writing, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    os.close(writing)
    _, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1, err
    assert b"Behind: shared1, tenant1" in err
