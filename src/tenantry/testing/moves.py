"""A product's own work while its tenant is promoted and taken back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Final, NamedTuple

from tenantry.ids import TenantId
from tenantry.move import MoveError
from tenantry.testing.product import Product

#: What the work met, in this order.
BEFORE, PROMOTING, PROMOTED, RETURNING, BACK = "before", "promoting", "promoted", "returning", "back"
_SHOWN: Final = 5


class WorkReport(NamedTuple):
    """How the work fared."""

    calls: dict[str, int]
    """Calls that ended well, by when they began: "before", "promoting", "promoted", "returning", "back"."""
    slowest: float
    """Seconds of the longest call."""


class MoveNoticed(AssertionError):
    """The work failed while its tenant was moved, or kept it from being moved.

    Attributes:
        calls: as of `WorkReport`.
        errors: what was raised, by the words of it: when, and how often.
    """

    def __init__(self, why: str, calls: dict[str, int], errors: Counter[str]) -> None:
        self.calls, self.errors = calls, errors
        shown = "".join(f"\n  {count} x {words}" for words, count in errors.most_common(_SHOWN))
        done = ", ".join(f"{count} {when}" for when, count in calls.items()) or "none"
        super().__init__(f"{why}{shown}\n  calls that were well: {done}")


async def assert_work_survives_move(
    product: Product,
    tenant: TenantId,
    work: Callable[[TenantId], Awaitable[object]],
    *,
    callers: int = 4,
    calls: int = 20,
    patience: float = 60.0,
) -> WorkReport:
    """`work(tenant)` does not fail while its tenant is promoted and taken back; the tenant is really moved.

    It is called again and again, by several callers at once, before, during and after both moves. It should do
    what a request does, in scopes of its own, and check what it reads. Every row that it commits is carried along:
    a move compares both sides.

    Args:
        callers: how many call at once.
        calls: that must have begun and ended before the first move, between the two, and after the second.
        patience: seconds that those may take, each time.

    Raises:
        MoveNoticed: an AssertionError: calls failed or did not end, or a scope that is held for long kept the
            tenant from moving.
    """
    crew = _Crew(tenant, work, callers, patience)
    try:
        await crew.more(calls)
        crew.phase = PROMOTING
        await _moved(crew, product.promote(tenant))
        crew.phase = PROMOTED
        await crew.more(calls)
        crew.phase = RETURNING
        await _moved(crew, product.take_back())
        crew.phase = BACK
        await crew.more(calls)
    finally:
        await crew.stop()
        await product.take_back()
    if crew.errors:
        raise MoveNoticed("the product has noticed that its tenant was moved:", crew.done, crew.errors)
    return WorkReport(dict(crew.done), crew.slowest)


async def _moved(crew: _Crew, move: Awaitable[object]) -> None:
    try:
        await move
    except MoveError as error:
        raise MoveNoticed(f"the tenant could not be moved: {error}", crew.done, crew.errors) from error


class _Crew:
    """Callers of the work."""

    # Mutable state: phase; done (calls that were well, by the phase in which they began), errors, slowest; _ended
    # (all calls), _progress (set when one ends) and _stopped.

    def __init__(
        self, tenant: TenantId, work: Callable[[TenantId], Awaitable[object]], callers: int, patience: float
    ) -> None:
        self._patience = patience
        self.phase = BEFORE
        self.done: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.slowest = 0.0
        self._ended: Counter[str] = Counter()
        self._progress = asyncio.Event()
        self._stopped = False
        self._tasks = [asyncio.create_task(self._call(tenant, work)) for _ in range(callers)]

    async def more(self, calls: int) -> None:
        """Wait until so many have begun and ended in this phase, well or not."""
        try:
            async with asyncio.timeout(self._patience):
                while self._ended[self.phase] < calls:
                    self._progress.clear()
                    await self._progress.wait()
        except TimeoutError:
            why = f"{calls} calls did not end within {self._patience:g} s ({self.phase}):"
            raise MoveNoticed(why, self.done, self.errors) from None

    async def stop(self) -> None:
        """Let nobody call any more."""
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _call(self, tenant: TenantId, work: Callable[[TenantId], Awaitable[object]]) -> None:
        while True:
            phase, began = self.phase, perf_counter()
            try:
                await work(tenant)
                self.done[phase] += 1
            except (Exception, asyncio.CancelledError) as error:
                if isinstance(error, asyncio.CancelledError) and self._stopped:
                    raise
                self.errors[f"{phase}: {type(error).__name__}: {error}"] += 1
            self.slowest = max(self.slowest, perf_counter() - began)
            self._ended[phase] += 1
            self._progress.set()
            await asyncio.sleep(0)  # work that awaits nothing lets the others be
