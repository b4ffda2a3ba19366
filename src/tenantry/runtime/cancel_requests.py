"""Cancel requests that are left to end by themselves.

A cancel request is a connection of its own, which the server closes when it has taken the request. asyncpg closes
it early where the cancelled connection is closed meanwhile. PgBouncer up to 1.18 ends its whole process then, with
"bad client state: 0" (its issue 801), and with it every client's connection. So a request is never cut short: it
goes on in the background until the other side has closed it, or for `LONGEST` where nobody answers.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

#: Seconds after which a request that nobody has taken is given up.
LONGEST: Final = 10.0

_ending: set[asyncio.Future[Any]] = set()


def let_end(request: asyncio.Future[Any]) -> None:
    """Leave a request that is under way to itself. Its outcome is nobody's concern any more."""
    if request.done() or request in _ending:
        return
    _ending.add(request)
    late = request.get_loop().call_later(LONGEST, request.cancel)

    def ended(done: asyncio.Future[Any]) -> None:
        late.cancel()
        _ending.discard(done)
        if not done.cancelled():
            done.exception()  # looked at, so that asyncio does not log it

    request.add_done_callback(ended)
