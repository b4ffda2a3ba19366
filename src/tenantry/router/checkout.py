"""A caller's way to a scope and out of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from time import perf_counter
from types import TracebackType
from typing import Any, Final

import asyncpg

from tenantry.directory import Entry
from tenantry.errors import (
    CommitUnknown,
    DatabaseUnavailable,
    ScopeLost,
    TenantBusy,
    TenantMoving,
    TenantSuspended,
    WrongContext,
)
from tenantry.events import CheckoutFailed, ScopeEnded
from tenantry.ids import Placement, TenantId
from tenantry.router import binding, disconnect, driver, scope
from tenantry.router.answers import Answer
from tenantry.router.connection import ScopedConnection
from tenantry.router.connections import CLEANUP
from tenantry.router.driver import Connection
from tenantry.router.fence_wait import LEADER
from tenantry.router.parts import RouterParts
from tenantry.router.pool import Pool
from tenantry.router.waiter import PooledConnection, Waiter
from tenantry.runtime.connection_errors import DATABASE_ERRORS, said_by_server
from tenantry.runtime.shielded import run_shielded
from tenantry.runtime.sqlstates import FENCED, NOT_HERE, SERIALIZATION_FAILURE, SUSPENDED

#: The tenant, while the mark lives that bind leaves in its transaction: of the plain form, or of the hardened.
_STILL_BOUND: Final = (
    "SELECT tenantry.current_tenant()::text "
    "WHERE pg_catalog.concat(pg_catalog.current_setting('tenantry.bound', true), "
    "pg_catalog.current_setting('tenantry.proof', true)) OPERATOR(pg_catalog.<>) ''"
)


class Checkout:
    """`async with router.tenant(…) as conn`: opens a scope, and ends it as the block ended."""

    # Mutable state: while the scope is open, _pool, _held (its connection; None while it is opened elsewhere),
    # _waiter, _entry and _connection; _arrived and _opened (perf_counter seconds), _waited (seconds that opening
    # took).

    __slots__ = (
        "_arrived",
        "_connection",
        "_entry",
        "_held",
        "_mode",
        "_opened",
        "_over",
        "_parts",
        "_pool",
        "_prompt",
        "_tenant",
        "_timeout",
        "_waited",
        "_waiter",
        "single",
        "worth_repeating",
    )

    def __init__(
        self, parts: RouterParts, tenant: TenantId, mode: scope.Mode, timeout: float, *, prompt: bool
    ) -> None:
        """Args:
        timeout: seconds for opening the scope.
        prompt: the caller has named them.
        """
        self._prompt = prompt
        self._parts = parts
        self._tenant = tenant
        self._mode = mode
        self._timeout = timeout
        self._connection: ScopedConnection | None = None
        self._over = False
        self.single: str | None = None
        """The only query of the scope: its end goes out right behind that."""
        self.worth_repeating = False
        """Its work failed for a reason that another scope may not meet, and nothing of it is committed."""

    async def __aenter__(self) -> ScopedConnection:
        if self._connection is not None:
            raise RuntimeError("a scope is entered once; ask the router for another")
        parts = self._parts
        parts.origin.check()
        self._arrived = perf_counter()
        deadline = parts.loop.time() + self._timeout
        database: str | None = None
        try:
            entry = parts.directory.cached(self._tenant)
            if entry is None:
                entry = await parts.enrollment.find(self._tenant, deadline)
            database = entry.profile.placement.database
            pooled = await self._bound(entry, deadline)
        except BaseException as error:
            parts.events.emit(
                CheckoutFailed(self._tenant, database, type(error).__name__, perf_counter() - self._arrived)
            )
            raise
        # No await from here to the return: the connection is ours, and __aexit__ gives it back.
        self._held: PooledConnection | None
        driver.begin_scope(pooled.connection, self._mode.isolation)
        if self.single is not None and pooled.proof_context.pipelined and not pooled.proof_context.pooled:
            driver.end_behind(pooled.connection, self.single, scope.end("COMMIT", pooled.proof_context))
        self._held = pooled
        self._opened = perf_counter()
        self._waited = self._opened - self._arrived
        self._connection = ScopedConnection(pooled.connection, parts.origin, self)
        return self._connection

    async def reopen(self, refusal: Answer) -> Connection:
        """The opening that travelled with the first statement was refused. See `connection.Scope`."""
        parts, pooled, entry = self._parts, self._held, self._entry
        assert pooled is not None
        if driver.ended(pooled.connection) is not None and _is_silent(refusal):  # its COMMIT may have arrived
            self._held = None
            self._pool.release_broken(pooled, self._waiter)
            raise CommitUnknown(self._tenant) from refusal.error
        driver.end_scope(pooled.connection)
        self._held = None
        arrived = perf_counter()
        error = self._pool.refused(pooled, self._waiter, refusal)
        # Whatever the application did meanwhile, opening may take as long as it was said to, all told.
        deadline = parts.loop.time() + max(0.0, self._timeout - (self._opened - self._arrived))
        try:
            pooled = await self._bound(entry, deadline, error, alone=True)
        except BaseException as failure:
            database = entry.profile.placement.database
            parts.events.emit(
                CheckoutFailed(self._tenant, database, type(failure).__name__, perf_counter() - arrived)
            )
            raise
        driver.begin_scope(pooled.connection, self._mode.isolation)
        if self._over:
            await self._pool.finish(pooled, self._waiter, "ROLLBACK")
            raise asyncpg.InterfaceError("this scope is over: ask the router for a new one")
        self._held = pooled
        self._waited += perf_counter() - arrived
        return pooled.connection

    async def _bound(
        self, entry: Entry, deadline: float, refusal: asyncpg.PostgresError | None = None, *, alone: bool = False
    ) -> PooledConnection:
        """A connection bound to the tenant, wherever it lives by now; or to be bound by its first statement.

        Args:
            refusal: what `entry`'s database said to an opening.
            alone: bound when this returns.
        """
        parts, tenant = self._parts, self._tenant
        parking_role: str | None = None
        redirects = 0
        try:
            while True:
                profile = entry.profile
                if profile.suspended:
                    raise TenantSuspended(tenant)
                pool = parts.pools.ready(profile.placement.database)
                if pool is None:
                    pool = await parts.pools.get(profile.placement.database)
                waiter = self._waiter_for(entry, pool, deadline)
                waiter.alone = alone
                try:
                    if refusal is not None:
                        raise refusal
                    pooled = await pool.checkout(waiter)
                except (DatabaseUnavailable, TenantBusy) as error:
                    if parking_role is None or parts.loop.time() < deadline:
                        raise
                    raise TenantMoving(tenant, perf_counter() - self._arrived) from error  # that took the time
                except asyncpg.PostgresError as error:
                    refusal, alone = None, True
                    state = error.sqlstate
                    if state == FENCED or (state == NOT_HERE and _is_behind(error, profile.placement)):
                        parking_role = await parts.fence_wait.wait(tenant, parking_role, deadline)
                        if parking_role is None:
                            raise TenantMoving(tenant, perf_counter() - self._arrived) from error
                    elif state == NOT_HERE:
                        redirects += 1
                        await self._reroute(error, entry, redirects, deadline)
                    elif state == SUSPENDED:
                        raise TenantSuspended(tenant) from error
                    elif state != SERIALIZATION_FAILURE:  # the placement changed under a snapshot: bind once more
                        raise
                    entry = await parts.enrollment.find(tenant, deadline)
                    continue
                self._pool, self._waiter, self._entry = pool, waiter, entry
                return pooled
        finally:
            if parking_role == LEADER:
                parts.fence_wait.leave(tenant)

    def _waiter_for(self, entry: Entry, pool: Pool, deadline: float) -> Waiter:
        terms = entry.profile.terms
        if self._mode is scope.PLAIN:
            opening = pool.opening(entry.text, terms)
        else:
            mode = self._mode
            opening = scope.ScopeOpener(mode.begin(), entry.text, terms.statement_timeout, pool.key, mode.claims)
        return Waiter(self._tenant, terms, opening, self._parts.loop.time(), deadline, prompt=self._prompt)

    async def _reroute(
        self,
        refusal: asyncpg.PostgresError,
        entry: Entry,
        redirects: int,
        deadline: float,
    ) -> None:
        """The database that the cache named says that the tenant doesn't live there: learn where it does."""
        parts, tenant = self._parts, self._tenant
        said = _said(refusal)
        placement = entry.profile.placement
        if said.get("home") is not None and said["epoch"] > placement.epoch:
            spec = await parts.pools.spec(said["home"])
            parts.directory.correct(tenant, Placement(spec.name, spec.kind, said["epoch"]))
        else:
            fresh = await parts.enrollment.find(tenant, deadline, refresh=True)
            now_at = fresh.profile.placement
            if now_at == placement and said.get("home") is None:
                await parts.enrollment.complete(fresh, refusal)
        if redirects > 2:  # two databases that point at each other, or a copy that lags: not too fast
            if parts.loop.time() >= deadline:
                raise TenantMoving(tenant, perf_counter() - self._arrived) from refusal
            await asyncio.sleep(min(0.2, 0.01 * 2.0 ** min(redirects, 6)))

    async def heal(self, error: Exception, cached: bool, first: bool) -> bool:
        """A statement of the scope has failed. See `connection.Scope`.

        What the failure tells of the database is told to the pool, so that it is every connection's last one.
        """
        pooled, pool = self._held, self._pool
        if pooled is None:  # another statement is opening the scope elsewhere
            return False
        first = first and driver.ended(pooled.connection) is None
        if driver.is_outdated(error, cached=cached):
            pool.connections.learned(pooled)
            self.worth_repeating = driver.ended(pooled.connection) is None or said_by_server(error)
            return first and await binding.bind_again(pooled, self._waiter)
        if first and cached and driver.is_unsuitable(error):
            pooled.outdated()  # it may have been prepared where the names meant other tables: by this session only
            return await binding.bind_again(pooled, self._waiter)
        refused = isinstance(error, asyncpg.ReadOnlySQLTransactionError) and not self._mode.readonly
        if refused and (driver.is_standby(pooled.connection) or pooled.proof_context.pooled):
            pool.connections.lost_writability()
            self.worth_repeating = True
        return False

    # -- the way out -------------------------------------------------------------------------------

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        connection = self._connection
        assert connection is not None
        try:
            self._parts.origin.check()
        except WrongContext:
            if kind is None:
                raise
            return  # the block's own error is what the caller must see
        pooled = self._held
        connection.detach()
        self._over = True
        if pooled is None:  # it could not be opened, and whoever used it was told; or it is being opened just now
            if kind is None:
                raise ScopeLost(self._tenant, "closed", "it could not be opened, so nothing of it was done")
            return
        driver.end_scope(pooled.connection)
        if driver.misread(pooled.connection):
            pooled.outdated()
        left = perf_counter()
        outcome = "error"
        try:
            if kind is None:
                await self._commit(connection, pooled)
                outcome = "commit"
            else:
                outcome = await self._roll_back(pooled, error)
        finally:
            ended = perf_counter()
            self._parts.events.emit(
                ScopeEnded(
                    self._tenant,
                    self._pool.database,
                    outcome,
                    connection.busy + (ended - left),  # what the scope has left for its COMMIT is its own work
                    ended - self._opened,
                    self._waited,
                    connection.statements,
                )
            )

    async def _commit(self, connection: ScopedConnection, pooled: PooledConnection) -> None:
        try:
            raw = pooled.connection
            if driver.refused(raw):
                tried = driver.calls(raw)
                await self._pool.finish(pooled, self._waiter, "ROLLBACK")
                if tried:
                    raise self._failed()
                return
            if not (driver.unopened(raw) or driver.ended(raw) or driver.intact(raw, self._waiter.opening.tag)):
                await self._verify_transaction(pooled)
            outcome = await self._pool.finish(pooled, self._waiter, "COMMIT")
        except asyncpg.InterfaceError as error:
            if driver.is_busy(error):
                raise ScopeLost(
                    self._tenant,
                    "busy",
                    "a statement was still running on its connection at its end, so its transaction was cut off "
                    "and rolled back. Await every statement before the scope ends",
                ) from error
            raise self._closed() from error
        if outcome is scope.ScopeOutcome.ENDED:
            raise self._ended()
        if outcome is scope.ScopeOutcome.ROLLED_BACK:
            raise self._failed()

    async def _verify_transaction(self, pooled: PooledConnection) -> None:
        """Something is not as the bind left it: make sure that the scope can be committed.

        Raises:
            ScopeLost: it can't; the connection is given back.
        """
        raw = pooled.connection
        if raw.is_closed():
            self._pool.release_broken(pooled, self._waiter)
            raise self._closed()
        if raw.is_in_transaction() and await self._still_bound(pooled):
            return
        await self._pool.finish(pooled, self._waiter, "ROLLBACK")
        raise self._ended()

    def _failed(self) -> ScopeLost:
        return ScopeLost(
            self._tenant,
            "failed",
            "a statement in it had failed, so PostgreSQL rolled its transaction back instead of committing "
            "it. Let the error leave the scope, or wrap the statement in conn.transaction()",
        )

    def _closed(self) -> ScopeLost:
        return ScopeLost(
            self._tenant, "closed", "its connection is gone, and what was not committed with it. Try again"
        )

    def _ended(self) -> ScopeLost:
        return ScopeLost(
            self._tenant,
            "ended",
            "the application ended its transaction (COMMIT or ROLLBACK) inside it; what came after ran "
            "without a tenant. Leave the scope to end it, use conn.transaction() for a part of it",
        )

    async def _still_bound(self, pooled: PooledConnection) -> bool:
        """Something may have ended, or `application_name` is another: ask whether this is bind's transaction."""
        try:
            await disconnect.wait_cancelled(pooled.connection)
            bound = await pooled.connection.fetchval(_STILL_BOUND)
        except asyncpg.InFailedSQLTransactionError:
            return True  # COMMIT will tell
        except BaseException:
            await self._recover(pooled)
            raise
        return bool(bound == str(self._tenant))

    async def _roll_back(self, pooled: PooledConnection, error: BaseException | None) -> str:
        """The block failed: its error is what the caller must see, so nothing here may hide it.

        Returns:
            "rollback"; "commit" where a one-shot was committed, and only its answer could not be read.

        Raises:
            CommitUnknown: a one-shot's COMMIT was sent behind its statement, and the connection broke before
                either was answered.
        """
        sent = driver.ended(pooled.connection) is not None
        if pooled.connection.is_closed():
            self._pool.release_broken(pooled, self._waiter)
            if not sent or said_by_server(error):
                self.worth_repeating = True
            elif isinstance(error, Exception) and not isinstance(error, CommitUnknown):
                raise CommitUnknown(self._tenant) from error
            return "rollback"
        outcome = None
        # On an error the connection is cut by then, and PostgreSQL has rolled back.
        with contextlib.suppress(*DATABASE_ERRORS):
            outcome = await self._recover(pooled)
        if sent and outcome is scope.ScopeOutcome.COMMITTED:
            if error is not None:
                error.add_note("The statement was done and is committed: only its answer could not be read.")
            return "commit"
        return "rollback"

    async def _recover(self, pooled: PooledConnection) -> scope.ScopeOutcome:
        return await run_shielded(
            self._pool.finish(pooled, self._waiter, "ROLLBACK"),
            seconds=CLEANUP,
            name="tenantry rollback",
        )


def _said(refusal: asyncpg.PostgresError) -> dict[str, Any]:
    """Where the tenant lives, as far as the database that refused it knows: "home" and "epoch", or None both."""
    said: dict[str, Any] = json.loads(refusal.detail or "{}")
    return said


def _is_silent(refusal: Answer) -> bool:
    """The connection broke, and the server has not said that the session ends before the opening was through."""
    return refusal.lost and not (refusal.error is not None and said_by_server(refusal.error.__cause__))


def _is_behind(refusal: asyncpg.PostgresError, placement: Placement) -> bool:
    """The new home has not heard of the flip yet: as good as fenced. Its old home knows no better than we do."""
    said = _said(refusal)
    return said.get("home") is not None and bool(said["epoch"] < placement.epoch)
