"""Who uses the product: people and tablets of a few centres, over HTTP, each request counted and none repeated."""

from __future__ import annotations

import asyncio
import datetime
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import httpx

from examples.school import access

#: Seconds that figures "now" look back.
WINDOW = 3.0
_SUBJECTS = ("Latin", "Physics", "Piano", "Chess")


class RequestFailed(Exception):
    """An answer that the visitor did not expect."""


@dataclass
class Centre:
    """A centre, and how its visitors fare."""

    # Mutable state: all below `pace`.

    name: str
    plan: str
    pace: float
    """Requests a second."""
    id: str = ""
    person: str = ""
    tablet: str = ""
    students: list[int] = field(default_factory=list)
    lessons: deque[int] = field(default_factory=lambda: deque(maxlen=50))
    requests: int = 0
    failures: list[str] = field(default_factory=list)
    recent: deque[tuple[float, float]] = field(default_factory=deque)
    """When a request ended, and how long it took, in seconds; of the last `WINDOW`."""

    def now(self) -> tuple[float, float]:
        """Requests a second, and the slowest one's seconds, within the window."""
        while self.recent and self.recent[0][0] < monotonic() - WINDOW:
            self.recent.popleft()
        return len(self.recent) / WINDOW, max((seconds for _, seconds in self.recent), default=0.0)


class Visitors:
    """All visitors of the product at `address`."""

    def __init__(self, address: str, centres: Sequence[Centre]) -> None:
        self.centres = centres
        self._http = httpx.AsyncClient(base_url=address, timeout=30)
        self._day = datetime.date.today().isoformat()

    async def run(self, students: int) -> None:
        """Sign every centre up with its students, and visit them until cancelled."""
        async with self._http, asyncio.TaskGroup() as group:
            for centre in self.centres:
                await self._sign_up(centre, students)
                group.create_task(self._visit(centre))

    async def _sign_up(self, centre: Centre, students: int) -> None:
        signed = await self._ask(
            access.staff_token("sue"), "POST", "/admin/centres", json={"name": centre.name, "plan": centre.plan}
        )
        centre.id = signed.json()["id"]
        centre.person = access.person_token(centre.id, f"head of {centre.name}", seconds=7 * 86_400)
        count = students if centre.plan == "pro" else 4
        lines = ["name,email", *(f"Student {n},student{n}@example.com" for n in range(count))]
        await self._ask(centre.person, "POST", "/students/import", content="\n".join(lines))
        device = await self._ask(centre.person, "POST", "/devices", json={"label": "the door"})
        centre.tablet = device.json()["token"]
        listed = await self._ask(centre.person, "GET", "/students")
        centre.students = [student["id"] for student in listed.json()]

    async def _visit(self, centre: Centre) -> None:
        while True:
            began = monotonic()
            try:
                await self._once(centre)
            except (httpx.HTTPError, RequestFailed) as error:
                centre.failures.append(f"{type(error).__name__}: {error}")
            ended = monotonic()
            centre.requests += 1
            centre.recent.append((ended, ended - began))
            await asyncio.sleep(random.expovariate(centre.pace))

    async def _once(self, centre: Centre) -> None:
        """One request: a page, a lesson booked, one attended, somebody new, the day's plan."""
        chance = random.random()  # noqa: S311  no secret
        if chance < 0.35:
            await self._ask(centre.person, "GET", "/students")
        elif chance < 0.60 or not centre.lessons:
            lesson = {
                "student_id": random.choice(centre.students),  # noqa: S311  no secret
                "subject": random.choice(_SUBJECTS),  # noqa: S311  no secret
                "day": self._day,
            }
            booked = await self._ask(centre.person, "POST", "/lessons", json=lesson)
            centre.lessons.append(booked.json()["id"])
        elif chance < 0.80:
            await self._ask(centre.tablet, "POST", f"/lessons/{centre.lessons.popleft()}/attended")
        elif chance < 0.85 and centre.plan == "pro":
            new = {"name": "Somebody new", "email": f"new{centre.requests}@example.com"}
            await self._ask(centre.person, "POST", "/students", json=new)
        else:
            await self._ask(centre.person, "GET", "/lessons", params={"day": self._day})

    async def _ask(self, token: str, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"}
        answer = await self._http.request(method, path, headers=headers, **options)
        if answer.status_code >= 400:
            raise RequestFailed(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer
