"""Where callers wait for a fenced tenant: outside the pool, so that it can't eat the pool meanwhile."""

from __future__ import annotations

import asyncio
from typing import Final

from tenantry.tenant import TenantId

#: Seconds between two attempts of the one caller that probes: first, and at most. All who wait see the last wait
#: added to the fence's own tens of milliseconds; an attempt costs the server one refused bind.
FIRST, LONGEST = 0.005, 0.02

PROBER: Final = "prober"
GUEST: Final = "guest"


class Place:
    """The callers parked for one tenant."""

    __slots__ = ("lifted", "pause")

    def __init__(self) -> None:
        self.lifted = asyncio.Event()
        self.pause = FIRST


class Parking:
    """One caller per fenced tenant tries again at short intervals; the others wait for its word.

    A fence that is given up changes nothing in the directory, so somebody has to try. The prober's turn
    always ends with `leave`, whatever becomes of it, and then the next of those still parked probes.
    """

    # Mutable state: _places, by tenant, while somebody probes.

    def __init__(self) -> None:
        self._places: dict[TenantId, Place] = {}

    def __len__(self) -> int:
        return len(self._places)

    async def wait(self, tenant: TenantId, role: str | None, deadline: float) -> str | None:
        """Wait until it is worth trying again.

        Args:
            role: what this call returned to the same caller before; None at first.
            deadline: loop time in seconds.

        Returns:
            PROBER, and the caller must call `leave` in the end; GUEST; or None: the deadline has passed.
        """
        loop = asyncio.get_running_loop()
        place = self._places.get(tenant)
        if place is None:
            place = self._places[tenant] = Place()
            role = PROBER
        elif role != PROBER:
            role = GUEST
        if role == PROBER:
            place.lifted.clear()  # it may be set by a change that did not help
        try:
            left = deadline - loop.time()
            if role == PROBER:
                left, place.pause = min(left, place.pause), min(LONGEST, place.pause * 2)
            async with asyncio.timeout(max(left, 0.0)):
                await place.lifted.wait()
        except TimeoutError:
            pass
        except BaseException:
            if role == PROBER:
                self.leave(tenant)
            raise
        if loop.time() >= deadline:
            if role == PROBER:
                self.leave(tenant)
            return None
        return role

    def leave(self, tenant: TenantId) -> None:
        """The prober is through: everybody may try."""
        place = self._places.pop(tenant, None)
        if place is not None:
            place.lifted.set()

    def wake(self, tenant: TenantId | None) -> None:
        """The directory changed for this tenant (None: for any): its callers may try now."""
        places = self._places.values() if tenant is None else [self._places.get(tenant)]
        for place in places:
            if place is not None:
                place.lifted.set()
