"""Sessions that are used again, instead of a new one for each use.

A session is reset, and so asked whether it is alive, before it is lent again. If it is not, a new one is opened:
so a user meets what it would meet with a session of its own, and a statement is never sent twice. One whose user
failed is not lent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Final, NamedTuple

from tenantry.move.session import Connection, connect, lender, lender_here, newer_settings
from tenantry.runtime.connection_errors import DATABASE_ERRORS
from tenantry.runtime.sqltext import literal

#: Seconds within which a session that lay idle has to answer; one that does not is lost, and another is opened.
_ANSWER_SECONDS: Final = 5.0
#: Seconds after which an idle session is not used again: something on the way may have forgotten it.
_IDLE_SECONDS: Final = 30.0
#: Idle sessions with one database, at most.
_IDLE_MOST: Final = 2
#: What DISCARD ALL is made of (its page in the documentation), which itself must stand alone: this is one message.
_DISCARD_ALL: Final = (
    "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; DEALLOCATE ALL; UNLISTEN *; "
    "SELECT pg_advisory_unlock_all(); DISCARD PLANS; DISCARD TEMP; DISCARD SEQUENCES"
)


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Keep sessions inside the body, those of `session.session` too, for its next use of one.

    They are the body's alone, with the tasks that it starts: two at once share none, on whatever loops they run.
    Nested, the outermost keeps. Needs a running event loop.
    """
    if lender_here() is not None:
        yield
        return
    store = _Store()
    token = lender.set(store)
    try:
        yield
    finally:
        lender.reset(token)
        store.close()


def lent(dsn: str, purpose: str) -> AbstractAsyncContextManager[Connection]:
    """A session that is nobody else's inside the body, outside a transaction at its beginning and end.

    Args:
        purpose: what the server shows as the session's application.

    Raises (on entering):
        OSError, asyncpg.PostgresError, ...: one of `TRANSIENT`; the database is away.
    """
    store = lender_here()
    if store is None:
        store = _Store()
        store.close()
    return store.session(dsn, purpose)


class _Idle(NamedTuple):
    connection: Connection
    since: float
    """Of the monotonic clock."""


class _Store:
    """The sessions of one `kept`."""

    # Mutable state: the sessions that nobody uses, by the DSNs of their databases; None once it is closed.

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._idle: dict[str, list[_Idle]] | None = {}

    def close(self) -> None:
        """End the idle sessions; those in use end with their use."""
        sessions, self._idle = self._idle or {}, None
        for one in (each for idle in sessions.values() for each in idle):
            one.connection.terminate()

    @contextlib.asynccontextmanager
    async def session(self, dsn: str, purpose: str) -> AsyncIterator[Connection]:
        """See `lent`."""
        connection = await self._living(dsn, purpose) or await connect(dsn, purpose)
        clean = False
        try:
            yield connection
            clean = True
        finally:
            usable = clean and not connection.is_closed() and not connection.is_in_transaction()
            idle = None if self._idle is None else self._idle.setdefault(dsn, [])
            if usable and idle is not None and len(idle) < _IDLE_MOST:
                idle.append(_Idle(connection, time.monotonic()))
            else:
                connection.terminate()

    async def _living(self, dsn: str, purpose: str) -> Connection | None:
        """A kept session that answers, taken out of the list; None: there is none."""
        while self._idle and (idle := self._idle.get(dsn)):
            connection, since = idle.pop()
            if time.monotonic() - since > _IDLE_SECONDS:
                connection.terminate()
                continue
            renewed = [_DISCARD_ALL, newer_settings(connection.get_server_version().major)]
            renewed.append(f"SET application_name = {literal(f'tenantry move {purpose}'[:63])}")
            answers = False
            try:
                await connection.execute("; ".join(filter(None, renewed)), timeout=_ANSWER_SECONDS)
                answers = True
            except DATABASE_ERRORS:
                continue
            finally:
                if not answers:
                    connection.terminate()
            return connection
        return None
