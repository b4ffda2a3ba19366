"""`tenantry promote` and `tenantry moves …`: parse, call the mover, render."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tenantry.cli import main
from tests.integration.move.operators import operator_file
from tests.support.estate import Estate


async def test_an_operator_promotes_looks_rolls_back_and_promotes_again(
    estate18: Estate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TENANTRY_CONFIG", str(operator_file(estate18, tmp_path)))

    transcript: list[str] = []

    async def run(*arguments: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(main, list(arguments))
        seen = capsys.readouterr()
        transcript.append(f"$ tenantry {' '.join(arguments)}\n{seen.out}{seen.err}exit {code}")
        return code, seen.out, seen.err

    tenant = str(estate18.tenant)
    code, out, _ = await run("promote", tenant, "--to", "acme", "--plan")
    assert code == 0
    assert '"public"."entry"' in out
    code, out, err = await run("promote", tenant, "--to", "acme", "--yes")
    assert code == 0, err
    assert "flipped" in out
    code, out, _ = await run("--json", "moves", "list")
    (move,) = [one["id"] for one in json.loads(out)]
    assert (await run("moves", "leftovers"))[0] == 1
    assert (await run("moves", "show", move))[0] == 0
    assert (await run("moves", "abort", move, "--yes"))[0] == 1  # the flip came first
    code, out, _ = await run("moves", "rollback", move, "--yes")
    assert code == 0
    assert "rolled back" in out
    code, out, _ = await run("--json", "promote", tenant, "--to", "acme", "--yes")
    assert code == 0
    assert '"event": "fence.tried"' in out
    move = json.loads((await run("--json", "moves", "list"))[1])[0]["id"]
    assert (await run("moves", "release", move, "--yes"))[0] == 0
    assert (await run("promote", tenant, "--to", "shared"))[0] == 2  # not a dedicated database
    estate18.near.psql(
        "CREATE UNLOGGED TABLE d (tenant_id uuid NOT NULL, PRIMARY KEY (tenant_id))", estate18.shared
    )
    code, out, _ = await run("promote", str(estate18.tenants[1]), "--to", "acme")
    assert code == 4
    assert "SET LOGGED" in out
    (tmp_path / "transcript.txt").write_text("\n\n".join(transcript))
