"""Lessons, on SQLAlchemy's ORM; invoices; and the tablets at the door, which say who came."""

from __future__ import annotations

import datetime

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from examples.school.access import people_only
from examples.school.fields import Cents, Line, Number, TokenId
from examples.school.models import Invoice, Lesson, Student
from tenantry.integrations.fastapi import CurrentTenant, TenantSession, scope
from tenantry.integrations.starlette import current_router

routes = APIRouter(tags=["lessons"], dependencies=[people_only])
devices = APIRouter(tags=["devices"])


class NewLesson(BaseModel):
    """What to book."""

    student_id: Number
    subject: Line
    day: datetime.date
    cents: Cents = 3000


class NewDevice(BaseModel):
    """A tablet to let in."""

    label: Line


@routes.post("/lessons", status_code=201)
async def book(lesson: NewLesson, session: TenantSession) -> dict[str, int]:
    """Book one. Another centre's student is as unknown as one who does not exist."""
    made = Lesson(**lesson.model_dump())
    session.add(made)
    try:
        await session.flush()
    except IntegrityError:
        raise HTTPException(404, "there is no such student") from None
    return {"id": made.id}


@routes.get("/lessons")
async def of_day(day: datetime.date, session: TenantSession) -> list[dict[str, object]]:
    """A day's lessons, with the students' names."""
    joined = select(Lesson, Student.name).join(Student, Student.id == Lesson.student_id)
    found = await session.execute(joined.where(Lesson.day == day).order_by(Lesson.id).limit(100))
    return [
        {"id": one.id, "subject": one.subject, "student": name, "attended": one.attended} for one, name in found
    ]


@routes.get("/invoices")
async def invoices(month: datetime.date, session: TenantSession) -> dict[str, int]:
    """What the nightly job has made of a month, named by its first day."""
    asked = select(func.count(), func.coalesce(func.sum(Invoice.cents), 0)).where(Invoice.month == month)
    count, cents = (await session.execute(asked)).one()
    return {"invoices": count, "cents": cents}


@devices.post("/lessons/{lesson}/attended", status_code=204, dependencies=[scope("attendance")])
async def attended(lesson: Number, session: TenantSession) -> None:
    """A tablet says that the student came."""
    found = await session.scalar(select(Lesson).where(Lesson.id == lesson))
    if found is None:
        raise HTTPException(404, "there is no such lesson")
    found.attended = True


@routes.post("/devices", status_code=201)
async def let_in(device: NewDevice, request: Request, tenant: CurrentTenant) -> dict[str, str]:
    """A sync token for a tablet, which may say who came and nothing else. It is shown this once."""
    issued = await current_router(request).tokens.issue(tenant, scope="attendance", label=device.label)
    return {"id": issued.token.id, "token": issued.text}


@routes.delete("/devices/{token}", status_code=204)
async def lost(token: TokenId, request: Request, tenant: CurrentTenant) -> None:
    """A tablet is lost: its token is refused by every process within a second."""
    if not await current_router(request).tokens.revoke(tenant, token, reason="lost"):
        raise HTTPException(404, "there is no such device")
