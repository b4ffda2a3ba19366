"""What happens in the router, told as frozen values.

The router emits; sinks (metrics, meter, log) subscribe. Nothing here knows a sink. A sink is a plain
function that takes one event, must not block and must not raise; one that raises is dropped with a warning
in the log, because accounting may never break serving.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from tenantry.ids import TenantId

logger = logging.getLogger("tenantry")


class ScopeEnded(NamedTuple):
    """A scope is over, however it ended."""

    tenant: TenantId
    database: str
    outcome: str
    """"commit", "rollback" or "error" (the commit failed or is unknown, or the scope was lost)."""
    busy: float
    """Seconds that statements of this scope were running, as the router saw them."""
    held: float
    """Seconds that the scope held its connection."""
    waited: float
    """Seconds from the caller's request until the scope was open."""
    statements: int
    """Statements that the application sent."""


class CheckoutFailed(NamedTuple):
    """A caller got no scope."""

    tenant: TenantId
    database: str | None
    error: str
    """Name of the error's class."""
    waited: float
    """Seconds."""


class DirectoryLookup(NamedTuple):
    """The directory was asked for a tenant that its cache could not answer for."""

    result: str
    """"loaded", "absent" or "failed"."""


class DirectoryChanged(NamedTuple):
    """Something in the directory changed, and the cache dropped it."""

    tenant: TenantId | None
    """None: everything may have changed."""


class ConnectionOpened(NamedTuple):
    """A pool opened a connection."""

    database: str
    seconds: float
    pipelined: bool
    """Scopes are opened together with their first statements; else that is a flight of its own, because the driver
    is not as expected (the log says how)."""


class ConnectionClosed(NamedTuple):
    """A pool closed a connection, or lost it."""

    database: str
    reason: str
    """"idle", "budget", "broken", "closing", "leftovers" (a scope has changed what is prepared on it) or
    "read-only"."""


class DatabaseDown(NamedTuple):
    """A database refused a connection; the pool leaves it alone for a while."""

    database: str
    error: str
    retry_after: float
    """Seconds."""


class OperatorScopeEnded(NamedTuple):
    """An operator's scope is over."""

    database: str
    reason: str
    seconds: float
    outcome: str
    """"commit", "rollback" or "unknown" (its COMMIT was not answered)."""


Event = (
    ScopeEnded
    | CheckoutFailed
    | DirectoryLookup
    | DirectoryChanged
    | ConnectionOpened
    | ConnectionClosed
    | DatabaseDown
    | OperatorScopeEnded
)
Sink = Callable[[Event], None]


class Events:
    """Hands each event to every sink, in the order of subscription."""

    # Mutable state: _sinks, a tuple replaced as a whole by subscribe and drop.

    def __init__(self, *sinks: Sink) -> None:
        self._sinks = tuple(sinks)

    def subscribe(self, sink: Sink) -> None:
        """Add a sink; it sees the events from now on."""
        self._sinks = (*self._sinks, sink)

    def emit(self, event: Event) -> None:
        """Tell every sink. Never raises."""
        for sink in self._sinks:
            try:
                sink(event)
            except Exception:
                logger.exception("dropping event sink %r: it raised", sink)
                self._sinks = tuple(kept for kept in self._sinks if kept is not sink)
