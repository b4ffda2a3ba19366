"""Students, in SQL on asyncpg: one by one, many at once, and all of them as a stream.

No statement names a tenant, and none needs to: the connection is in a scope of whoever asks.
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator

import asyncpg
from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import BaseModel

from examples.school.access import people_only
from examples.school.fields import Line, Number
from tenantry import ScopedConnection
from tenantry.integrations.fastapi import ReadOnlyTenantConnection, TenantConnection, stream

routes = APIRouter(prefix="/students", tags=["students"], dependencies=[people_only])


class NewStudent(BaseModel):
    """Whom to enrol."""

    name: Line
    email: Line


@routes.get("")
async def listed(conn: ReadOnlyTenantConnection, after: Number = 0) -> list[dict[str, object]]:
    """A page of 50, in the order in which they came. `after`: the last id of the page before."""
    rows = await conn.fetch("SELECT id, name, email FROM students WHERE id > $1 ORDER BY id LIMIT 50", after)
    return [dict(row) for row in rows]


@routes.post("", status_code=201)
async def enrol(student: NewStudent, conn: TenantConnection) -> dict[str, int]:
    """One more; 402 where the plan has no room, 409 where the address is known."""
    try:
        number = await conn.fetchval(
            "INSERT INTO students (name, email) VALUES ($1, $2) RETURNING id", student.name, student.email
        )
    except asyncpg.UniqueViolationError:
        raise HTTPException(409, "a student with this address is enrolled already") from None
    return {"id": number}


@routes.post("/import")
async def imported(request: Request, conn: TenantConnection) -> dict[str, int]:
    """A CSV file with the columns name and email: all of it or, where the plan has no room, nothing.

    Whoever is known by the address gets the new name.
    """
    try:
        found = {row["email"]: row["name"] for row in csv.DictReader(io.StringIO((await request.body()).decode()))}
    except (UnicodeDecodeError, KeyError, csv.Error):
        raise HTTPException(422, "a CSV file in UTF-8 is wanted, with the columns name and email") from None
    if None in found or None in found.values():
        raise HTTPException(422, "a line of the file is shorter than its head")
    try:
        await conn.execute(
            "INSERT INTO students (name, email) SELECT * FROM unnest($1::text[], $2::text[]) "
            "ON CONFLICT (tenant_id, email) DO UPDATE SET name = excluded.name",
            list(found.values()),
            list(found),
        )
    except asyncpg.DataError as error:
        raise HTTPException(422, f"the file holds what a name can't be: {error}") from None
    return {"students": len(found)}


@routes.get("/export")
async def exported(request: Request) -> Response:
    """All as CSV, sent while it is read; however many they are, a few at a time are in memory."""

    async def lines(conn: ScopedConnection) -> AsyncIterator[str]:
        head = _line("name", "email")  # sent with the first row: what the database refuses is still an answer then
        async for row in conn.cursor("SELECT name, email FROM students ORDER BY id"):
            yield head + _line(*row)
            head = ""
        if head:
            yield head

    return stream(request, lines, media_type="text/csv", seconds=120)


def _line(*values: str) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(values)
    return line.getvalue()
