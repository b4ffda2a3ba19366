"""Tells the cache what changes in the control database, within milliseconds when all is well.

A connection of its own LISTENs. Whenever it is made, and slowly in any case, the feed asks for what has
changed since it last asked, so a notification that was lost with its connection, or in a pooler, is caught
up. While the control database is away the cache keeps what it has. A notice makes suspects of entries, nothing
more: see `tenantry.directory.notices`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any, Final

import asyncpg

from tenantry.directory.cache import Directory
from tenantry.directory.notices import NoticeThrottle, read_notice
from tenantry.directory.store import CHANNEL
from tenantry.runtime.fork_safety import ForkSafeConnection
from tenantry.runtime.periodic import Periodic

#: Tenants that are compared or told one by one; where there are more, everything is in doubt.
_COMPARED: Final = 10_000

logger = logging.getLogger("tenantry.directory")


class Feed:
    """Keeps a `Directory` fresh."""

    # Mutable state: _mark (up to where changes are known; None: never asked), listening (set while
    # notifications arrive), _lost (set when the listening connection has gone), _warned, _throttle (notices that
    # wait) and _timer (that lets them through).

    def __init__(
        self,
        directory: Directory,
        dsn: str,
        *,
        poll: float = 30.0,
        timeout: float = 5.0,
        on_databases: Callable[[], None] | None = None,
        dice: random.Random | None = None,
    ) -> None:
        """Args:
        dsn: of the control database, not through a transaction pooler: LISTEN does not work there.
        poll: seconds between the questions that make up for lost notifications.
        timeout: seconds for connecting.
        on_databases: called when the table of databases changes.
        """
        self._directory = directory
        self._dsn = dsn
        self._poll = poll
        self._timeout = timeout
        self._on_databases = on_databases
        self._dice = dice or random.Random()  # noqa: S311  (jitter, not a secret)
        self._listening = Periodic(
            self._listen,
            0.075,
            _not_listening,
            name="tenantry directory feed",
            jitter=1 / 3,
            chance=self._dice.random,
        )
        self._mark: str | None = None
        self._throttle = NoticeThrottle()
        self._timer: asyncio.TimerHandle | None = None
        self._lost = asyncio.Event()
        self._warned = False
        self.listening = asyncio.Event()
        self.backend: int | None = None

    def start(self) -> None:
        """Begin to listen, in the background. Never fails: it keeps trying."""
        self._listening.start()

    async def close(self) -> None:
        """Stop listening. Idempotent."""
        await self._listening.close()
        if self._timer is not None:
            self._timer.cancel()

    async def _listen(self) -> None:
        """Listen until the connection goes away."""
        connection: Any = await asyncpg.connect(
            self._dsn,
            connection_class=ForkSafeConnection,
            timeout=self._timeout,
            statement_cache_size=0,
            server_settings={"application_name": "tenantry directory"},
        )
        self._lost.clear()
        try:
            connection.add_termination_listener(self._on_lost)
            await connection.add_listener(CHANNEL, self._on_notice)
            backend = await connection.fetchval("SELECT pg_backend_pid()")
            self._warn_of_pooler(backend != connection.get_server_pid())
            await self._catch_up()
            self.backend = backend
            self.listening.set()
            while not self._lost.is_set():
                try:
                    async with asyncio.timeout(self._poll):
                        await self._lost.wait()
                except TimeoutError:
                    await self._catch_up()
        finally:
            self.listening.clear()
            connection.terminate()

    async def _catch_up(self) -> None:
        """Ask for what was missed. The first time, compare all that is cached already."""
        directory = self._directory
        if self._mark is None:
            versions = directory.versions(_COMPARED)
            changes = await directory.store.differences(versions or {})
            doubtful = versions is None
        else:
            changes = await directory.store.changes(self._mark)
            restored = int(changes.mark) < int(self._mark)  # from a backup: transactions are numbered anew
            doubtful = restored or len(changes.tenants) > _COMPARED
        if doubtful:
            directory.suspect_all()
        elif changes.tenants:
            directory.suspect(changes.tenants)
        self._mark = changes.mark

    def _on_lost(self, *_: object) -> None:
        self._lost.set()

    def _on_notice(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        notice = read_notice(payload)
        if notice is not None:
            self._throttle.add(notice)
            if self._timer is None:
                self._let_through()

    def _let_through(self) -> None:
        """Act on what is due, and come back for what waits."""
        self._timer = None
        loop = asyncio.get_running_loop()
        notice = self._throttle.take(loop.time())
        if notice.everything:
            self._directory.suspect_all()
        elif notice.tenants:
            self._directory.suspect(notice.tenants)
        if notice.databases and self._on_databases is not None:
            self._on_databases()
        due = self._throttle.due()
        if due is not None:
            self._timer = loop.call_at(due, self._let_through)

    def _warn_of_pooler(self, pooled: bool) -> None:
        if pooled and not self._warned:
            self._warned = True
            logger.warning(
                "the control database is reached through a pooler: notifications may not arrive, and "
                "changes are seen within %.0f s; set control.direct_dsn to a direct address",
                self._poll,
            )


def _not_listening(_error: Exception, failures: int) -> float:
    """Seconds until the next attempt: from 0.15 to 3.75, a third more or less."""
    return 0.75 * min(5.0, 0.1 * 2.0 ** min(failures, 8))
