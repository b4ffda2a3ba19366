"""The pytest plugin, as a product uses it: in a folder of its own, with the database that is given."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tenantry.embedded import EmbeddedServer
from tests.integration.testing.conftest import SCHEMA

CONFTEST = f"""
import pytest

@pytest.fixture(scope="session")
def tenantry_schema():
    return {SCHEMA!r}

@pytest.fixture(scope="session")
def tenantry_options():
    return {{"tables": {{"public.countries": "reference"}}}}
"""

TESTS = """
import pytest
from tenantry.testing import assert_isolated, check_background_job, two_tenants
from tests.integration.testing.conftest import TABLES, seed

pytestmark = pytest.mark.asyncio

async def test_tenants_are_isolated(tenantry_router):
    async with two_tenants(tenantry_router, seed) as (a, b):
        report = await assert_isolated(tenantry_router, a, b, tables=TABLES)
        print(report)

async def test_jobs(tenantry_router):
    async def job(tenant):
        await tenantry_router.execute(tenant, "SELECT 1")
    await check_background_job(tenantry_router, job)
"""

UNUSED = """
import sys

def test_nothing_of_ours_is_imported_but_the_plugin():
    ours = {name for name in sys.modules if name.partition(".")[0] == "tenantry"}
    assert ours == {"tenantry", "tenantry.pytest_plugin"}
    assert "asyncpg" not in sys.modules
"""


def run(folder: Path, dsn: str | None, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "pytest.ini").write_text(
        "[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    environment |= {"PYTHONPATH": os.getcwd(), **({"TENANTRY_TEST_DSN": dsn} if dsn else {})}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", *options]
    return subprocess.run(
        [*command, str(folder)], capture_output=True, text=True, env=environment, cwd=folder, check=False
    )


PROMOTES = """
import asyncio
import asyncpg
import pytest
from tenantry.testing import two_tenants
from tests.integration.testing.conftest import seed

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("tenantry_clean")]
ID = "6b0e8d6c-3a0c-4b53-9a46-0c3f3f1a6c11"

async def test_a_tenant_is_promoted(tenantry_product, tenantry_router, tenantry_promote):
    async with two_tenants(tenantry_router, seed) as (a, b):
        home = await tenantry_promote(a)
        assert await tenantry_router.fetchval(a, "SELECT current_database()::text") == home

@pytest.mark.parametrize("turn", [1, 2])
async def test_each_test_begins_without_tenants(tenantry_router, turn):
    import uuid
    assert [one async for one in tenantry_router.tenants()] == []
    await tenantry_router.add_tenant(uuid.UUID(ID))
    assert await tenantry_router.fetchval(uuid.UUID(ID), "SELECT count(*) FROM customers") == 0
    async with tenantry_router.tenant(uuid.UUID(ID)) as conn:
        await seed(conn)

@pytest.mark.usefixtures("tenantry_strict")
async def test_a_good_one(tenantry_router):
    async with two_tenants(tenantry_router, seed):
        pass

@pytest.mark.usefixtures("tenantry_strict")
async def test_a_scope_is_left_open(tenantry_router):
    async with two_tenants(tenantry_router, seed) as (a, b):
        conn = await tenantry_router.tenant(a).__aenter__()
        await conn.fetch("SELECT * FROM customers")

@pytest.mark.usefixtures("tenantry_strict")
async def test_a_query_outside(tenantry_product, tenantry_router):
    connection = await asyncpg.connect(tenantry_product.dsn)
    try:
        await connection.execute("DELETE FROM tokens")
    except asyncpg.PostgresError:
        pass
    finally:
        await connection.close()
"""


def test_fixtures_promote_clean_up_and_find_scopes_left_open_and_queries_outside(
    pg18: EmbeddedServer, tmp_path: Path
) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_product.py").write_text(PROMOTES)
    before = pg18.psql("SELECT count(*) FROM pg_database"), pg18.psql("SELECT count(*) FROM pg_roles")
    ran = run(tmp_path, pg18.dsn())
    told = ran.stdout
    assert "6 passed, 2 errors" in told, told + ran.stderr
    assert "ScopeLeftOpen: a scope was left open:" in told
    assert "entered by" in told
    assert "queries outside a tenant's scope: 1 on public.tokens" in told
    assert (pg18.psql("SELECT count(*) FROM pg_database"), pg18.psql("SELECT count(*) FROM pg_roles")) == before


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_a_product_runs_the_checks_with_nothing_but_its_schema(
    pg18: EmbeddedServer, tmp_path: Path, mode: str
) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_product.py").write_text(TESTS)
    before = pg18.psql("SELECT count(*) FROM pg_database"), pg18.psql("SELECT count(*) FROM pg_roles")
    ran = run(tmp_path, pg18.dsn(), "-o", f"asyncio_mode={mode}")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 passed" in ran.stdout
    assert (pg18.psql("SELECT count(*) FROM pg_database"), pg18.psql("SELECT count(*) FROM pg_roles")) == before


def test_without_a_given_database_an_embedded_one_is_used(tmp_path: Path) -> None:
    (tmp_path / "test_product.py").write_text(
        "def test_server(tenantry_product):\n    assert tenantry_product.dsn.startswith('postgresql://')\n"
    )
    ran = run(tmp_path, None)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_where_the_plugin_is_not_used_it_imports_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(UNUSED)
    ran = run(tmp_path, None)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_pytest_finds_the_plugin_by_itself() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"tenantry": "tenantry.pytest_plugin"}
