"""The page that shows what happens, and moves a centre when its button is pressed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from fastapi import FastAPI, HTTPException
from fastapi.responses import HTMLResponse

from examples.school.live.visitors import Centre
from tenantry import Operations
from tenantry.move import MoveStopped

_HTML = Path(__file__).parent / "page.html"


class Shown:
    """What the page shows, and the moves that it starts."""

    # Mutable state: _moves (open promotions, by centre), _busy (running ones), _made (databases), log.

    def __init__(self, operations: Operations, centres: Sequence[Centre]) -> None:
        self.log: deque[str] = deque(maxlen=200)
        self._operations = operations
        self._centres = centres
        self._moves: dict[str, str] = {}
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._made = 0

    async def state(self) -> dict[str, Any]:
        """Of now: every centre, the sums, and the lines of the log."""
        homes = {str(row.id): row.database async for row in self._operations.tenants.list()}
        rows = []
        for centre in self._centres:
            rate, slowest = centre.now()
            rows.append(
                {
                    "id": centre.id,
                    "name": centre.name,
                    "plan": centre.plan,
                    "home": homes.get(centre.id, ""),
                    "moving": centre.id in self._busy,
                    "away": centre.id in self._moves,
                    "rate": rate,
                    "slowest": slowest,
                    "requests": centre.requests,
                    "failed": len(centre.failures),
                }
            )
        failures = [text for centre in self._centres for text in centre.failures[:3]]
        return {"centres": rows, "log": list(self.log), "failures": failures}

    def move(self, tenant: str) -> None:
        """Begin to move a centre to a database of its own, or back.

        Raises:
            HTTPException: there is no such centre, or it is being moved.
        """
        centre = next((one for one in self._centres if one.id == tenant), None)
        if centre is None:
            raise HTTPException(404, "there is no such centre")
        if tenant in self._busy:
            raise HTTPException(409, f"{centre.name} is being moved already")
        work = self._take_back(centre) if tenant in self._moves else self._promote(centre)
        self._busy[tenant] = asyncio.create_task(self._told(centre, work))

    async def close(self) -> None:
        """End what is running; the journal has what was done."""
        running = list(self._busy.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _promote(self, centre: Centre) -> None:
        self._made += 1
        to = f"{centre.name.lower()}_{self._made}"
        self.log.append(f"{centre.name}: to a database of its own, {to}")
        try:
            record = await self._operations.moves.promote(centre.id, to, progress=self._teller(centre))
        except MoveStopped as stopped:
            await self._operations.moves.abort(stopped.move)
            raise
        self._moves[centre.id] = record.id

    async def _take_back(self, centre: Centre) -> None:
        self.log.append(f"{centre.name}: back to the shared database")
        await self._operations.moves.rollback(self._moves[centre.id], progress=self._teller(centre))
        del self._moves[centre.id]

    async def _told(self, centre: Centre, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
            self.log.append(f"{centre.name}: done")
        except Exception as error:  # whatever it is, somebody looks at the page and at nothing else
            self.log.append(f"{centre.name}: stopped: {error}")
        finally:
            del self._busy[centre.id]

    def _teller(self, centre: Centre) -> Any:
        def tell(event: Any) -> None:
            if event.name == "step.ended":
                self.log.append(f"{centre.name}: {event.step} took {event.seconds:.1f} s")
            elif event.name == "fence.tried":
                end = f"flipped, it waited {event.pause * 1000:.0f} ms" if event.flipped else "tried again"
                self.log.append(f"{centre.name}: fence {event.attempt}: {end}")

        return tell


def with_page(product: FastAPI, shown: Shown) -> FastAPI:
    """The product, and before it the page at `/`, its figures and its button."""

    @asynccontextmanager
    async def both(_: FastAPI) -> AsyncIterator[Any]:
        async with product.router.lifespan_context(product) as state:
            yield state

    app = FastAPI(lifespan=both, openapi_url=None)

    @app.get("/", response_class=HTMLResponse)
    async def page() -> str:
        return _HTML.read_text(encoding="utf-8")

    @app.get("/live/state")
    async def state() -> dict[str, Any]:
        return await shown.state()

    @app.post("/live/move/{tenant}", status_code=202)
    async def move(tenant: UUID) -> None:
        shown.move(str(tenant))

    app.mount("/", product)
    return app
