"""The code of docs/how-to/tokens.md, run as it stands."""

from __future__ import annotations

import ast
import re
import time
import uuid
from pathlib import Path
from typing import Any

import jwt
from fastapi import FastAPI

from tenantry.integrations import fastapi
from tests.support.product import Product
from tests.support.web import client

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "tokens.md"
KEY = "a key that is long enough for HMAC with SHA-256, as PyJWT wants it"


async def test_the_pages_code_runs_as_it_stands(shared: Product) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    kept: list[str] = []
    async with shared.open() as router:
        [tenant] = await shared.signed_up(router)
        names: dict[str, Any] = {"router": router, "tenant_id": tenant, "send_to_device": kept.append}
        names |= {name: getattr(fastapi, name) for name in fastapi.__all__ if name != "TenantSession"}
        issue, verify, serve, revoke = blocks
        for block in (issue, verify, serve):
            await _run(block, names)
        assert (names["token"].tenant, names["rows"]) == (tenant, [])
        app = FastAPI(
            lifespan=fastapi.lifespan(shared.config(), metrics=False),
            exception_handlers=dict(fastapi.error_handlers()),
        )
        names["add_devices"](app, fastapi.jwt_tenant(KEY, algorithms=["HS256"], parse=uuid.UUID))
        person = jwt.encode({"tenant_id": str(tenant), "exp": time.time() + 60}, KEY, algorithm="HS256")
        async with client(app) as http:
            codes = [
                (await http.post("/orders", headers={"Authorization": f"Bearer {text}"})).status_code
                for text in (*kept, person, "x")
            ]
            assert codes == [403, 200, 401]
        await _run(revoke, names)
        assert await router.tokens.list(tenant) == []


async def _run(block: str, names: dict[str, Any]) -> None:
    code = compile(block, str(PAGE), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    running = eval(code, names)
    if running is not None:
        await running
