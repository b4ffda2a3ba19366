"""What a checkout works with: the router's parts, without the router."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from tenantry.directory import Directory
from tenantry.events import Events
from tenantry.router.enrollment import Enrollment
from tenantry.router.fence_wait import FenceWait
from tenantry.router.origin import Origin
from tenantry.router.pools import Pools


@dataclass(frozen=True, slots=True)
class RouterParts:
    """Made once by each router, and shared by all its checkouts."""

    directory: Directory
    pools: Pools
    fence_wait: FenceWait
    enrollment: Enrollment
    events: Events
    origin: Origin
    loop: asyncio.AbstractEventLoop
