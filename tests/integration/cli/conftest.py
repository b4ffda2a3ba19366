"""A fleet for the command line: control and data databases, roles with passwords, a file, the program."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer.main

from tenantry import cli
from tenantry.embedded import EmbeddedServer

#: Must never be seen. Trust authentication doesn't look at it.
CANARY = "Zxq7-canary-S3cret"
_roles = itertools.count(1)

_FILE = """
tenancy:
  type: {id_type}
control:
  dsn: ${{TENANTRY_CONTROL_DSN}}
databases:
  shared:
    kind: shared
    dsn: ${{TENANTRY_SHARED_DSN}}
    operator_dsn: ${{TENANTRY_SHARED_OPERATOR_DSN}}
  acme:
    kind: dedicated
    dsn: ${{TENANTRY_ACME_DSN}}
    operator_dsn: ${{TENANTRY_ACME_OPERATOR_DSN}}
"""


@dataclass
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, read as JSON."""
        return json.loads(self.out)


@dataclass
class Fleet:
    """The databases, and the command line to run against them."""

    server: EmbeddedServer
    control: str
    shared: str
    acme: str
    role: str
    path: Path
    capture: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: object) -> Ran:
        """Run `tenantry …` in this process; the file is given by the environment."""
        self.capture.readouterr()
        code = cli.main([str(one) for one in arguments])
        seen = self.capture.readouterr()
        assert CANARY not in seen.out + seen.err
        assert "Traceback" not in seen.err
        return Ran(code, seen.out, seen.err)

    def ok(self, *arguments: object) -> Ran:
        """The same, and it must be done."""
        ran = self.run(*arguments)
        assert ran.code == 0, ran.err + ran.out
        return ran

    def set(self, name: str, value: str) -> None:
        """Change a variable of the environment."""
        self.environment[name] = value
        self.monkeypatch.setenv(name, value)

    def write(self, text: str) -> None:
        """Another file."""
        self.path.write_text(text, encoding="utf-8")

    def placement(self, tenant: object, database: str | None = None) -> str:
        """`home|epoch|suspended` of a tenant's data row."""
        query = f"SELECT database, epoch, suspended FROM tenantry.placement WHERE tenant = '{tenant}'"
        return self.server.psql(query, database or self.shared)


@pytest.fixture(scope="session")
def application() -> Callable[..., object]:
    """All commands, made once: making them takes longer than most of them."""
    return typer.main.get_command(cli.start())


@pytest.fixture
def fleet(
    application: Callable[..., object],
    pg: EmbeddedServer,
    make_database: Callable[[EmbeddedServer], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Fleet]:
    """A configured fleet with nothing installed, on each version."""
    monkeypatch.setattr(cli, "start", lambda: application)
    role = f"app_{os.getpid()}_{next(_roles)}"
    pg.psql(f"CREATE ROLE {role} LOGIN")
    control, shared, acme = (make_database(pg) for _ in range(3))
    path = tmp_path / "tenantry.yaml"
    fleet = Fleet(pg, control, shared, acme, role, path, capsys, monkeypatch)
    fleet.write(_FILE.format(id_type="text"))
    fleet.set("TENANTRY_CONFIG", str(path))
    fleet.set("TENANTRY_CONTROL_DSN", pg.dsn(control, password=CANARY))
    fleet.set("TENANTRY_SHARED_DSN", pg.dsn(shared, role, CANARY))
    fleet.set("TENANTRY_SHARED_OPERATOR_DSN", pg.dsn(shared, password=CANARY))
    fleet.set("TENANTRY_ACME_DSN", pg.dsn(acme, role, CANARY))
    fleet.set("TENANTRY_ACME_OPERATOR_DSN", pg.dsn(acme, password=CANARY))
    try:
        yield fleet
    finally:
        for database in (control, shared, acme):
            pg.psql(f"DROP OWNED BY {role} CASCADE", database)
        pg.psql(f"DROP ROLE {role}")


@pytest.fixture
def installed(fleet: Fleet) -> Fleet:
    """The same after `tenantry init`."""
    fleet.ok("init")
    return fleet
