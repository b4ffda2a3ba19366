"""What the product promises to its centres, asked through its endpoints."""

from __future__ import annotations

import asyncio
import datetime
import itertools

import pytest
from alembic import command
from alembic.config import Config as Migrations

from examples.school import access
from examples.school.nightly import write_invoices
from examples.school.tests.conftest import INI, School
from tenantry import Operations, Router, ScopedConnection, TenantId
from tenantry.testing import Product, assert_isolated, assert_work_survives_move, two_tenants

DAY = "2026-11-27"
MONTH = "2026-11-01"


async def enrolled(school: School, token: str, name: str) -> int:
    """A student's number."""
    answer = await school.ask(token, "POST", "/students", json={"name": name, "email": f"{name}@example.com"})
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


async def booked(school: School, token: str, student: int) -> int:
    """A lesson's number."""
    lesson = {"student_id": student, "subject": "Latin", "day": DAY}
    answer = await school.ask(token, "POST", "/lessons", json=lesson)
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


async def test_every_table_keeps_centres_apart(tenantry_router: Router, tenantry_clean: None) -> None:
    async def seed(conn: ScopedConnection) -> None:  # the same keys for both
        await conn.execute("INSERT INTO centres (name) VALUES ('Centre')")
        await conn.execute(
            "INSERT INTO students (id, name, email) OVERRIDING SYSTEM VALUE VALUES (1, 'Ann', 'ann@example.com')"
        )
        await conn.execute(
            "INSERT INTO lessons (id, student_id, subject, day, cents) OVERRIDING SYSTEM VALUE "
            "VALUES (1, 1, 'Latin', '2026-11-27', 3000)"
        )
        await conn.execute(
            "INSERT INTO invoices (id, student_id, month, cents) OVERRIDING SYSTEM VALUE "
            "VALUES (1, 1, '2026-11-01', 3000)"
        )

    async with two_tenants(tenantry_router, seed) as (a, b):
        await assert_isolated(tenantry_router, a, b)


async def test_a_centre_sees_its_own_students_and_lessons_only(school: School) -> None:
    (_, north), (_, south) = await school.centre("North"), await school.centre("South")
    ann = await enrolled(school, north, "ann")
    await booked(school, north, ann)
    seen = (await school.ask(north, "GET", "/lessons", params={"day": DAY})).json()
    assert [(lesson["student"], lesson["subject"]) for lesson in seen] == [("ann", "Latin")]
    assert (await school.ask(south, "GET", "/students")).json() == []
    assert (await school.ask(south, "GET", "/lessons", params={"day": DAY})).json() == []
    theirs = {"student_id": ann, "subject": "Latin", "day": DAY}
    assert (await school.ask(south, "POST", "/lessons", json=theirs)).status_code == 404


async def test_the_plan_s_limit_is_held_by_the_database_and_an_import_beyond_it_takes_nothing(
    school: School,
) -> None:
    _, token = await school.centre("Small", plan="basic")  # room for five
    for name in ("ann", "bob", "cleo", "dan"):
        await enrolled(school, token, name)
    two_more = "name,email\nEve,eve@example.com\nFay,fay@example.com\n"
    refused = await school.ask(token, "POST", "/students/import", content=two_more)
    assert (refused.status_code, refused.json()["code"]) == (402, "quota_exceeded")
    assert len((await school.ask(token, "GET", "/students")).json()) == 4
    await enrolled(school, token, "eve")
    sixth = await school.ask(token, "POST", "/students", json={"name": "Fay", "email": "fay@example.com"})
    assert sixth.status_code == 402


async def test_what_was_imported_is_exported_and_a_broken_file_changes_nothing(school: School) -> None:
    _, token = await school.centre("Large")
    lines = ["name,email", *(f'"Name, {n}",s{n}@example.com' for n in range(500))]
    done = await school.ask(token, "POST", "/students/import", content="\n".join(lines))
    assert done.json() == {"students": 500}
    again = await school.ask(token, "POST", "/students/import", content="\n".join(lines))
    assert again.json() == {"students": 500}
    exported = (await school.ask(token, "GET", "/students/export")).text.splitlines()
    assert exported == lines
    for broken in (b"name,email\nAnn\n", b"name\nAnn\n", b"\xff\xfe", b"name,email\n\x00,a@b\n"):
        refused = await school.ask(token, "POST", "/students/import", content=broken)
        assert refused.status_code == 422, (broken, refused.text)
    assert len((await school.ask(token, "GET", "/students/export")).text.splitlines()) == 501
    for garbage in ({"name": "\0", "email": "a@b"}, {"name": "", "email": "a@b"}, {"name": "Ann"}):
        assert (await school.ask(token, "POST", "/students", json=garbage)).status_code == 422
    nobody = {"student_id": 2**63, "subject": "Latin", "day": DAY}
    assert (await school.ask(token, "POST", "/lessons", json=nobody)).status_code == 422


