"""Sessions that are used again, instead of a new one for each use."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from typing import Final, NamedTuple

from tenantry.move.session import Connection, connect, lender, newer_settings
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


class _Idle(NamedTuple):
    connection: Connection
    since: float
    """Of the monotonic clock."""


class KeptSessions:
    """Lends sessions, one user at a time, and keeps them for the next user while somebody says `kept`.

    A session is reset, and so asked whether it is alive, before it is lent again. If it is not, a new one is
    opened: so a user meets what it would meet with a session of its own, and a statement is never sent twice. One
    whose user failed is not lent again.
    """

    # Mutable state: the sessions that nobody uses, by the DSNs of their databases, and how many say `kept` now.

    def __init__(self) -> None:
        self._idle: dict[str, list[_Idle]] = {}
        self._keepers = 0

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Keep sessions inside the body, those of `session.session` too; may be nested, and used by several tasks
        at once."""
        self._keepers += 1
        token = lender.set(self.session)
        try:
            yield
        finally:
            lender.reset(token)
            self._keepers -= 1
            if not self._keepers:
                for sessions in self._idle.values():
                    for one in sessions:
                        one.connection.terminate()
                self._idle.clear()

    @contextlib.asynccontextmanager
    async def session(self, dsn: str, purpose: str) -> AsyncIterator[Connection]:
        """A session that is nobody else's inside the body, outside a transaction at its beginning and end.

        Args:
            purpose: what the server shows as the session's application.

        Raises:
            OSError, asyncpg.PostgresError, ...: one of `TRANSIENT`; the database is away.
        """
        connection = await self._living(dsn, purpose) or await connect(dsn, purpose)
        clean = False
        try:
            yield connection
            clean = True
        finally:
            idle = self._idle.setdefault(dsn, [])
            usable = clean and not connection.is_closed() and not connection.is_in_transaction()
            if usable and self._keepers and len(idle) < _IDLE_MOST:
                idle.append(_Idle(connection, time.monotonic()))
            else:
                connection.terminate()

    async def _living(self, dsn: str, purpose: str) -> Connection | None:
        """A kept session that answers, taken out of the list; None: there is none."""
        idle = self._idle.get(dsn, [])
        while idle:
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
