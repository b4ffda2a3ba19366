"""The wheel on every Python that is here, of those that it says it works on; what it depends on is the index's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.packaging import ROOT, Built

#: Minor versions of Python 3 that are tried where they are found.
TRIED = (11, 12, 13)
SCHEMA = "CREATE TABLE students (tenant_id uuid, id int, name text, PRIMARY KEY (tenant_id, id))"
TEST = f"""
import pytest
from tenantry.testing import assert_isolated, two_tenants

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("tenantry_strict")]

@pytest.fixture(scope="session")
def tenantry_schema():
    return {SCHEMA!r}

async def seed(conn):
    await conn.execute("INSERT INTO students (id, name) VALUES (1, 'Ann')")

async def test_tenants_are_isolated(tenantry_router):
    async with two_tenants(tenantry_router, seed) as (a, b):
        assert await tenantry_router.fetchval(a, "SELECT count(*) FROM students") == 1

async def test_attacks(tenantry_product):
    async with tenantry_product.router() as router, two_tenants(router, seed) as (a, b):
        async with router.tenant(a) as conn:
            await conn.copy_records_to_table("students", records=[(2, "Ben")], columns=["id", "name"])
"""


def pythons() -> dict[int, Path]:
    """Where they are: among pyenv's, or on the path; this one in any case. It is asked at every collection."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = {sys.version_info.minor: Path(sys.executable)}
    for minor in TRIED:
        there = sorted((root / "versions").glob(f"3.{minor}.*/bin/python3"))
        on_path = shutil.which(f"python3.{minor}")
        if on_path and not Path(on_path).is_relative_to(root):  # pyenv's own there may lead nowhere
            there.append(Path(on_path))
        if there and minor not in found:
            found[minor] = there[-1]
    return found


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("minor", sorted(pythons()))
def test_the_wheel_with_all_its_extras_installs_and_serves_tenants(
    built: Built, tmp_path: Path, minor: int
) -> None:
    python = pythons()[minor]
    subprocess.run([python, "-m", "venv", tmp_path / "env"], check=True)
    extras = "cli,server,embedded,fastapi,jwt,sqlalchemy,alembic,otel"
    run = [tmp_path / "env" / "bin" / "python", "-m"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}

    def done(*command: object) -> str:
        ran = subprocess.run(
            [*map(str, command)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    done(
        *run, "pip", "install", "-q", "-c", ROOT / "constraints.txt", f"{built.wheel}[{extras}]", "pytest-asyncio"
    )
    assert f"(python 3.{minor})" in done(*run, "pip", "--version")
    done(*run, "tenantry", "--help")
    for module in ("starlette", "fastapi", "sqlalchemy", "alembic", "otel"):
        done(tmp_path / "env" / "bin" / "python", "-W", "error", "-c", f"import tenantry.integrations.{module}")
    (tmp_path / "test_it.py").write_text(TEST)
    told = done(
        *run, "pytest", "-q", "-W", "error", "-o", "asyncio_default_fixture_loop_scope=function", "test_it.py"
    )
    assert "2 passed" in told
