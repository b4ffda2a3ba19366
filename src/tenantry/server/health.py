"""Asks whether the control database answers, and how long its changes take to arrive.

The lag is measured, not presumed: a notification is sent on the path that changes are written by and received on
the path that routers listen on, on a channel of its own so that no router wakes.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass
from typing import Any, Final
from uuid import uuid4

import asyncpg

from tenantry.config import Config
from tenantry.directory import Store
from tenantry.runtime.connection_errors import ANY_FAILURE

CHANNEL: Final = "tenantry_health"
#: Seconds that a notification may take before it counts as lost.
LOST: Final = 2.0


@dataclass(frozen=True, slots=True)
class Health:
    """The answer of /healthz."""

    ok: bool
    """The control database answers."""
    control: str
    """"up", or why not."""
    directory_lag_seconds: float | None
    """From a change to its notification; None: none arrives, and routers see changes by polling."""
    poll_seconds: float
    """How often they poll."""

    def as_json(self) -> dict[str, Any]:
        """The answer's body."""
        return asdict(self)


async def examine(store: Store, config: Config) -> Health:
    """Ask now. Never raises for what is down."""
    poll = config.control.poll
    try:
        pool = await store.pool()
        await pool.fetchval("SELECT 1")
    except ANY_FAILURE as error:
        return Health(False, type(error).__name__, None, poll)
    return Health(True, "up", await _lag(pool, config), poll)


async def _lag(pool: Any, config: Config) -> float | None:
    token = uuid4().hex
    arrived = asyncio.Event()

    def heard(_connection: object, _pid: int, _channel: str, payload: object) -> None:
        if payload == token:
            arrived.set()

    try:
        listener = await asyncpg.connect(
            config.control.listen_dsn,
            timeout=config.router.connect_timeout,
            statement_cache_size=0,
            server_settings={"application_name": "tenantry health"},
        )
    except ANY_FAILURE:
        return None
    try:
        await listener.add_listener(CHANNEL, heard)
        started = time.perf_counter()
        await pool.execute("SELECT pg_notify($1, $2)", CHANNEL, token)
        async with asyncio.timeout(LOST):
            await arrived.wait()
        return round(time.perf_counter() - started, 6)
    except ANY_FAILURE:
        return None
    finally:
        listener.terminate()
