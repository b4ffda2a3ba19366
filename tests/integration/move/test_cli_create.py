"""`tenantry promote` to a new name: made on the server that the configuration has, where routers find it."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import httpx
import pytest

from tenantry import Router
from tenantry.cli import main
from tenantry.embedded import EmbeddedServer
from tests.support.estate import Estate
from tests.support.until import until

FILE = """
control: {{dsn: {control}}}
servers:
  eu1:
    dsn: {app}
    operator_dsn: {operator}
    disk: {disk}
    settings: {{work_mem: 5MB}}
    pool: {{max: 3}}
    autovacuum:
      public.entry: {{vacuum_threshold: 33}}
databases:
  shared: {{kind: shared, dsn: {shared_app}, operator_dsn: {shared}}}
"""
Run = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
async def estate(pg18: EmbeddedServer, far18: EmbeddedServer) -> AsyncIterator[Estate]:
    made = await Estate.make(pg18, far18)
    far18.psql(f'DROP DATABASE "{made.dedicated}"')
    made.dedicated = f"neu_{made.dedicated}"
    await made.fetch("control", "DELETE FROM tenantry.database WHERE name = 'acme'")
    yield made
    if not far18.psql(f"SELECT 1 FROM pg_database WHERE datname = '{made.dedicated}'"):
        far18.psql(f'CREATE DATABASE "{made.dedicated}"')
    made.drop()


@pytest.fixture
def run(
    estate: Estate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    monkeypatch.setenv("TENANTRY_CONFIG", str(tmp_path / "tenantry.yaml"))
    write(estate, tmp_path)

    async def run(*arguments: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(main, list(arguments))
        seen = capsys.readouterr()
        return code, seen.out, seen.err

    return run


def write(estate: Estate, folder: Path, disk: str = "100GB") -> Path:
    path = folder / "tenantry.yaml"
    path.write_text(
        FILE.format(
            control=estate.control_dsn,
            app=estate.far.dsn("postgres", user="app"),
            operator=estate.far.dsn("postgres"),
            shared_app=estate.near.dsn(estate.shared, user="app"),
            shared=estate.near.dsn(estate.shared),
            disk=disk,
        )
    )
    return path


async def test_a_tenant_is_promoted_to_a_database_that_nobody_has_named_before(
    estate: Estate, run: Run, tmp_path: Path
) -> None:
    tenant, new = str(estate.tenant), estate.dedicated
    code, out, err = await run("--json", "promote", tenant, "--to", new, "--plan")
    assert code == 0, err
    plan = json.loads(out)
    assert plan["creates"] == new
    assert plan["time_seconds"][0] < plan["time_seconds"][1]
    assert plan["pause_seconds"][0] < plan["pause_seconds"][1] <= 0.8
    assert "benchmarks" in plan["estimated_from"]
    assert plan["disk_free_bytes"] > plan["disk_needed_bytes"] > 0
    assert new not in [row["name"] for row in json.loads((await run("--json", "databases", "list"))[1])]
    async with Router.open(tmp_path / "tenantry.yaml", metrics=False) as router:
        assert (await router.placement(estate.tenant)).database == "shared"
        code, out, err = await run("promote", tenant, "--to", new, "--yes")
        assert code == 0, err
        # A router that was started before the database existed.
        assert await router.fetchval(estate.tenant, "SELECT current_database()") == new
        assert await router.fetchval(estate.tenant, "SHOW work_mem") == "5MB"
        assert await router.fetchval(estate.tenant, "SELECT count(*) FROM entry") == 200
    (row,) = [r for r in json.loads((await run("--json", "databases", "list"))[1]) if r["name"] == new]
    assert (row["dsn"], row["max"], row["tenants"]) == ("server:eu1", 3, 1)
    assert "33" in estate.far.psql("SELECT reloptions::text FROM pg_class WHERE relname = 'entry'", new)
    stored = await estate.fetch(
        "control", "SELECT dsn, settings::text FROM tenantry.database WHERE name = $1", new
    )
    assert "postgresql://" not in str(stored[0])
    assert (await run("init"))[0] == 0
    # The next plan leans on what this move has taken.
    again = json.loads((await run("--json", "promote", str(estate.tenants[1]), "--to", "next", "--plan"))[1])
    assert "1 earlier move" in again["estimated_from"]


@pytest.fixture
async def served(estate: Estate, run: Run, tmp_path: Path) -> AsyncIterator[Callable[[], Awaitable[str]]]:
    """`tenantry serve` with the same file, started when it is called for; what it answers to a scrape."""
    command = [sys.executable, "-m", "tenantry", "serve", "--port", "0"]
    process = await asyncio.create_subprocess_exec(
        *command, "--config", str(tmp_path / "tenantry.yaml"), stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    said = (await process.stderr.readline()).decode()
    address = re.search(r"http://\S+", said)
    assert address is not None, said

    async def scrape() -> str:
        async with httpx.AsyncClient() as client:
            return (await client.get(address[0] + "/metrics", timeout=30)).text

    try:
        yield scrape
    finally:
        process.terminate()
        await process.communicate()


async def test_a_database_that_a_promotion_made_is_routed_to_watched_and_open_to_operators(
    estate: Estate, run: Run, tmp_path: Path, served: Callable[[], Awaitable[str]]
) -> None:
    tenant, new = str(estate.tenant), estate.dedicated
    code, _, err = await run("promote", tenant, "--to", new, "--yes")
    assert code == 0, err
    sessions = (
        f"SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tenantry watch' AND datname = '{new}'"
    )
    async with Router.open(tmp_path / "tenantry.yaml", metrics=False) as router:
        assert await router.fetchval(estate.tenant, "SELECT current_database()") == new
        async with router.operator(reason="a report", database=new) as conn:
            assert await conn.fetchval("SELECT current_database()") == new
            assert await conn.fetchval("SELECT current_user") != "app"
    await until(lambda: estate.far.psql(sessions) == "1", seconds=60)
    for series in ("usage", "database_reading", "sampled"):  # metered, its totals, and the witness's looks
        query = f"SELECT count(*) FROM tenantry.{series} WHERE database = '{new}'"
        await until(partial(told, estate, query), seconds=60, what=series)
    lag = re.compile(rf'^tenantry_move_lag_bytes{{tenant="{tenant}"}} \d', re.MULTILINE)

    async def scraped() -> bool:
        return lag.search(await served()) is not None

    await until(scraped, seconds=60)


def told(estate: Estate, query: str) -> bool:
    return estate.near.psql(query, estate.control) != "0"


async def test_a_server_without_room_is_refused_and_nothing_is_made_or_registered(
    estate: Estate, run: Run, tmp_path: Path
) -> None:
    write(estate, tmp_path, disk="1MB")
    code, out, _ = await run("promote", str(estate.tenant), "--to", estate.dedicated, "--yes")
    assert code == 4
    assert "no-disk" in out
    assert estate.dedicated not in (await run("databases", "list"))[1]
    assert estate.far.psql(f"SELECT count(*) FROM pg_database WHERE datname = '{estate.dedicated}'") == "0"


async def test_a_registered_database_that_is_not_there_yet_is_no_error_for_init_and_a_warning_for_check(
    estate: Estate, run: Run
) -> None:
    new = estate.dedicated
    assert (await run("databases", "add", new, "--kind", "dedicated", "--server", "nowhere"))[0] == 2
    code, _, err = await run("databases", "add", new, "--kind", "dedicated", "--server", "eu1")
    assert code == 0, err
    code, out, err = await run("init")
    assert code == 0, err
    assert "not there yet" in out
    found = json.loads((await run("--json", "check"))[1])["findings"]
    assert [(f["severity"], f["code"]) for f in found if f["database"] == new] == [("warning", "not-created")]
    plan = json.loads((await run("--json", "promote", str(estate.tenant), "--to", new, "--plan"))[1])
    assert plan["creates"] == new


@pytest.mark.parametrize("name", ["", "a/b", "-x", "new name", "x" * 64, "näh", "x'; --"])
async def test_a_name_that_no_database_can_have_is_refused_before_anything_is_written(
    estate: Estate, run: Run, name: str
) -> None:
    for more in ("--plan", "--yes"):
        code, out, err = await run("promote", str(estate.tenant), f"--to={name}", more)
        assert (code, out) == (2, "")
        assert "--to" in err
        assert "PostgreSQL says" not in err
    assert not [
        row for row in await estate.fetch("control", "SELECT FROM tenantry.database WHERE name = $1", name)
    ]
