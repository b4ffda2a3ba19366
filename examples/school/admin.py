"""What the product's staff does: sign centres up, and count over all of them, wherever they live."""

from __future__ import annotations

import uuid
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel

from examples.school.access import Staff
from examples.school.fields import Line
from tenantry import Router
from tenantry.integrations.starlette import current_router

routes = APIRouter(prefix="/admin", tags=["staff"])

_REPORT = """
    SELECT c.tenant_id::text AS id, c.name,
        (SELECT count(*) FROM students AS s WHERE s.tenant_id = c.tenant_id) AS students,
        (SELECT count(*) FROM lessons AS l WHERE l.tenant_id = c.tenant_id) AS lessons,
        (SELECT coalesce(sum(i.cents), 0) FROM invoices AS i WHERE i.tenant_id = c.tenant_id) AS cents
    FROM centres AS c
"""


class NewCentre(BaseModel):
    """Who signs up."""

    name: Line
    plan: Literal["basic", "pro"] = "basic"


@routes.post("/centres", status_code=201)
async def signed_up(centre: NewCentre, request: Request, staff: Staff) -> dict[str, str]:
    """A new centre; its token works when this has answered."""
    tenant = await sign_up(current_router(request), centre.name, centre.plan, actor=staff)
    return {"id": str(tenant)}


@routes.get("/report")
async def report(request: Request, staff: Staff) -> list[dict[str, object]]:
    """Each centre once, with what it has, even while one of them is being moved."""
    rows = []
    async with current_router(request).operators(reason="report", actor=staff, readonly=True) as databases:
        async for database, conn in databases:
            rows += [{**row, "database": database} for row in await conn.fetch(_REPORT)]
    return sorted(rows, key=lambda row: str(row["name"]))


async def sign_up(router: Router, name: str, plan: str, *, actor: str) -> uuid.UUID:
    """The centre's id. Its plan goes to the directory, for operators, and to the quotas of its database."""
    tenant = uuid.uuid4()
    home = await router.add_tenant(tenant, plan=plan)
    async with router.operator(reason="sign-up", database=home.database, actor=actor) as conn:
        await conn.execute("INSERT INTO tenantry.quota_plan VALUES ($1, $2)", str(tenant), plan)
        await conn.execute("INSERT INTO centres (tenant_id, name) VALUES ($1, $2)", tenant, name)
    return tenant
