"""What docker-compose.yml runs, run without an engine: its own commands, on two servers made by its own files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tenantry.embedded import EmbeddedServer
from tenantry.embedded.server import free_port

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent


class World:
    """The services of the file, with the addresses of two servers that are here."""

    def __init__(self, folder: Path, shared: EmbeddedServer, dedicated: EmbeddedServer) -> None:
        self.folder = folder
        self.services: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())[
            "services"
        ]
        shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "config/compose.yaml", folder / "examples/school/tenantry.yaml")
        for name, server in (("shared", shared), ("dedicated", dedicated)):
            made = [
                str(server.bin("psql")),
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "-f",
                str(ROOT / f"config/postgres/{name}.sql"),
            ]
            subprocess.run([*made, server.dsn()], check=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TENANTRY", "PYTHON"))}
        self.environment = kept | {
            "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
            "TENANTRY_CONFIG": str(folder / "examples/school/tenantry.yaml"),
            "TENANTRY_CONTROL_DSN": shared.dsn("control", "control"),
            "TENANTRY_SHARED_DSN": shared.dsn("shared", "app"),
            "TENANTRY_SHARED_OPERATOR_DSN": shared.dsn("shared"),
            "TENANTRY_ACME_DSN": dedicated.dsn("acme", "app"),
            "TENANTRY_ACME_OPERATOR_DSN": dedicated.dsn("acme"),
        }

    def command(self, service: str) -> list[str]:
        there = self.services[service]
        return [*there.get("entrypoint", ["tenantry"]), *there["command"]]

    def run(self, *command: str, **environment: str) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def serving(self) -> Iterator[str]:
        """The product at work, at the address that this gives."""
        port = free_port()
        command = [str(port) if word == "8000" else word for word in self.command("school")]
        command = ["127.0.0.1" if word == "0.0.0.0" else word for word in command]
        environment = self.environment | self.services["school"]["environment"]
        with (self.folder / "log").open("w") as log:
            running = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log)
        try:
            address = f"http://127.0.0.1:{port}"
            end = time.monotonic() + 60
            while True:
                try:
                    assert call(f"{address}/readyz") == {"ready": True}
                    break
                except OSError:
                    assert running.poll() is None, (self.folder / "log").read_text()
                    assert time.monotonic() < end, (self.folder / "log").read_text()
                    time.sleep(0.1)
            yield address
        finally:
            running.terminate()
            running.wait(30)


def call(address: str, token: str = "", **body: str) -> Any:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    data = json.dumps(body).encode() if body else None
    asked = urllib.request.Request(address, data, headers | {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return json.load(answer)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_services_of_the_compose_file_make_a_product_whose_centre_can_be_promoted(tmp_path: Path) -> None:
    with EmbeddedServer.start(18) as shared, EmbeddedServer.start(18) as dedicated:
        world = World(tmp_path, shared, dedicated)
        world.run(*world.command("init"))
        world.run(*world.command("school-tables"), DATABASE_URL=shared.dsn("shared"))
        world.run(*world.command("school-policies"))
        key = world.services["school"]["environment"]
        tokens = "from examples.school import access; import sys; print(access.{}_token(*sys.argv[1:]))"
        staff = world.run(sys.executable, "-c", tokens.format("staff"), "me", **key).strip()
        with world.serving() as address:
            centre = call(f"{address}/admin/centres", staff, name="First")["id"]
            person = world.run(sys.executable, "-c", tokens.format("person"), centre, "ada", **key).strip()
            call(f"{address}/students", person, name="Bea", email="bea@example.org")
            world.run("tenantry", "promote", centre, "--to", "acme", "--yes")
            assert [row["name"] for row in call(f"{address}/students", person)] == ["Bea"]
            assert json.loads(world.run("tenantry", "tenants", "show", centre, "--json"))["database"] == "acme"
