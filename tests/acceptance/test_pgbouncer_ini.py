"""config/pgbouncer.ini in a real PgBouncer: it starts, asks for passwords, and scopes work through it."""

from __future__ import annotations

import re
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest

from tenantry import Config, Router
from tenantry.embedded import EmbeddedServer, process
from tenantry.embedded.folder import Folder
from tenantry.embedded.server import free_port
from tenantry.ids import Kind
from tests.support.installing import make_control, make_data
from tests.support.programs import require_program

CONFIG = Path(__file__).parents[2] / "config"
USER, PASSWORD = re.findall(r'"(\w+)"', (CONFIG / "pgbouncer-userlist.txt").read_text())


@pytest.fixture
def shared(pg18: EmbeddedServer, make_database: Callable[[EmbeddedServer], str]) -> Iterator[str]:
    """A database for the ini's `shared`."""
    name = make_database(pg18)
    pg18.psql(f"DO $$ BEGIN CREATE ROLE {USER} LOGIN; EXCEPTION WHEN duplicate_object THEN END $$")
    yield name
    pg18.psql(f"DROP OWNED BY {USER}", name)


@pytest.fixture
def port(pg18: EmbeddedServer, shared: str) -> Iterator[int]:
    """A PgBouncer that runs our ini: the addresses are a test's, everything else is as it stands."""
    program = require_program("pgbouncer")
    folder, port = Folder.temporary("tenantry-pgbouncer-"), free_port()
    text = (CONFIG / "pgbouncer.ini").read_text()
    text = text.replace(
        "host=shared port=5432 dbname=shared", f"host={pg18.host} port={pg18.port} dbname={shared}"
    )
    text = re.sub(r"listen_port = .*", f"listen_port = {port}\nunix_socket_dir =", text)
    text = text.replace("listen_addr = *", "listen_addr = 127.0.0.1")
    text = text.replace("/etc/pgbouncer/userlist.txt", str(folder.path / "users.txt"))
    if _version(program) < (1, 21):
        text = re.sub(r"^max_prepared_statements.*$", "", text, flags=re.MULTILINE)
    (folder.path / "users.txt").write_text((CONFIG / "pgbouncer-userlist.txt").read_text())
    (folder.path / "pgbouncer.ini").write_text(text)
    running = process.start([str(program), str(folder.path / "pgbouncer.ini")], folder.path)
    try:
        _wait(running, port, folder.path / "log")
        yield port
    finally:
        running.kill()
        running.wait()
        folder.remove()


def _version(program: Path) -> tuple[int, ...]:
    said = subprocess.run([program, "-V"], capture_output=True, text=True, check=True).stdout
    return tuple(map(int, re.findall(r"\d+", said.split("\n", 1)[0])))[:2]


def _wait(running: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        assert running.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)


async def test_scopes_work_through_our_pgbouncer(pg18: EmbeddedServer, shared: str, port: int) -> None:
    connection = await asyncpg.connect(pg18.dsn(shared))
    await make_control(connection, shared=Kind.SHARED)
    await make_data(connection, USER)
    await connection.close()
    through = f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{port}/shared"
    config = Config.parse(
        {"control": {"dsn": pg18.dsn(shared)}, "databases": {"shared": {"kind": "shared", "dsn": through}}}
    )
    tenant = uuid.uuid4()
    async with Router.open(config, metrics=False) as router:
        await router.add_tenant(tenant)
        assert await router.fetchval(tenant, "SELECT tenantry.current_tenant()") == tenant


async def test_nobody_gets_in_without_the_password(port: int) -> None:
    with pytest.raises(asyncpg.PostgresError):
        await asyncpg.connect(f"postgresql://{USER}:wrong@127.0.0.1:{port}/shared")
