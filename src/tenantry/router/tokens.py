"""Sync tokens at the router: issued, verified, revoked.

A verdict is half a second old at most: after that the token is read again, many in one query, so whatever is
revoked anywhere is refused everywhere within a second, however notifications fare and behind any pooler. While
the control database does not answer, tokens that were good a minute ago at most stay good.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final, NamedTuple

from tenantry.directory import Store
from tenantry.directory.tokens import USUAL_DAYS, IssuedToken, StoredToken, SyncToken, id_of, split
from tenantry.errors import (
    DatabaseUnavailable,
    Forbidden,
    TenantRemoved,
    TooManyFailures,
    Unauthenticated,
    UnknownTenant,
)
from tenantry.ids import IdType, TenantId
from tenantry.router.failure_limit import FailureLimit
from tenantry.runtime.connection_errors import ANY_FAILURE
from tenantry.runtime.periodic import Periodic

#: Seconds for which a token that was read counts as it was.
FRESH: Final = 0.5
#: Seconds that a caller waits for the control database: with a token that was good a while ago, and with one of
#: which nothing is known; for which tokens stay as they were while it is away; for which it is left alone then.
PATIENCE: Final = 1.0
LONGEST: Final = 5.0
GRACE: Final = 60.0
AWAY: Final = 1.0
#: Tokens asked for in one query, and remembered.
BATCH: Final = 500
KEPT: Final = 20_000
#: Seconds between two records of which tokens are in use.
USES: Final = 5.0

#: Characters of a source that count: it may be a text of the client's.
_SOURCE: Final = 100

#: Who an application's own calls are, for the record.
_SERVICE: Final = "service"

logger = logging.getLogger("tenantry")


class VerifiedToken(NamedTuple):
    """Who shows a token, and what it may do."""

    id: str
    tenant: TenantId
    scopes: tuple[str, ...]
    label: str | None

    def check(self, scope: str) -> None:
        """See that the token may do this.

        Raises:
            Forbidden: it does not have the scope.
        """
        if scope not in self.scopes:
            raise Forbidden("scope", f"sync token {self.id} does not have the scope {scope!r}")


class _Known(NamedTuple):
    """A token as it was read."""

    stored: StoredToken
    read_at: float
    """Loop time, before it was asked for."""

    def is_over(self, now: float) -> bool:
        left = self.stored.seconds_left
        return left is not None and now - self.read_at >= left


class RouterTokens:
    """`router.tokens`.

    Raises (every method): RouterClosed, WrongContext; RouterPinned for other tenants' tokens.
    """

    # Mutable state: _known (by id, the longest known first), _asked (id -> what all its callers wait for),
    # _loader, _revoked (how often something was revoked here), _away_until (loop time), _used (ids whose use is
    # not recorded yet), _uses (records it; started at the first).

    def __init__(
        self,
        store: Store,
        ids: IdType,
        served: Callable[[Any], TenantId],
        check_usable: Callable[[], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Args:
        served: checks a tenant's id, and that the router serves it.
        check_usable: raises where the router can't be used.
        """
        self._store = store
        self._ids = ids
        self._served = served
        self._check_usable = check_usable
        self._loop = loop
        self._limit = FailureLimit()
        self._known: dict[str, _Known] = {}
        self._asked: dict[str, asyncio.Future[_Known | None]] = {}
        self._loader: asyncio.Task[None] | None = None
        self._revoked = 0
        self._away_until = float("-inf")
        self._used: dict[str, None] = {}
        self._uses = Periodic(self._record_uses, USES, _not_recorded, name="tenantry token uses", jitter=0.2)

    # -- for services ------------------------------------------------------------------------------

    async def issue(
        self,
        tenant: TenantId,
        *,
        scope: str | Sequence[str] = (),
        expires: timedelta | datetime | None = timedelta(days=USUAL_DAYS),
        label: str | None = None,
        actor: str = _SERVICE,
    ) -> IssuedToken:
        """Make a token for a device of the tenant. `.text` is what the device keeps, and can't be read again.

        Args:
            scope: what it may do, in words of the product's own, such as "orders:read"; several as a list.
            expires: a `timedelta` from now, or a `datetime` with a zone; None: never.
            label: whose it is, for people.
            actor: who issues it, for the record.

        Raises:
            InvalidTenantId, UnknownTenant, TenantRemoved: nobody to issue it for.
            ConfigError: a scope, the label or the expiry can't be used.
            OperationRefused: the tenant has too many that are good.
            DatabaseUnavailable: the control database doesn't answer.
        """
        self._check_usable()
        text = str(self._served(tenant))
        issued = await self._store.tokens.issue(text, scopes=scope, expires=expires, label=label, actor=actor)
        if issued is None:
            raise await unknown(self._store, text)
        return issued

    async def verify(self, token: str, *, scope: str | None = None, source: str | None = None) -> VerifiedToken:
        """Whose token this is.

        Args:
            scope: what it is wanted for; None: whatever it may do.
            source: where it came from, such as the client's address: who sends many tokens that are none is made
                to wait, and tokens that are known to be good are not. None: nobody is.

        Raises:
            Unauthenticated: it is no token, or expired, or revoked. One answer for strangers: 401.
            Forbidden: it does not have the scope: 403.
            TooManyFailures: too many of this source's were none: 429.
            DatabaseUnavailable: it can't be told: 503.
        """
        self._check_usable()
        found = split(token)
        if found is None:
            raise self._failed(source, "malformed", "this is no sync token")
        name, secret = found
        known = self._known.get(name)
        if known is None or self._loop.time() - known.read_at > FRESH:
            if known is None:
                self._check_limit(source)
            known = await self._read(name, known)
        if known is None or not known.stored.fits(secret):
            raise self._failed(source, "invalid", f"there is no such sync token ({name})")
        row = known.stored.token
        if row.revoked_at is not None:
            raise Unauthenticated("revoked", f"sync token {name} of tenant {row.tenant} was revoked")
        if known.is_over(self._loop.time()):
            raise Unauthenticated("expired", f"sync token {name} of tenant {row.tenant} has expired")
        verified = VerifiedToken(name, self._served(self._ids.parse(row.tenant)), row.scopes, row.label)
        if scope is not None:
            verified.check(scope)
        self._used[name] = None
        self._uses.start()
        return verified

    async def revoke(
        self, tenant: TenantId, token: str, *, reason: str | None = None, actor: str = _SERVICE
    ) -> bool:
        """Revoke a token of the tenant: here at once, in every router within a second. Repeatable.

        Args:
            token: its id, or the token itself.

        Returns:
            False: the tenant has no such token that was good; another's is not touched.

        Raises: as `issue`.
        """
        self._check_usable()
        text, name = str(self._served(tenant)), id_of(token)
        try:
            return bool(await self._store.tokens.revoke([name], text, actor=actor, reason=reason))
        finally:
            self._revoked += 1
            self._known.pop(name, None)

    async def list(self, tenant: TenantId, *, past: bool = False) -> list[SyncToken]:
        """The tenant's tokens, the oldest first, without their secrets.

        Args:
            past: expired and revoked ones too, for 90 days.

        Raises: as `issue`.
        """
        self._check_usable()
        return [one async for one in self._store.tokens.rows(str(self._served(tenant)), past=past)]

    # -- failures ----------------------------------------------------------------------------------

    def _check_limit(self, source: str | None) -> None:
        if source is not None and (seconds := self._limit.wait(source[:_SOURCE], self._loop.time())) > 0:
            raise TooManyFailures(seconds)

    def _failed(self, source: str | None, reason: str, why: str) -> Exception:
        self._check_limit(source)
        if source is not None:
            self._limit.failed(source[:_SOURCE], self._loop.time())
        return Unauthenticated(reason, why)

    # -- reading -----------------------------------------------------------------------------------

    async def _read(self, name: str, known: _Known | None) -> _Known | None:
        """The token as the control database has it, or, while that is away, as it was a minute ago at most."""
        now = self._loop.time()
        stale = known if known is not None and now - known.read_at <= GRACE else None
        if stale is not None and now < self._away_until:
            return stale
        try:
            async with asyncio.timeout(LONGEST if stale is None else PATIENCE):
                return await asyncio.shield(self._read_soon(name))
        except (TimeoutError, DatabaseUnavailable) as error:
            if stale is None:
                if isinstance(error, TimeoutError):
                    raise DatabaseUnavailable("control", "no answer in time") from error
                raise
            self._away_until = self._loop.time() + AWAY
            return stale

    def _read_soon(self, name: str) -> asyncio.Future[_Known | None]:
        future = self._asked.get(name)
        if future is None:
            future = self._asked[name] = self._loop.create_future()
            if self._loader is None or self._loader.done():
                self._loader = self._loop.create_task(self._load(), name="tenantry tokens")
        return future

    async def _load(self) -> None:
        """Read what is asked for, a batch at a time. Who asks while a batch is read waits for the next one."""
        while self._asked:
            asked = {name: self._asked.pop(name) for name in list(islice(self._asked, BATCH))}
            try:
                while True:
                    read_at, revoked = self._loop.time(), self._revoked
                    found = await self._store.tokens.find(list(asked))
                    if revoked == self._revoked:
                        break  # else it may have been read before something was revoked here
            except BaseException as error:
                failure = error if isinstance(error, Exception) else DatabaseUnavailable("control", "closing")
                for future in asked.values():
                    _fail(future, failure)
                if not isinstance(error, Exception):
                    raise
                continue
            for name, future in asked.items():
                stored = found.get(name)
                known = None if stored is None else _Known(stored, read_at)
                self._remember(name, known)
                if not future.done():
                    future.set_result(known)

    def _remember(self, name: str, known: _Known | None) -> None:
        self._known.pop(name, None)
        if known is None:
            return
        if len(self._known) >= KEPT:
            del self._known[next(iter(self._known))]
        self._known[name] = known

    # -- uses, and the end -------------------------------------------------------------------------

    async def _record_uses(self) -> None:
        used, self._used = self._used, {}
        if not used:
            return
        try:
            await self._store.tokens.touch(list(used))
        except BaseException:
            self._used = {**used, **self._used}
            raise

    async def close(self) -> None:
        """Record what was used, and fail who waits. Before the store is closed; idempotent."""
        await self._uses.close()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._record_uses()
        except ANY_FAILURE as error:
            _not_recorded(error, 1)
        self._used.clear()
        if self._loader is not None:
            self._loader.cancel()
            await asyncio.wait([self._loader])
        asked, self._asked = self._asked, {}
        for future in asked.values():
            _fail(future, DatabaseUnavailable("control", "closing"))


async def unknown(store: Store, tenant: str) -> UnknownTenant:
    """Why there is nobody of that id to make a token for."""
    return TenantRemoved(tenant) if await store.tenants([tenant], removed=True) else UnknownTenant(tenant)


def _fail(future: asyncio.Future[_Known | None], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # nobody may be waiting any more; that is no bug


def _not_recorded(error: Exception, failures: int) -> None:
    if failures == 1:
        logger.warning("when sync tokens were last used is not recorded: %s", type(error).__name__)
