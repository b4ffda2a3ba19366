"""Sessions with one database that are used again, instead of a new one for each use."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Final

from tenantry.move.session import Connection, connect
from tenantry.runtime.connection_errors import DATABASE_ERRORS

#: Seconds within which a session that lay idle has to answer; one that does not is lost, and another is opened.
_ANSWER_SECONDS: Final = 5.0


class KeptSessions:
    """Lends sessions, one user at a time, and keeps them for the next user while somebody says `kept`.

    A session is asked whether it is alive before it is lent. If it is not, a new one is opened: so a user meets
    what it would meet with a session of its own, and a statement is never sent twice. One whose user failed is not
    lent again.
    """

    # Mutable state: the sessions that nobody uses, and how many say `kept` at this moment.

    def __init__(self, dsn: str, purpose: str) -> None:
        """Args:
        purpose: what the server shows as the sessions' application.
        """
        self._dsn = dsn
        self._purpose = purpose
        self._idle: list[Connection] = []
        self._keepers = 0

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Keep sessions inside the body; may be nested, and used by several tasks at once."""
        self._keepers += 1
        try:
            yield
        finally:
            self._keepers -= 1
            if not self._keepers:
                while self._idle:
                    self._idle.pop().terminate()

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[Connection]:
        """A session that is nobody else's inside the body, outside a transaction at its beginning and end.

        Raises:
            OSError, asyncpg.PostgresError, ...: one of `TRANSIENT`; the database is away.
        """
        connection = await self._living() or await connect(self._dsn, self._purpose)
        clean = False
        try:
            yield connection
            clean = True
        finally:
            if clean and self._keepers and not connection.is_in_transaction():
                self._idle.append(connection)
            else:
                connection.terminate()

    async def _living(self) -> Connection | None:
        """A kept session that answers, taken out of the list; None: there is none."""
        while self._idle:
            connection = self._idle.pop()
            answers = False
            try:
                await connection.execute("SELECT", timeout=_ANSWER_SECONDS)
                answers = True
            except DATABASE_ERRORS:
                continue
            finally:
                if not answers:
                    connection.terminate()
            return connection
        return None
