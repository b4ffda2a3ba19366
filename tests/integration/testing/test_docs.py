"""The code of the pages about the router, the kits and testing, run as it stands."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml

from tenantry import Router
from tenantry.embedded import EmbeddedServer
from tenantry.events import ScopeEnded
from tenantry.testing import Product, Server

DOCS = Path(__file__).parents[3] / "docs"
SCHEMA = """
CREATE TABLE students (tenant_id uuid, id serial, name text, PRIMARY KEY (tenant_id, id));
CREATE TABLE account (tenant_id uuid, id int, balance int, PRIMARY KEY (tenant_id, id));
CREATE TABLE sessions (tenant_id uuid, id int, ended timestamptz, PRIMARY KEY (tenant_id, id));
CREATE TABLE users (org_id uuid, id int, password_hash text, PRIMARY KEY (org_id, id));
CREATE SCHEMA crm;
CREATE TABLE crm."Note" (org_id uuid, id int, PRIMARY KEY (org_id, id));
"""
TABLES = {"public.users": "org_id", "crm.Note": "org_id"}


def blocks(page: str, language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.M | re.S)
    assert found
    return found


async def run(code: str, names: dict[str, Any]) -> None:
    """A block of a page, with what it defines for those behind it."""
    running = eval(compile(code, "page", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True), names)
    if running is not None:
        await running


async def test_the_code_of_the_routers_and_the_kits_pages_runs_as_it_stands(
    pg18: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Server(pg18.dsn()) as server:
        async with Product.installed(server, SCHEMA, tables=TABLES) as product, product.router() as router:
            tenant = uuid.uuid4()
            await router.add_tenant(tenant)
            names: dict[str, Any] = {"tenant_id": tenant, "tenant": tenant}
            (tmp_path / "config").mkdir()
            shared = {"kind": "shared", "dsn": product.dsn}
            written = {"control": {"dsn": product.owner_dsn}, "databases": {"shared": shared}}
            (tmp_path / "config/tenantry.yaml").write_text(yaml.safe_dump(written))
            monkeypatch.chdir(tmp_path)
            await _routers_page(names, router)
            await _kits_page(names, router, product)
    assert "waited 0.60 s" in capsys.readouterr().out


async def _routers_page(names: dict[str, Any], router: Router) -> None:
    first, *others = blocks("reference/router.md", "python")
    await run(first, names)
    names["router"] = router
    for code in others:
        await run(code, names)
    assert (names["count"], names["row"]["name"], names["status"]) == (1, "Ada", "DELETE 0")
    assert [row["name"] for row in names["mine"]] == ["Ada"]
    assert [row["count"] for row in await names["invoices"](router)] == [1]
    async with Router.open("config/tenantry.yaml", on_connect=names["prepare"], metrics=False) as another:
        assert await another.fetchval(names["tenant"], """SELECT '{"a": 1}'::jsonb""") == {"a": 1}
    names["log_scope"](ScopeEnded(names["tenant"], "shared", "commit", 0.0, 0.0, 0.6, 1))


async def _kits_page(names: dict[str, Any], router: Router, product: Product) -> None:
    install, quota, acting, *copying = blocks("how-to/kits.md", "python")
    assert len(copying) == 2, "of a control and a data database, which are apart: tests/integration/kits has them"
    quotas, audit = blocks("how-to/kits.md", "sql")[:2]
    tenant = str(names["tenant"])
    async with product.server.connect(product.database) as owner:
        names["connection"] = owner
        as_here = install.replace('"app"', repr(product.role))
        await run(as_here, names)
        await run(as_here.replace("await kits.remove", "# await kits.remove"), names)
        await run(quota, names)
        *there, off = quotas.replace("<tenant id>", tenant).splitlines()
        await owner.execute("\n".join(there).replace("150", "2"))
        assert await names["enrol"](router, names["tenant"], "Bea") == "Welcome."
        assert await names["enrol"](router, names["tenant"], "Cid") == "Your plan has room for 2 students."
        await owner.execute(off)
        *there, off = audit.splitlines()
        await owner.execute("\n".join(there))
        await run(acting, names)
        await owner.execute(off)


@pytest.mark.long
@pytest.mark.timeout(180)
def test_the_tests_of_the_testing_page_pass_as_they_stand(pg18: EmbeddedServer, tmp_path: Path) -> None:
    conftest, isolation, product = blocks("how-to/testing.md", "python")
    countries = "CREATE TABLE countries (code text PRIMARY KEY); GRANT SELECT ON countries TO {role};"
    (tmp_path / "schema.sql").write_text(SCHEMA.split("\n")[1] + countries)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_isolation.py").write_text(isolation)
    insert = "await conn.execute('INSERT INTO students (name) VALUES ($1)', name)"
    theirs = f"async def enroll_student(conn, name):\n    {insert}\n"
    (tmp_path / "test_product.py").write_text(f"from test_isolation import seed\n{product}\n\n{theirs}")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("TENANTRY", "PYTEST"))
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly"],
        cwd=tmp_path,
        env=environment | {"TENANTRY_TEST_DSN": pg18.dsn()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr
