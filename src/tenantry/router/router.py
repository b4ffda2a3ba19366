"""The router: asked for a tenant's connection, it gives one that is already inside that tenant's scope."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Final, Self, TypeVar

import asyncpg

from tenantry.directory import Directory, Feed
from tenantry.errors import (
    CommitUnknown,
    ConfigError,
    RouterClosed,
    RouterPinned,
    UnsafeRole,
)
from tenantry.events import Events
from tenantry.ids import IdType, Kind, Placement, TenantId, check_terms
from tenantry.residence import Residence, check_word
from tenantry.rooms import Rooms
from tenantry.router import driver, scope
from tenantry.router.all_databases import AllDatabases, visit_all
from tenantry.router.checkout import Checkout
from tenantry.router.claims import encoded
from tenantry.router.connection import ScopedConnection
from tenantry.router.driver import Connection
from tenantry.router.enrollment import Enrollment
from tenantry.router.fence_wait import FenceWait
from tenantry.router.operator import Operators, transaction, writing
from tenantry.router.parts import RouterParts
from tenantry.router.pinned import pinned_to
from tenantry.router.pools import DatabaseSpec, Pools, ProcessLimits
from tenantry.router.tokens import RouterTokens
from tenantry.runtime.durations import seconds

logger = logging.getLogger("tenantry")
T = TypeVar("T")

#: What PostgreSQL means by "try again": the same work may succeed in a new transaction.
TRANSIENT: Final = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)

#: Something that is closed with the router: the ledger, a server.
CloseCallback = Callable[[], Awaitable[None]]

#: Who asks, for policies within the tenant; None: nobody in particular.
Claims = Mapping[str, Any] | None


class TenantRouter:
    """One per process and event loop. Made by `Router.open`.

    All methods raise `RouterClosed` once it is closed, `WrongContext` outside the process, thread and event loop
    that opened it, and before any I/O `InvalidTenantId` for what is not an id of the configured type and
    `RouterPinned` for what a pinned router does not do.
    """

    # Mutable state: _state ("open", "closing", "closed") and _close_callbacks; the rest belongs to the parts.

    def __init__(
        self,
        *,
        ids: IdType,
        directory: Directory,
        feed: Feed | None,
        pools: Pools,
        limits: ProcessLimits,
        events: Events,
        default_database: str | None = None,
        rooms: Rooms | None = None,
        residence_of: Callable[[str], Awaitable[Residence | None]],
        pinned: TenantId | None = None,
        dice: random.Random | None = None,
    ) -> None:
        self.ids = ids
        self.pinned: TenantId | None = None if pinned is None else ids.validate(pinned)
        """The only tenant that is served; None: all are."""
        self._served = ids.validate if pinned is None else pinned_to(pinned, ids)
        self.directory = directory
        self.pools = pools
        self.events = events
        self.fence_wait = FenceWait()
        self._enrollment = Enrollment(directory, pools, limits, default_database, rooms, residence_of)
        self._operators = Operators(pools, directory.store, events, connect_timeout=limits.connect_timeout)
        self.loop = asyncio.get_running_loop()
        self._feed = feed
        self._limits = limits
        self._dice = dice or random.Random()  # noqa: S311  (jitter, not a secret)
        self._state = "open"
        self._close_callbacks: list[CloseCallback] = []
        self._parts = RouterParts(
            directory, pools, self.fence_wait, self._enrollment, events, pools.origin, self.loop
        )
        directory.watch(self.fence_wait.wake)
        self._tokens = RouterTokens(directory.store, ids, self._served, self._check_usable, self.loop)

    # -- for services ------------------------------------------------------------------------------

    def tenant(
        self,
        tenant_id: TenantId,
        *,
        readonly: bool = False,
        isolation: str | None = None,
        deferrable: bool = False,
        timeout: float | None = None,
        claims: Claims = None,
    ) -> Checkout:
        """A scope: `async with router.tenant(tenant_id) as conn:`.

        `conn` is an asyncpg connection inside a transaction that sees and writes this tenant's rows only.
        The transaction commits when the block ends, and rolls back when it ends by an exception.

        Args:
            readonly, isolation, deferrable: of the transaction, as in `asyncpg.Connection.transaction`.
            timeout: seconds until the scope is open, all told: queueing, connecting, re-routing. None: the
                configured router.timeout, which does not cover a server that stops answering at that very moment.
                What runs inside the scope is not limited by it.
            claims: who asks, for policies that read `request.jwt.claims` (`auth.jwt()`): a mapping that is JSON,
                of 8 KiB at most. They hold for this transaction, and never widen what the tenant may see.

        Raises (at once): InvalidTenantId, InvalidClaims, RouterPinned.
        Raises (on entering, or by the first statement, with which the scope is opened): UnknownTenant,
            TenantSuspended, TenantBusy, TenantMoving, NestedScope, DatabaseUnavailable,
            UnsafeRole, RouterClosed.
        Raises (on leaving): ScopeLost, or what asyncpg raises when the COMMIT fails.
        """
        return self._checkout(
            tenant_id, readonly, isolation, deferrable, timeout, claims, prompt=timeout is not None
        )

    def _checkout(
        self,
        tenant_id: TenantId,
        readonly: bool = False,
        isolation: str | None = None,
        deferrable: bool = False,
        timeout: float | None = None,
        claims: Claims = None,
        *,
        prompt: bool,
    ) -> Checkout:
        self._check_usable()
        mode = scope.PLAIN
        if readonly or isolation is not None or deferrable or claims is not None:
            text = None if claims is None else encoded(claims)
            mode = scope.Mode(readonly, isolation, deferrable, text)
            mode.begin()
        return Checkout(
            self._parts,
            self._served(tenant_id),
            mode,
            self._limits.timeout if timeout is None else seconds("timeout", timeout),
            prompt=prompt,
        )

    async def fetch(
        self, tenant_id: TenantId, query: str, *args: Any, timeout: float | None = None, claims: Claims = None
    ) -> list[asyncpg.Record]:
        """One query in a scope of its own: its rows. `timeout` and `claims` as in `tenant`.

        This and its kin send the query once more where it failed because the schema had changed, the server ended
        the session or had become read-only: nothing is committed then. Where the connection broke before the
        COMMIT was answered they raise CommitUnknown.
        """
        rows: list[asyncpg.Record] = await self._once("fetch", tenant_id, query, args, timeout, claims)
        return rows

    async def fetchrow(
        self, tenant_id: TenantId, query: str, *args: Any, timeout: float | None = None, claims: Claims = None
    ) -> asyncpg.Record | None:
        """One query in a scope of its own: its first row, or None."""
        row: asyncpg.Record | None = await self._once("fetchrow", tenant_id, query, args, timeout, claims)
        return row

    async def fetchval(
        self, tenant_id: TenantId, query: str, *args: Any, timeout: float | None = None, claims: Claims = None
    ) -> Any:
        """One query in a scope of its own: the first value of its first row, or None."""
        return await self._once("fetchval", tenant_id, query, args, timeout, claims)

    async def execute(
        self, tenant_id: TenantId, query: str, *args: Any, timeout: float | None = None, claims: Claims = None
    ) -> str:
        """One command in a scope of its own, committed: its status, as "INSERT 0 1"."""
        return str(await self._once("execute", tenant_id, query, args, timeout, claims))

    async def _once(
        self,
        method: str,
        tenant_id: TenantId,
        query: str,
        args: tuple[Any, ...],
        timeout: float | None,
        claims: Claims,
    ) -> Any:
        checkout = self.tenant(tenant_id, timeout=timeout, claims=claims)
        if args or method != "execute":  # else it may hold several statements
            checkout.single = query
        try:
            async with checkout as connection:
                return await getattr(connection, method)(query, *args)
        except Exception as error:
            if not checkout.worth_repeating or _may_commit(query, args) or isinstance(error, CommitUnknown):
                raise
        async with self.tenant(tenant_id, timeout=timeout, claims=claims) as connection:
            return await getattr(connection, method)(query, *args)

    async def run(
        self,
        tenant_id: TenantId,
        work: Callable[[ScopedConnection], Awaitable[T]],
        *,
        readonly: bool = False,
        isolation: str | None = None,
        deferrable: bool = False,
        timeout: float | None = None,
        claims: Claims = None,
        attempts: int = 10,
    ) -> T:
        """Run `work(conn)` in a scope, and again when PostgreSQL says "try again".

        That is a serialization failure (40001) or a deadlock (40P01), in the work or at COMMIT; or the schema had
        changed, the connection broke before COMMIT, or its server had become read-only. Nothing was written then.
        The work may run several times, so it must do nothing outside the database that can't
        be repeated. An error whose outcome is unknown, like a lost connection, is never retried.

        Args:
            timeout: seconds for entering the scope, over all attempts.
            claims: as in `tenant`.
            attempts: at most so many runs; then PostgreSQL's last error is raised.
        """
        loop = self.loop
        deadline = loop.time() + (self._limits.timeout if timeout is None else seconds("timeout", timeout))
        for attempt in range(1, attempts + 1):
            left = max(0.0, deadline - loop.time())
            checkout = self._checkout(
                tenant_id, readonly, isolation, deferrable, left, claims, prompt=timeout is not None
            )
            try:
                async with checkout as connection:
                    return await work(connection)
            except Exception as error:
                again = isinstance(error, TRANSIENT) or checkout.worth_repeating
                again = again and not isinstance(error, CommitUnknown)
                if not again or attempt == attempts or loop.time() >= deadline:
                    raise
                await asyncio.sleep(self._dice.random() * 0.002 * 2.0 ** min(attempt, 7))
        raise ValueError("attempts must be at least 1")

    def _check_usable(self) -> None:
        self.pools.origin.check()
        if self._state != "open":
            raise RouterClosed

    def _check_unpinned(self) -> None:
        if self.pinned is not None:
            raise RouterPinned(self.pinned, "an operator's scope, which sees every tenant")

    # -- the directory -----------------------------------------------------------------------------

    async def placement(self, tenant_id: TenantId) -> Placement:
        """Where the tenant lives, from the cache if it is there."""
        self._check_usable()
        tenant = self._served(tenant_id)
        entry = self.directory.cached(tenant)
        if entry is None:
            entry = await self.directory.lookup(tenant)
        return entry.profile.placement

    async def tenants(self, *, database: str | None = None) -> AsyncIterator[TenantId]:
        """Every tenant's id, suspended ones left out, for jobs that visit all: read in pages.

        Of a pinned router its own tenant, if it is active.
        """
        self._check_usable()
        if self.pinned is not None:
            rows = await self.directory.store.tenants([str(self.pinned)])
            for row in rows.values():
                if row.state == "active" and database in {None, row.database}:
                    yield self.pinned
            return
        async for row in self.directory.store.all_tenants(database=database):
            self._check_usable()
            if row.state == "active":
                yield self.ids.parse(row.id)

    async def add_tenant(
        self,
        tenant_id: TenantId,
        *,
        plan: str | None = None,
        database: str | None = None,
        weight: float = 1.0,
        limits: dict[str, int] | None = None,
        region: str | None = None,
        tier: str | None = None,
    ) -> Placement:
        """Sign a tenant up; it can be served when this returns. Adding it again changes nothing.

        Args:
            plan: a word of the product's own.
            database: where it shall live; None: as tenancy.placement chooses, or tenancy.default_database, or else
                the only shared database.
            weight: its part of a busy pool relative to others; 0.01 to 100.
            limits: "connections", "queue" and "statement_timeout" (milliseconds), all optional.
            region: it lives only in databases of this region; None: in any.
            tier: likewise.

        Raises:
            NoRoom: no database that `tenancy.placement` may choose has room for it and is of its region and tier.
            WrongHome: the database where it would live is of another region or tier; nothing was done.
            ValueError: the terms can't be kept.
        """
        self._check_usable()
        tenant = self._served(tenant_id)
        check_terms(weight, limits)
        residence = Residence(*(None if one is None else check_word(one) for one in (region, tier)))
        entry = await self._enrollment.add(
            tenant, plan=plan, database=database, weight=weight, limits=limits, residence=residence
        )
        return entry.profile.placement

    @property
    def tokens(self) -> RouterTokens:
        """Sync tokens, which devices show instead of a user's sign-in."""
        return self._tokens

    # -- operators ---------------------------------------------------------------------------------

    @asynccontextmanager
    async def operator(
        self,
        *,
        reason: str,
        database: str | None = None,
        actor: str | None = None,
        readonly: bool = False,
    ) -> AsyncIterator[Connection]:
        """A transaction of the operator's role, which may bypass row-level security: for migrations, bulk
        jobs and reports over all tenants. Who, when, why and how long is written to `tenantry.event`, before
        the connection is handed out.

        Args:
            reason: why; must not be blank.
            database: which one; None: the only shared database.
            actor: who; None: the operating system's user and host.
            readonly: as in PostgreSQL's READ ONLY. Else no tenant is flipped as long as the scope is open: a move
                waits for it.

        Raises:
            ValueError: no reason.
            ConfigError: no operator_dsn is configured for the database.
            DatabaseUnavailable: the database, or the control database that keeps the record, is down.
            RouterPinned: this router serves one tenant.
        """
        self._check_usable()
        self._check_unpinned()
        if not reason.strip():
            raise ValueError("an operator's scope needs a reason: it is recorded")
        spec = await self.pools.spec(database or self._enrollment.home_for_new())
        begin = partial(transaction, readonly=True) if readonly else partial(writing, self.directory.store.dsn)
        async with self._operators.scope(spec, reason=reason, actor=actor, begin=begin) as connection:
            yield connection

    def operators(
        self, *, reason: str, actor: str | None = None, readonly: bool = False
    ) -> AbstractAsyncContextManager[AllDatabases]:
        """Operators' transactions on every database, one after the other, for reports and jobs over all tenants.

            async with router.operators(reason="invoices", readonly=True) as databases:
                async for name, conn in databases:
                    rows += await conn.fetch("SELECT tenant_id, sum(amount) FROM invoices GROUP BY 1")

        Each row of each tenant is seen exactly once: what a move has left where a tenant no longer lives, or has
        brought where it doesn't live yet, is left out, and no tenant is flipped meanwhile. See `AllDatabases`.

        Args:
            reason, actor: as in `operator`; one record for each database.
            readonly: PostgreSQL's READ ONLY, on one snapshot for each database.

        Raises (also on the way): as `operator`; TenantMoving: a tenant is between two homes, and stays so;
            DatabaseUnavailable also where a move has begun to bring a tenant into the database meanwhile.
        """
        self._check_usable()
        self._check_unpinned()
        if not reason.strip():
            raise ValueError("an operator's scope needs a reason: it is recorded")
        return visit_all(self, self._operators, reason=reason, actor=actor, readonly=readonly)

    # -- life --------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether it takes requests: from `Router.open` until `close` is called."""
        return self._state == "open"

    async def start(self) -> None:
        """Listen for changes, and look at the role of every shared database that answers.

        Raises:
            UnsafeRole: a shared database would be served through a role that bypasses RLS.
            ConfigError: it is hardened and the configuration isn't, or the reverse.
        """
        self.pools.origin.check()
        if self._feed is not None:
            self._feed.start()
        shared = [s for s in self.pools.known().values() if s.kind is Kind.SHARED and s.dsn]
        for spec, result in zip(
            shared,
            await asyncio.gather(*(self._look_at(spec) for spec in shared), return_exceptions=True),
            strict=True,
        ):
            if isinstance(result, UnsafeRole | ConfigError):
                raise result
            if isinstance(result, BaseException):
                logger.warning("database %s does not answer yet: %s", spec.name, type(result).__name__)

    async def _look_at(self, spec: DatabaseSpec) -> None:
        async with self.pools.permit(spec.name):
            connection, _ = await self.pools.dial(spec)
            await driver.close(connection)

    def add_close_callback(self, callback: CloseCallback) -> None:
        """Await `callback()` when the router closes, after the last scope has ended."""
        self._close_callbacks.append(callback)

    async def close(self, *, grace: float = 10.0) -> None:
        """Refuse new work, fail who waits, let scopes end, close all connections. Idempotent.

        Args:
            grace: seconds that scopes in progress get; then what they run is cancelled and they are rolled
                back by PostgreSQL.
        """
        self.pools.origin.check()
        grace = seconds("grace", grace)
        if self._state == "closed":
            return
        self._state = "closing"  # a close that was itself cancelled is finished by the next one
        cut = await self.pools.close(grace)
        for name, scopes in cut.items():
            logger.warning("closing: %d scopes on %s did not end within %s s, cut", scopes, name, grace)
        while self._close_callbacks:
            await self._close_callbacks.pop(0)()
        if self._feed is not None:
            await self._feed.close()
        await self._tokens.close()
        await self.directory.close()
        await self.directory.store.close()
        self._state = "closed"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        pools = ", ".join(repr(pool) for pool in self.pools.open_pools().values())
        return f"<Router {self._state}, {len(self.directory)} tenants cached, {pools or 'no pools'}>"


def _may_commit(query: str, args: tuple[Any, ...]) -> bool:
    """The query goes by the simple protocol and may hold several statements, a COMMIT among them."""
    return not args and ";" in query.strip().rstrip(";")
