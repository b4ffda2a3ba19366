"""Killed at each point, and run again: nothing is half there, and the end is the same."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from tenantry import cli
from tenantry.move.failpoints import VARIABLE
from tests.integration.operations.data.conftest import World, sections

ROOT = Path(__file__).parents[4]


async def tenantry(world: World, *arguments: object, kill: str | None = None) -> tuple[int, str]:
    """The command line in a process of its own; `kill`: the point at which it dies."""
    config = world.folder / "tenantry.json"  # which YAML is too
    config.write_text(json.dumps(sections(world.estate)))
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TENANTRY_")}
    environment |= {"PYTHONPATH": f"{ROOT / 'src'}", "TENANTRY_CONFIG": str(config)}
    if kill:
        environment[VARIABLE] = f"{kill}=kill"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tenantry", *map(str, arguments), env=environment, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert kill is None or process.returncode == -signal.SIGKILL, f"not killed at {kill}: {out.decode()}"
    return process.returncode or 0, out.decode()


async def whole_story(world: World, exports: list[str], erasures: list[str], imports: list[str]) -> None:
    before, others = await world.rows("shared"), await world.others()
    for point in exports:
        await tenantry(world, "export", world.tenant, "--to", world.file, kill=point)
        assert not world.file.exists(), point
    done = await world.ops.data.export(world.tenant, world.file)
    assert done.rows == sum(map(len, before.values()))

    erase = ["erase", world.tenant, "--confirm", world.tenant]
    for point in erasures:
        await tenantry(world, *erase, kill=point)
        assert await world.others() == others, point
    proof = await world.ops.data.erase(world.tenant)
    assert proof.complete
    assert proof.resumed is bool(erasures)
    assert proof.found == done.rows, "what was there before the first run"
    assert not any((await world.rows("shared")).values())

    for point in imports:
        await tenantry(world, "import", world.file, "--database", "acme", kill=point)
        there = await world.rows("acme")
        assert there == before or not any(there.values()), point
        assert (await world.ops.data._row(world.tenant)).state == "removed", "not let in by half"
    await world.ops.data.import_(world.file, database="acme")
    assert await world.rows("acme") == before
    assert await world.others() == others
    assert (await world.ops.tenants.get(world.tenant)).database == "acme"
    placed = (await world.ops.tenants.show(world.tenant)).in_database
    assert placed is not None
    assert not placed.suspended


@pytest.mark.timeout(240)
async def test_what_is_killed_half_way_is_ended_by_the_next_run(world: World) -> None:
    await whole_story(world, ["export.written"], ["erase.deleting"], ["import.loaded", "import.committed"])


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_what_is_killed_at_any_point_is_ended_by_the_next_run(world: World) -> None:
    await whole_story(
        world,
        ["export.started", "export.written"],
        ["erase.begun", "erase.shut_out", "erase.deleting", "erase.counting", "erase.ledger"],
        ["import.reserved", "import.loaded", "import.committing", "import.committed", "import.letting_in"],
    )


async def test_the_command_line_wants_the_id_again_and_says_what_it_does(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = world.folder / "tenantry.json"
    config.write_text(json.dumps(sections(world.estate)))
    monkeypatch.setenv("TENANTRY_CONFIG", str(config))

    async def run(*arguments: object) -> tuple[int, str]:
        code = await asyncio.to_thread(cli.main, [str(one) for one in arguments])
        seen = capsys.readouterr()
        return code, seen.out + seen.err

    receipt = world.folder / "receipt.json"
    for arguments, wanted, said in (
        (["--confirm", world.estate.tenants[1]], 2, "not the id of tenant"),
        ([], 2, "--confirm"),
        (["--dry-run"], 0, '"public"."entry"'),
        (["--confirm", world.tenant, "--receipt", config], 2, "is there already"),
    ):
        code, out = await run("erase", world.tenant, *arguments)
        assert code == wanted, out
        assert said in out
    assert all((await world.rows("shared")).values()), "nothing was touched"
    code, out = await run("import", world.folder / "none.zip")
    assert code == 4
    assert "no such file" in out
    code, out = await run("export", world.tenant, "--to", world.file)
    assert code == 0
    code, out = await run("erase", world.tenant, "--confirm", world.tenant, "--receipt", receipt)
    assert code == 0, out
    assert "none is left" in out
    assert json.loads(receipt.read_text())["complete"]
    code, out = await run("import", world.file, "--dry-run", "--json")
    assert code == 0, out
    assert not any((await world.rows("shared")).values())
    code, out = await run("import", world.file, "--json")
    assert json.loads(out[out.index("{") : out.rindex("}") + 1])["written"]
