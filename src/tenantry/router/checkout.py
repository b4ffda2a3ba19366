"""A caller's way to a scope and out of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any

import asyncpg

from tenantry.directory import Entry
from tenantry.errors import (
    DatabaseUnavailable,
    ScopeLost,
    TenantBusy,
    TenantMoving,
    TenantSuspended,
)
from tenantry.events import CheckoutFailed, ScopeEnded
from tenantry.lifecycle import to_the_end
from tenantry.link import LINK_BROKEN
from tenantry.router import driver, parting, scope
from tenantry.router.connection import ScopedConnection
from tenantry.router.parking import PROBER
from tenantry.router.pool import CLEANUP, Pool
from tenantry.router.slot import Slot, Ticket
from tenantry.tenant import Placement, TenantId

if TYPE_CHECKING:
    from tenantry.router.router import TenantRouter

NOT_HERE, FENCED, SUSPENDED, RACED = "TN001", "TN002", "TN003", "40001"


class Checkout:
    """`async with router.tenant(…) as conn`: opens a scope, and ends it as the block ended."""

    # Mutable state: while the scope is open, _pool, _slot, _ticket and _connection; _arrived and _opened
    # (perf_counter seconds).

    __slots__ = (
        "_arrived",
        "_connection",
        "_mode",
        "_opened",
        "_pool",
        "_router",
        "_slot",
        "_tenant",
        "_ticket",
        "_timeout",
    )

    def __init__(self, router: TenantRouter, tenant: TenantId, mode: scope.Mode, timeout: float) -> None:
        self._router = router
        self._tenant = tenant
        self._mode = mode
        self._timeout = timeout
        self._connection: ScopedConnection | None = None

    async def __aenter__(self) -> ScopedConnection:
        if self._connection is not None:
            raise RuntimeError("a scope is entered once; ask the router for another")
        router = self._router
        self._arrived = perf_counter()
        deadline = router.loop.time() + self._timeout
        database: str | None = None
        try:
            entry = router.directory.cached(self._tenant)
            if entry is None:
                entry = await router.find(self._tenant, deadline)
            database = entry.profile.placement.database
            slot = await self._bound(entry, deadline)
        except BaseException as error:
            router.events.emit(
                CheckoutFailed(self._tenant, database, type(error).__name__, perf_counter() - self._arrived)
            )
            raise
        # No await from here to the return: the slot is ours, and __aexit__ gives it back.
        driver.begin_scope(slot.connection, self._mode.isolation)
        self._slot = slot
        self._opened = perf_counter()
        self._connection = ScopedConnection(slot.connection)
        return self._connection

    async def _bound(self, entry: Entry, deadline: float) -> Slot:
        """A slot bound to the tenant, wherever it lives by now."""
        router, tenant = self._router, self._tenant
        role: str | None = None
        detours = 0
        try:
            while True:
                profile = entry.profile
                if profile.suspended:
                    raise TenantSuspended(tenant)
                pool = router.pools.ready(profile.placement.database)
                if pool is None:
                    pool = await router.pools.get(profile.placement.database)
                ticket = self._wish(entry, pool, deadline)
                try:
                    slot = await pool.checkout(ticket)
                except (DatabaseUnavailable, TenantBusy) as error:
                    if role is None or router.loop.time() < deadline:
                        raise
                    raise TenantMoving(tenant, perf_counter() - self._arrived) from error  # that took the time
                except asyncpg.PostgresError as error:
                    state = error.sqlstate
                    if state == FENCED or (state == NOT_HERE and _is_behind(error, profile.placement)):
                        role = await router.parking.wait(tenant, role, deadline)
                        if role is None:
                            raise TenantMoving(tenant, perf_counter() - self._arrived) from error
                    elif state == NOT_HERE:
                        detours += 1
                        await self._reroute(error, entry, detours, deadline)
                    elif state == SUSPENDED:
                        raise TenantSuspended(tenant) from error
                    elif state != RACED:  # the placement changed under a snapshot: bind once more
                        raise
                    entry = await router.find(tenant, deadline)
                    continue
                self._pool, self._ticket = pool, ticket
                return slot
        finally:
            if role == PROBER:
                router.parking.leave(tenant)

    def _wish(self, entry: Entry, pool: Pool, deadline: float) -> Ticket:
        terms = entry.profile.terms
        if self._mode is scope.PLAIN:
            opening = pool.opening(entry.text, terms)
        else:
            opening = scope.Opening(self._mode.begin(), entry.text, terms.statement_timeout, pool.key)
        return Ticket(self._tenant, terms, opening, self._router.loop.time(), deadline)

    async def _reroute(self, refusal: asyncpg.PostgresError, entry: Entry, detours: int, deadline: float) -> None:
        """The database that the cache named says that the tenant doesn't live there: learn better."""
        router, tenant = self._router, self._tenant
        said = _said(refusal)
        placement = entry.profile.placement
        if said.get("home") is not None and said["epoch"] > placement.epoch:
            spec = await router.pools.spec(said["home"])
            router.directory.correct(tenant, Placement(spec.name, spec.kind, said["epoch"]))
        else:
            fresh = await router.find(tenant, deadline, refresh=True)
            now_at = fresh.profile.placement
            if now_at == placement and said.get("home") is None:
                await router.enroll(fresh, refusal)
        if detours > 2:  # two databases that point at each other, or a copy that lags: not too fast
            if router.loop.time() >= deadline:
                raise TenantMoving(tenant, perf_counter() - self._arrived) from refusal
            await asyncio.sleep(min(0.2, 0.01 * 2.0 ** min(detours, 6)))

    # -- the way out -------------------------------------------------------------------------------

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        connection = self._connection
        assert connection is not None
        slot = self._slot
        driver.end_scope(slot.connection)
        connection.detach()
        slot.tainted = slot.tainted or connection.tainted
        outcome = "error"
        try:
            if kind is None:
                await self._commit(connection, slot)
                outcome = "commit"
            else:
                await self._roll_back(slot)
                outcome = "rollback"
        finally:
            ended = perf_counter()
            self._router.events.emit(
                ScopeEnded(
                    self._tenant,
                    self._pool.database,
                    outcome,
                    connection.busy,
                    ended - self._opened,
                    self._opened - self._arrived,
                    connection.statements,
                )
            )

    async def _commit(self, connection: ScopedConnection, slot: Slot) -> None:
        try:
            if not driver.intact(slot.connection, self._ticket.opening.tag):
                await self._look_closer(slot)
            answer = await self._pool.finish(slot, self._ticket, "COMMIT", doubtful=connection.doubtful)
        except asyncpg.InterfaceError as error:
            if "another operation" in str(error):
                raise ScopeLost(
                    self._tenant,
                    "busy",
                    "a statement was still running on its connection at its end, so it was cut off and "
                    "nothing was committed. Await every statement before the scope ends",
                ) from error
            raise
        except asyncpg.InternalClientError as error:
            if driver.said_goodbye(error):
                raise self._gone() from error
            raise
        if answer is scope.Answer.WAS_FAILED:
            raise ScopeLost(
                self._tenant,
                "failed",
                "a statement in it had failed, so PostgreSQL rolled it back and nothing was written. "
                "Let the error leave the scope, or wrap the statement in conn.transaction()",
            )

    async def _look_closer(self, slot: Slot) -> None:
        """Something is not as the bind left it: make sure that the scope can be committed.

        Raises:
            ScopeLost: it can't; the slot is given back.
        """
        raw = slot.connection
        if raw.is_closed():
            self._pool.release_broken(slot, self._ticket)
            raise self._gone()
        if raw.is_in_transaction() and await self._still_bound(slot):
            return
        assert self._connection is not None
        await self._pool.finish(slot, self._ticket, "ROLLBACK", doubtful=self._connection.doubtful)
        raise self._ended()

    def _gone(self) -> ScopeLost:
        return ScopeLost(self._tenant, "closed", "its connection is gone; nothing of it was committed. Try again")

    def _ended(self) -> ScopeLost:
        return ScopeLost(
            self._tenant,
            "ended",
            "the application ended its transaction (COMMIT or ROLLBACK) inside it; what came after ran "
            "without a tenant. Leave the scope to end it, use conn.transaction() for a part of it",
        )

    async def _still_bound(self, slot: Slot) -> bool:
        """`application_name` is not what bind left there: ask whether the tenant is still bound."""
        try:
            await parting.settle(slot.connection)
            bound = await slot.connection.fetchval("SELECT tenantry.current_tenant()::text")
        except asyncpg.InFailedSQLTransactionError:
            return True  # COMMIT will tell
        except BaseException:
            await self._recover(slot)
            raise
        return bool(bound == str(self._tenant))

    async def _roll_back(self, slot: Slot) -> None:
        """The block failed: its error is the news, so nothing here may hide it."""
        if slot.connection.is_closed():
            self._pool.release_broken(slot, self._ticket)
            return
        # On an error the connection is cut by then, and PostgreSQL has rolled back.
        with contextlib.suppress(asyncpg.PostgresError, *LINK_BROKEN):
            await self._recover(slot)

    async def _recover(self, slot: Slot) -> None:
        assert self._connection is not None
        await to_the_end(
            self._pool.finish(slot, self._ticket, "ROLLBACK", doubtful=self._connection.doubtful),
            seconds=CLEANUP,
            name="tenantry rollback",
        )


def _said(refusal: asyncpg.PostgresError) -> dict[str, Any]:
    """Where the tenant lives, as far as the database that refused it knows: "home" and "epoch", or None both."""
    said: dict[str, Any] = json.loads(refusal.detail or "{}")
    return said


def _is_behind(refusal: asyncpg.PostgresError, placement: Placement) -> bool:
    """The new home has not heard of the flip yet: as good as fenced. Its old home knows no better than we do."""
    said = _said(refusal)
    return said.get("home") is not None and bool(said["epoch"] < placement.epoch)
