"""Where callers wait for a fenced tenant: outside the pool, so that it can't eat the pool meanwhile."""

from __future__ import annotations

import asyncio
from typing import Final

from tenantry.ids import TenantId

#: Seconds between two attempts of the one caller that probes: first, and at most. All who wait see the last wait
#: added to the fence's own tens of milliseconds; an attempt costs the server one refused bind.
FIRST, LONGEST = 0.005, 0.02

LEADER: Final = "leader"
FOLLOWER: Final = "follower"


class Waiters:
    """The callers parked for one tenant."""

    __slots__ = ("pause", "released")

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.pause = FIRST


class FenceWait:
    """One caller per fenced tenant tries again at short intervals; the others wait for its word.

    A fence that is given up changes nothing in the directory, so somebody has to try. The leader's turn
    always ends with `leave`, whatever becomes of it, and then the next of those still parked probes.
    """

    # Mutable state: _waiters, by tenant, while somebody probes.

    def __init__(self) -> None:
        self._waiters: dict[TenantId, Waiters] = {}

    def __len__(self) -> int:
        return len(self._waiters)

    async def wait(self, tenant: TenantId, role: str | None, deadline: float) -> str | None:
        """Wait until it is worth trying again.

        Args:
            role: what this call returned to the same caller before; None at first.
            deadline: loop time in seconds.

        Returns:
            LEADER, and the caller must call `leave` in the end; FOLLOWER; or None: the deadline has passed.
        """
        loop = asyncio.get_running_loop()
        waiters = self._waiters.get(tenant)
        if waiters is None:
            waiters = self._waiters[tenant] = Waiters()
            role = LEADER
        elif role != LEADER:
            role = FOLLOWER
        if role == LEADER:
            waiters.released.clear()  # it may be set by a change that did not help
        try:
            left = deadline - loop.time()
            if role == LEADER:
                left, waiters.pause = min(left, waiters.pause), min(LONGEST, waiters.pause * 2)
            async with asyncio.timeout(max(left, 0.0)):
                await waiters.released.wait()
        except TimeoutError:
            pass
        except BaseException:
            if role == LEADER:
                self.leave(tenant)
            raise
        if loop.time() >= deadline:
            if role == LEADER:
                self.leave(tenant)
            return None
        return role

    def leave(self, tenant: TenantId) -> None:
        """The leader is through: everybody may try."""
        waiters = self._waiters.pop(tenant, None)
        if waiters is not None:
            waiters.released.set()

    def wake(self, tenant: TenantId | None) -> None:
        """The directory changed for this tenant (None: for any): its callers may try now."""
        groups = self._waiters.values() if tenant is None else [self._waiters.get(tenant)]
        for waiters in groups:
            if waiters is not None:
                waiters.released.set()
