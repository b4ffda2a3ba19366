"""Backups: the configured command is run when it is due, once, and its success is what the age counts from."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tenantry.cli import main
from tenantry.config import Config
from tenantry.directory import Store
from tenantry.embedded import EmbeddedServer
from tenantry.ids import Kind
from tenantry.metrics import FleetScrape
from tenantry.operations import Operations
from tenantry.operations.backups import environment, measure
from tenantry.server.fleet import FleetReader
from tests.support.databases import control_database

HOUR = 3600.0


@pytest.fixture
def control(pg: EmbeddedServer) -> Iterator[str]:
    with control_database(pg) as name:
        yield name


@pytest.fixture
async def store(pg: EmbeddedServer, control: str) -> AsyncIterator[Store]:
    made = Store(pg.dsn(control))
    yield made
    await made.close()


def config(pg: EmbeddedServer, control: str, command: str | None, **more: Any) -> Config:
    backup = {"every": "6h", **({"command": command} if command else {})}
    return Config.parse(
        {
            "control": {"dsn": pg.dsn(control)},
            "databases": {
                "shared": {"kind": "shared", "dsn": pg.dsn(control)},
                "acme": {"kind": "dedicated", "dsn": pg.dsn(control), "backup": backup},
            },
            **more,
        },
        environment={},
    )


async def back_up(wanted: Config) -> list[tuple[str, int]]:
    """As `tenantry backup`: what was tried, and its exit code."""
    async with Operations.open(wanted) as ops:
        return [(done.database, done.exit) async for done in ops.backups.run()]


async def events(store: Store) -> list[tuple[str, str, dict[str, Any]]]:
    pool = await store.pool()
    rows = await pool.fetch("SELECT kind, database, detail FROM tenantry.event ORDER BY id")
    return [(row["kind"], row["database"], json.loads(row["detail"])) for row in rows]


async def test_a_backup_that_is_due_is_made_with_the_real_program_and_then_it_is_not_due(
    pg: EmbeddedServer, control: str, store: Store, tmp_path: Path
) -> None:
    file = tmp_path / "acme.dump"
    wanted = config(pg, control, f"{pg.bin('pg_dump')} -Fc -f {file}")
    assert await measure(store, config(pg, control, None)) == {"acme": float("inf")}
    assert await back_up(wanted) == [("acme", 0)]
    assert file.read_bytes().startswith(b"PGDMP")
    ((kind, database, detail),) = await events(store)
    assert (kind, database, detail["exit"]) == ("backup.done", "acme", 0)
    age = (await measure(store, config(pg, control, None)))["acme"]
    assert detail["seconds"] <= age < 60
    file.unlink()
    assert await back_up(wanted) == []
    assert not file.exists()


async def test_an_old_backup_is_made_anew_and_a_failed_one_counts_for_nothing(
    pg: EmbeddedServer, control: str, store: Store
) -> None:
    pool = await store.pool()
    await pool.execute(
        "INSERT INTO tenantry.event (kind, actor, database, at) "
        "VALUES ('backup.done', 'cron', 'acme', now() - interval '7 h')"
    )
    assert await back_up(config(pg, control, "exit 3")) == [("acme", 3)]
    assert [(kind, detail) for kind, _, detail in await events(store)][1:] == [
        ("backup.failed", {"exit": 3, "seconds": (await events(store))[1][2]["seconds"]})
    ]
    assert (await measure(store, config(pg, control, None)))["acme"] > 7 * HOUR - 1
    assert await back_up(config(pg, control, "exit 0")) == [("acme", 0)]
    assert (await measure(store, config(pg, control, None)))["acme"] < 60


async def test_two_processes_make_one_backup(
    pg: EmbeddedServer, control: str, store: Store, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    wanted = config(pg, control, f"echo $TENANTRY_BACKUP_DATABASE >> {said}; sleep 1")
    assert sorted(map(len, await asyncio.gather(*(back_up(wanted) for _ in range(3))))) == [0, 0, 1]
    assert said.read_text() == "acme\n"


async def test_a_command_that_runs_is_ended_when_the_backup_is_given_up(
    pg: EmbeddedServer, control: str, store: Store, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    command = f"echo $$ > {begun}.new; mv {begun}.new {begun}; exec sleep 600"
    making = asyncio.create_task(back_up(config(pg, control, command)))
    async with asyncio.timeout(20):
        while not begun.exists():  # noqa: ASYNC110  told by a file
            await asyncio.sleep(0.02)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert not Path(f"/proc/{begun.read_text().strip()}").exists()  # noqa: ASYNC240  quick
    assert await events(store) == []


async def test_the_command_line_runs_what_is_due_and_a_database_by_name(
    pg: EmbeddedServer, control: str, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, path = tmp_path / "made", tmp_path / "tenantry.yaml"
    path.write_text(
        f"control: {{dsn: '{pg.dsn(control)}'}}\ndatabases:\n  acme:\n    kind: dedicated\n"
        f"    dsn: '{pg.dsn(control)}'\n    backup: {{every: 6h, command: echo made >> {made}}}\n"
    )

    async def run(*arguments: str) -> tuple[int, Any]:
        code = await asyncio.to_thread(main, ["--config", str(path), "--json", "backup", *arguments])
        out = capsys.readouterr().out
        return code, json.loads(out) if out else None

    assert await run("--plan") == (1, [{"database": "acme"}])
    assert not made.exists()
    code, ((done),) = await run()
    assert (code, done["database"], done["exit"]) == (0, "acme", 0)
    assert await run() == (0, [])
    assert await run("--plan") == (0, [])
    assert (await run("acme"))[0] == 0
    assert made.read_text() == "made\nmade\n"
    assert (await run("nobody"))[0] == 2


async def test_nothing_is_run_that_only_the_directory_says(
    pg: EmbeddedServer, control: str, store: Store, tmp_path: Path
) -> None:
    """Whoever may write the directory must not be able to run programs here."""
    evil = {"backup": {"every": 1, "command": f"touch {tmp_path / 'evil'}"}}
    await store.put_database("acme", Kind.DEDICATED, "config", evil)
    await store.put_database("neu", Kind.DEDICATED, "server:eu1", evil)
    await store.add_tenant("t", "neu")
    server = {"dsn": pg.dsn("postgres"), "backup": {"every": "1h", "command": f"touch {tmp_path / 'good'}"}}
    assert await back_up(config(pg, control, None, servers={"eu1": server})) == [("neu", 0)]
    assert [path.name for path in tmp_path.iterdir()] == ["good"]  # noqa: ASYNC240  quick
    assert [(kind, database) for kind, database, _ in await events(store)] == [("backup.done", "neu")]


async def test_the_last_backups_age_is_exported_and_check_warns_when_it_is_overdue(
    pg: EmbeddedServer, control: str, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def exported() -> str:
        reader = FleetReader(store, config(pg, control, None))
        reader.start()
        try:
            _, text = FleetScrape().exposition((await reader.read()).numbers)
        finally:
            await reader.close()
        (line,) = [x for x in text.decode().splitlines() if x.startswith("tenantry_database_backup_age_seconds{")]
        return line

    path = tmp_path / "tenantry.yaml"
    path.write_text(
        f"control: {{dsn: '{pg.dsn(control)}'}}\ndatabases:\n  acme:\n    kind: dedicated\n"
        f"    dsn: '{pg.dsn(control)}'\n    backup: {{every: 6h}}\n"
    )

    async def warned() -> list[str]:
        await asyncio.to_thread(main, ["--config", str(path), "--json", "check"])
        found = json.loads(capsys.readouterr().out)["findings"]
        return [one["problem"] for one in found if one["code"] == "backup-overdue"]

    assert await exported() == 'tenantry_database_backup_age_seconds{database="acme"} +Inf'
    assert ["never backed up" in one for one in await warned()] == [True]
    pool = await store.pool()
    record = (
        "INSERT INTO tenantry.event (kind, actor, database, at) VALUES ('backup.done', 'cron', 'acme', now() - $1)"
    )
    await pool.execute(record.replace("$1", "interval '9 h'"))
    assert ["9.0 h old" in one for one in await warned()] == [True]
    await pool.execute(record.replace("$1", "interval '5 h'"))
    assert await warned() == []
    assert 5 * HOUR - 1 < float((await exported()).split()[-1]) < 5 * HOUR + 60


def test_a_backup_command_gets_its_databases_credentials_and_no_others() -> None:
    ours = {"PATH": "/bin", "PGPASSWORD": "old", "TENANTRY_SHARED_DSN": "postgresql://secret@h/db"}
    assert environment("acme", "postgresql://op:p%40w@h:5433/acme", ours) == {
        "PATH": "/bin",
        "PGHOST": "h",
        "PGPORT": "5433",
        "PGUSER": "op",
        "PGPASSWORD": "p@w",
        "PGDATABASE": "acme",
        "TENANTRY_BACKUP_DATABASE": "acme",
    }
