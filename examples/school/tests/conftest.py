"""The testing kit's fixtures, with this product's migrations as the schema."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
import pytest_asyncio
from alembic import command
from alembic.config import Config as Migrations

from examples.school import access
from examples.school.app import create_app
from tenantry import Router

INI = Path(__file__).parent.parent / "alembic.ini"


@pytest.fixture(scope="session")
def tenantry_schema() -> str:
    """What the migrations would do to an empty database, as SQL."""
    written = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENANTRY_MIGRATE_URL", "postgresql://")
        command.upgrade(Migrations(INI, output_buffer=written), "head", sql=True)
    return written.getvalue()


@pytest.fixture(scope="session")
def tenantry_options() -> dict[str, Any]:
    return {"kits": "quotas"}


@pytest.fixture(autouse=True)
def signing_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCHOOL_JWT_KEY", "a key for tests, of thirty-two bytes")


class School:
    """The app, asked as centres, their devices and the staff ask it."""

    def __init__(self, router: Router) -> None:
        self.router = router
        transport = httpx.ASGITransport(create_app(router=router))
        self.http = httpx.AsyncClient(transport=transport, base_url="http://school")

    async def ask(self, token: str, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"}
        return await self.http.request(method, path, headers=headers, **options)

    async def centre(self, name: str, plan: str = "pro") -> tuple[UUID, str]:
        """Sign one up; its id, and a token of somebody there."""
        answer = await self.ask(
            access.staff_token("sue"), "POST", "/admin/centres", json={"name": name, "plan": plan}
        )
        assert answer.status_code == 201, answer.text
        tenant = UUID(answer.json()["id"])
        return tenant, access.person_token(tenant, f"head of {name}")


@pytest_asyncio.fixture
async def school(tenantry_router: Router, tenantry_clean: None, tenantry_strict: None) -> AsyncIterator[School]:
    """An app without centres."""
    made = School(tenantry_router)
    async with made.http:
        yield made
