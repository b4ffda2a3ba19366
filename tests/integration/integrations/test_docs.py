"""The code of the how-to pages about frameworks, ORMs and jobs, run as it stands."""

from __future__ import annotations

import asyncio
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

PAGES = Path(__file__).parents[3] / "docs" / "how-to"
PAGES_WITH_CODE = (
    ("fastapi", 1),
    ("sqlalchemy", 1),
    ("opentelemetry", 1),
    ("jobs", 2),
    ("claims", 1),
    ("serverless", 1),
)
KEY = "a key that is long enough for HMAC with SHA-256, as PyJWT wants it"


def blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (PAGES / page).read_text(encoding="utf-8"), re.M | re.S)


async def test_the_pages_code_runs_as_it_stands(
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
    names: dict[str, Any] = {"__name__": "page"}
    for page, there in PAGES_WITH_CODE:
        found = blocks(f"{page}.md")
        assert len(found) >= there
        for code in found:
            exec(compile(code, page, "exec", dont_inherit=True), names)
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
        found = await names["my_students"](router, other, {"sub": "ada"})
        assert [row["name"] for row in found] == ["Bea", "Zoe", "closed"]
        assert await asyncio.to_thread(_invoked_twice, names, other) == [{"students": 3}] * 2


def _invoked_twice(names: dict[str, Any], tenant: object) -> list[dict[str, int]]:
    """As a serverless platform does: the same process, one call after the other; at last it goes."""
    answers = [names["handler"]({"tenant_id": str(tenant)}, None) for _ in range(2)]
    names["_loop"].run_until_complete(names["_router"].close())
    names["_loop"].close()
    return answers


def _token(tenant: object) -> str:
    assert isinstance(tenant, uuid.UUID)
    return jwt.encode({"tenant_id": str(tenant), "aud": "api", "exp": time.time() + 60}, KEY, algorithm="HS256")
