"""`tenantry serve` as a process of its own, over a control database with a story in it."""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tenantry.embedded import EmbeddedServer
from tests.support import databases

#: Nobody's here, and dear to make for each request.
_TLS = ssl.create_default_context()

#: Must never be seen. Trust authentication doesn't look at it.
CANARY = "Zxq7-canary-S3cret"

#: One tenant makes 60 % of the shared database, on each of the last 20 days; one name is hostile.
STORY = """
INSERT INTO tenantry.database (name, kind, dsn) VALUES
    ('shared', 'shared', 'env:TENANTRY_SHARED_DSN'), ('acme', 'dedicated', 'env:TENANTRY_ACME_DSN');
INSERT INTO tenantry.tenant (id, database, state, placed_at)
    SELECT 't' || n, 'shared', CASE WHEN n = 3 THEN 'suspended' ELSE 'active' END, now() - interval '60 days'
    FROM generate_series(1, 1200) AS n;
INSERT INTO tenantry.tenant (id, database, placed_at) VALUES
    ('heavy', 'shared', now() - interval '60 days'), ('<script>alert(1)</script>', 'acme', now());
INSERT INTO tenantry.usage_day (day, database, tenant, busy_seconds)
    SELECT (now() AT TIME ZONE 'UTC')::date - n, 'shared', 'heavy', 6000 FROM generate_series(1, 20) AS n;
INSERT INTO tenantry.usage_day (day, database, tenant, busy_seconds)
    SELECT (now() AT TIME ZONE 'UTC')::date - n, 'shared', 't1', 4000 FROM generate_series(1, 20) AS n;
INSERT INTO tenantry.database_usage_day (day, database, busy_seconds, covered, reported)
    SELECT (now() AT TIME ZONE 'UTC')::date - n, 'shared', 10000, 1, 1 FROM generate_series(1, 20) AS n;
INSERT INTO tenantry.usage (hour, database, tenant, busy_seconds, waited_seconds, commits)
    VALUES (date_trunc('hour', now(), 'UTC'), 'shared', 'heavy', 12.5, 0.5, 100);
INSERT INTO tenantry.database_usage (hour, database, busy_seconds, covered_seconds)
    VALUES (date_trunc('hour', now(), 'UTC'), 'shared', 20, 60);
INSERT INTO tenantry.move (id, tenant, source, target, state, step, plan, result) VALUES
    ('m0000000001', '<script>alert(1)</script>', 'acme', 'shared', 'flipped', 'flip', '{}',
     '{"pause_seconds": 0.12}');
SELECT pg_create_logical_replication_slot('tenantry_m0000000001_reverse', 'pgoutput');
SELECT pg_logical_emit_message(false, 'test', 'so that there is something to confirm');
"""


@dataclass
class Serving:
    """A running `tenantry serve`."""

    server: EmbeddedServer
    control: str
    process: subprocess.Popen[str]
    address: str

    def get(self, path: str, **headers: str) -> httpx.Response:
        """One request; the canary must not be in the answer."""
        answer = httpx.get(self.address + path, headers=headers, timeout=30, verify=_TLS)
        assert CANARY not in answer.text
        return answer

    def settle(self) -> None:
        """Until the console has looked at everything once."""
        deadline = time.monotonic() + 60
        while self.get("/index.json").json()["verdict"]["state"] == "pending":
            assert time.monotonic() < deadline, "the databases and the checks have not been looked at"
            time.sleep(0.1)

    def take_control_away(self) -> None:
        """Nobody can connect to the control database any more, and nobody is connected."""
        self.server.psql(f'ALTER DATABASE "{self.control}" ALLOW_CONNECTIONS false')
        self.server.psql(
            f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{self.control}'"
        )

    def give_control_back(self) -> None:
        """As before."""
        self.server.psql(f'ALTER DATABASE "{self.control}" ALLOW_CONNECTIONS true')

    def stop(self) -> tuple[int, str]:
        """SIGTERM; the exit code, and what it has said on stderr since the start."""
        self.process.send_signal(signal.SIGTERM)
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said


@pytest.fixture
def poll() -> str:
    """`control.poll`: how long a lost notification goes unnoticed."""
    return "30s"


@pytest.fixture
def serving(pg: EmbeddedServer, poll: str, tmp_path: Path) -> Iterator[Serving]:
    """The server's process, on each version; stopped at the end."""
    with databases.control_database(pg) as control:
        # A server has one replication slot of a name, and that of `served` may be there.
        yield from run(pg, control, STORY.replace("m0000000001", "m0000000002"), poll, tmp_path)


@pytest.fixture(scope="module", params=["pg16", "pg18"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """The same, one for all tests of a module that change nothing."""
    server: EmbeddedServer = request.getfixturevalue(request.param)
    with databases.control_database(server) as control:
        yield from run(server, control, STORY, "30s", tmp_path_factory.mktemp("serving"))


def run(pg: EmbeddedServer, control: str, story: str, poll: str, folder: Path, *options: str) -> Iterator[Serving]:
    """Tell a story to a new control database, and serve it."""
    pg.psql(story, control)
    config = folder / "tenantry.yaml"
    config.write_text(
        "tenancy: {type: text}\n"
        f"control: {{dsn: '{pg.dsn(control, password=CANARY)}', poll: {poll}}}\n"
        f"databases:\n  shared: {{kind: shared, dsn: '{pg.dsn(control, password=CANARY)}'}}\n"
    )
    command = [sys.executable, "-m", "tenantry", "serve", "--port", "0", "--config", str(config), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        address = re.search(r"http://\S+", line)
        assert address is not None, line + process.stderr.read()
        yield Serving(pg, control, process, address[0])
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(30)
        if process.stderr is not None:
            process.stderr.close()
