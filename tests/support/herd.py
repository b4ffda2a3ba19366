"""A fleet to migrate: a control database, a shared one and three dedicated ones, and the operations on them."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import yaml

from tenantry.config import Config
from tenantry.embedded import EmbeddedServer
from tenantry.ids import Kind
from tenantry.operations import MigrateEvent, MigrateOptions, MigrateRun, Operations
from tests.support.databases import drop_database, new_database_like, prepare_control
from tests.support.installing import make_data

#: Must never be seen. Trust authentication doesn't look at it.
CANARY = "Zxq7-canary-S3cret"


async def _prepare_data(server: EmbeddedServer, name: str) -> None:
    connection = await asyncpg.connect(server.dsn(name))
    try:
        await make_data(connection, None)
    finally:
        await connection.close()


class Herd:
    """The databases by the names that the directory has for them, and what was told of runs."""

    def __init__(self, server: EmbeddedServer, folder: Path, names: Sequence[str]) -> None:
        """`names`: those that begin with "shared" are shared, the others dedicated."""
        self.server = server
        self.folder = folder
        self.control = new_database_like(server, "control", partial(prepare_control, server), "control")
        self.names = {
            name: new_database_like(server, "migrate: data", partial(_prepare_data, server), name)
            for name in names
        }
        self.events: list[MigrateEvent] = []
        self.written: dict[str, Any] = {
            "control": {"dsn": server.dsn(self.control, password=CANARY)},
            "databases": {name: self.section(name) for name in names},
        }
        self.path = folder / "tenantry.yaml"
        self.write()

    def write(self) -> None:
        """The configuration file, as `written` says."""
        self.path.write_text(yaml.safe_dump(self.written), encoding="utf-8")

    def section(self, name: str) -> dict[str, Any]:
        dsn = self.server.dsn(self.names[name], password=CANARY)
        kind = Kind.SHARED if name.startswith("shared") else Kind.DEDICATED
        return {"kind": kind.value, "dsn": dsn, "operator_dsn": dsn}

    @property
    def config(self) -> Config:
        return Config.parse(self.written, environment={})

    def script(self, text: str, name: str = "command") -> str:
        """A shell's script as a program."""
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    async def migrate(self, *argv: str, databases: tuple[str, ...] = (), **options: Any) -> MigrateRun:
        """Run a command on all of them."""
        async with Operations.open(self.config, actor="tests") as ops:
            return await ops.migrations.run(argv, databases, MigrateOptions(**options), tell=self.events.append)

    async def status(self) -> MigrateRun:
        async with Operations.open(self.config) as ops:
            found = await ops.migrations.status()
        assert found is not None
        return found

    def psql(self, name: str, sql: str) -> str:
        return self.server.psql(sql, self.control if name == "control" else self.names[name])

    def visits(self) -> list[str]:
        """What `note` has written, in the order of the writing."""
        path = self.folder / "visits"
        return path.read_text().split() if path.exists() else []

    @property
    def note(self) -> str:
        """A line of a script that writes the database's name down."""
        return f'echo "$TENANTRY_MIGRATE_DATABASE" >> {self.folder}/visits'

    def drop(self) -> None:
        for name in (*self.names.values(), self.control):
            drop_database(self.server, name)


async def appears(path: Path) -> None:
    """Wait for a file."""
    async with asyncio.timeout(30):
        while not path.exists():  # noqa: ASYNC110, ASYNC240  told by a file
            await asyncio.sleep(0.02)
