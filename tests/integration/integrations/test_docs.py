"""The code of docs/how-to/integrations.md, run as it stands."""

from __future__ import annotations

import re
import time
import uuid
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml

from tests.support.product import Product
from tests.support.web import client

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "integrations.md"
KEY = "a key that is long enough for HMAC with SHA-256, as PyJWT wants it"


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)


async def test_the_page_s_code_runs_as_it_stands(
    fresh: Product, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").mkdir()
    section = {"kind": "shared", "dsn": fresh.dsn()}
    written = {
        "tenancy": {"type": "uuid"},
        "control": {"dsn": fresh.server.dsn(fresh.database)},
        "databases": {"shared": section},
    }
    (tmp_path / "config" / "tenantry.yaml").write_text(yaml.safe_dump(written))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JWT_KEY", KEY)
    app, orm, otel, jobs, tasks = blocks()
    names: dict[str, Any] = {"__name__": "page"}
    for code in (app, orm, otel, jobs, tasks):
        exec(compile(code, str(PAGE), "exec", dont_inherit=True), names)
    await names["served"](uuid.uuid4())
    async with fresh.open() as router:
        tenant, other = await fresh.signed_up(router, 2)
        headers = {"Authorization": f"Bearer {_token(tenant)}"}
        async with client(names["app"]) as http:
            assert (await http.get("/readyz")).json() == {"ready": True}
            assert (await http.post("/students/Ada", headers=headers)).status_code == 201
            assert (await http.get("/students", headers=headers)).json() == ["Ada"]
            assert (await http.get("/export", headers=headers)).text == "Ada\n"
            assert (await http.get("/students")).status_code == 401
        await names["nightly"](router)
        await names["make_task"](router)("Bea", tenant_id=str(other))
        assert await router.fetchval(tenant, "SELECT array_agg(name ORDER BY name) FROM students") == [
            "Ada",
            "closed",
        ]
        assert await router.fetchval(other, "SELECT array_agg(name ORDER BY name) FROM students") == [
            "Bea",
            "closed",
        ]
        assert await names["enrol"](router, other, "Zoe") == ["Bea", "Zoe", "closed"]


def _token(tenant: object) -> str:
    assert isinstance(tenant, uuid.UUID)
    return jwt.encode({"tenant_id": str(tenant), "aud": "api", "exp": time.time() + 60}, KEY, algorithm="HS256")