async def test_a_tablet_says_who_came_and_may_do_nothing_else(school: School) -> None:
    _, token = await school.centre("North")
    lesson = await booked(school, token, await enrolled(school, token, "ann"))
    device = (await school.ask(token, "POST", "/devices", json={"label": "door"})).json()
    assert (await school.ask(device["token"], "POST", f"/lessons/{lesson}/attended")).status_code == 204
    assert (await school.ask(token, "GET", "/lessons", params={"day": DAY})).json()[0]["attended"] is True
    for method, path in (("GET", "/students"), ("GET", "/students/export"), ("POST", "/devices")):
        assert (await school.ask(device["token"], method, path)).status_code == 403
    _, other = await school.centre("South")
    assert (await school.ask(other, "POST", f"/lessons/{lesson}/attended")).status_code == 404
    for name, status in ((device["id"], 404), ("nonsense", 422)):
        assert (await school.ask(other, "DELETE", f"/devices/{name}")).status_code == status
    assert (await school.ask(token, "DELETE", f"/devices/{device['id']}")).status_code == 204
    assert (await school.ask(device["token"], "POST", f"/lessons/{lesson}/attended")).status_code == 401


async def test_staff_counts_over_all_centres_and_a_centre_s_token_is_no_staff_s(school: School) -> None:
    (north, token), (south, _) = await school.centre("North"), await school.centre("South")
    ann = await enrolled(school, token, "ann")
    await booked(school, token, ann)
    await booked(school, token, ann)
    for _ in range(2):  # the second night finds nothing new
        done = await write_invoices(school.router, datetime.date.fromisoformat(MONTH))
        assert (done.done, done.failed) == (2, {})
    assert (await school.ask(token, "GET", "/invoices", params={"month": MONTH})).json() == {
        "invoices": 1,
        "cents": 6000,
    }
    report = (await school.ask(access.staff_token("sue"), "GET", "/admin/report")).json()
    home = {"database": "shared"}
    assert report == [
        {"id": str(north), "name": "North", "students": 1, "lessons": 2, "cents": 6000, **home},
        {"id": str(south), "name": "South", "students": 0, "lessons": 0, "cents": 0, **home},
    ]
    for path in ("/admin/report", "/students"):
        for wrong in (access.person_token(north, "ann", seconds=-60), "nonsense"):
            assert (await school.ask(wrong, "GET", path)).status_code == 401
    assert (await school.ask(token, "GET", "/admin/report")).status_code == 401
    assert (await school.ask(access.staff_token("sue"), "GET", "/students")).status_code == 401


async def test_a_suspended_centre_gets_an_answer_that_says_so_and_no_export_that_is_cut_off(
    school: School, tenantry_product: Product
) -> None:
    tenant, token = await school.centre("Late with the fee")
    assert (await school.ask(token, "GET", "/students/export")).text.splitlines() == ["name,email"]
    async with Operations.open(tenantry_product.config()) as operations:
        await operations.tenants.suspend(tenant, reason="unpaid")
    for path in ("/students/export", "/students", f"/lessons?day={DAY}"):
        answer = await school.ask(token, "GET", path)
        assert (answer.status_code, answer.json()["code"]) == (403, "tenant_suspended")


def test_the_migrations_make_what_the_models_say(
    tenantry_product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENANTRY_MIGRATE_URL", tenantry_product.owner_dsn)
    command.check(Migrations(INI))


@pytest.mark.long
async def test_a_centre_works_on_while_it_is_promoted_and_taken_back(
    school: School, tenantry_product: Product
) -> None:
    tenant, token = await school.centre("Busy")
    numbers, confirmed = itertools.count(), set[int]()
    device = (await school.ask(token, "POST", "/devices", json={"label": "door"})).json()["token"]

    async def a_lesson(_: TenantId) -> None:
        student = await enrolled(school, token, f"student{next(numbers)}")
        confirmed.add(student)
        lesson = await booked(school, token, student)
        answer = await school.ask(device, "POST", f"/lessons/{lesson}/attended")
        assert answer.status_code == 204, answer.text
        await asyncio.sleep(0.02)

    await assert_work_survives_move(tenantry_product, tenant, a_lesson)
    report = (await school.ask(access.staff_token("sue"), "GET", "/admin/report")).json()
    assert len(confirmed) <= report[0]["students"] <= next(numbers)  # the last calls were cut off
