"""The router's cache of the directory. An optimisation, never the authority: `tenantry.bind` decides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Final, NamedTuple

from tenantry.directory.store import Store, TenantRow
from tenantry.errors import TenantryError, UnknownTenant
from tenantry.events import DirectoryChanged, DirectoryLookup, Events
from tenantry.ids import IdType, Kind, Placement, TenantId, Terms

#: Ids asked of the control database in one query.
BATCH: Final = 500


class Profile(NamedTuple):
    """All that tenants have in common who live in the same place on the same terms. Shared in memory."""

    placement: Placement
    terms: Terms
    suspended: bool
    plan: str | None


class Entry:
    """One cached tenant."""

    __slots__ = ("profile", "text")

    def __init__(self, text: str, profile: Profile) -> None:
        self.text = text
        """The id as the databases write it."""
        self.profile = profile


class Directory:
    """Answers where a tenant lives, from memory if it can.

    Unknown ids are looked up once however many callers wait, many ids in one query; absent ones are
    remembered for a moment; an entry that changed while it was being loaded is not kept. With the control
    database down, what is cached goes on serving.
    """

    # Mutable state: _entries (by id, oldest first), _profiles (to share them), _absent (id -> loop time until
    # which it is known not to exist), _loading (id -> the future that all its callers wait for), _wanted (ids
    # not asked yet), _changed (ids in _loading that changed meanwhile), _loader (the task), _watchers.

    def __init__(
        self,
        store: Store,
        ids: IdType,
        events: Events,
        *,
        capacity: int = 2_000_000,
        absent: float = 2.0,
    ) -> None:
        """Args:
        capacity: entries kept in memory, some 300 bytes each.
        absent: seconds for which an id that isn't there is remembered.
        """
        self.store = store
        self.ids = ids
        self._events = events
        self._capacity = capacity
        self._absent_seconds = absent
        self._entries: dict[TenantId, Entry] = {}
        self._profiles: dict[Profile, Profile] = {}
        self._absent: dict[TenantId, float] = {}
        self._loading: dict[TenantId, asyncio.Future[Entry]] = {}
        self._wanted: list[TenantId] = []
        self._changed: set[TenantId] = set()
        self._loader: asyncio.Task[None] | None = None
        self._watchers: list[Callable[[TenantId | None], None]] = []
        self.cached = self._entries.get  # the hot path: one dictionary access

    def __len__(self) -> int:
        return len(self._entries)

    def watch(self, watcher: Callable[[TenantId | None], None]) -> None:
        """Call `watcher` with each id that changes; with None when anything may have changed."""
        self._watchers.append(watcher)

    async def lookup(self, tenant: TenantId) -> Entry:
        """The tenant's entry, from the control database if need be.

        Raises:
            UnknownTenant: it isn't in the directory.
            DatabaseUnavailable: it isn't cached, and the control database is down.
        """
        entry = self._entries.get(tenant)
        if entry is not None:
            return entry
        loop = asyncio.get_running_loop()
        until = self._absent.get(tenant)
        if until is not None:
            if loop.time() < until:
                self._events.emit(DirectoryLookup("absent"))
                raise UnknownTenant(tenant)
            del self._absent[tenant]
        future = self._loading.get(tenant)
        if future is None:
            future = self._loading[tenant] = loop.create_future()
            self._wanted.append(tenant)
            if self._loader is None or self._loader.done():
                self._loader = loop.create_task(self._load(), name="tenantry directory")
        return await asyncio.shield(future)

    async def refresh(self, tenant: TenantId) -> Entry:
        """The tenant's entry as the control database has it now."""
        self.drop(tenant)
        return await self.lookup(tenant)

    def correct(self, tenant: TenantId, placement: Placement) -> bool:
        """A database said where the tenant lives now. False: we knew that, or better."""
        entry = self._entries.get(tenant)
        if entry is None or entry.profile.placement.epoch >= placement.epoch:
            return False
        profile = entry.profile._replace(placement=placement)
        self._entries[tenant] = Entry(entry.text, self._shared(profile))
        return True

    def keep(self, row: TenantRow) -> Entry:
        """Put a row that was just read or written into the cache."""
        tenant = self.ids.parse(row.id)
        entry = Entry(row.id, self._shared(profile_of(row)))
        self._absent.pop(tenant, None)
        if len(self._entries) >= self._capacity:
            for old in list(islice(self._entries, max(1, self._capacity // 20))):
                del self._entries[old]
        self._entries[tenant] = entry
        return entry

    def drop(self, tenant: TenantId) -> None:
        """Forget one tenant; it is looked up again when it is asked for."""
        self._entries.pop(tenant, None)
        self._absent.pop(tenant, None)
        if tenant in self._loading:
            self._changed.add(tenant)

    def tell(self, ids: Iterable[str] | None) -> None:
        """Something changed in the control database: forget these ids; None: everything."""
        if ids is None:
            self._entries.clear()
            self._absent.clear()
            self._changed.update(self._loading)
            self._told(None)
            return
        for text in ids:
            try:
                tenant = self.ids.parse(text)
            except ValueError:  # somebody wrote an id of another type into the table
                continue
            self.drop(tenant)
            self._told(tenant)

    def _told(self, tenant: TenantId | None) -> None:
        self._events.emit(DirectoryChanged(tenant))
        for watcher in self._watchers:
            watcher(tenant)

    def _shared(self, profile: Profile) -> Profile:
        if len(self._profiles) > 100_000:
            self._profiles.clear()
        return self._profiles.setdefault(profile, profile)

    async def _load(self) -> None:
        while self._wanted:
            batch, self._wanted = self._wanted[:BATCH], self._wanted[BATCH:]
            texts = {str(tenant): tenant for tenant in batch}
            try:
                rows = await self.store.tenants(list(texts))
            except BaseException as error:
                self._answer(batch, error)
                if not isinstance(error, Exception):
                    raise
                continue
            self._answer(batch, rows)

    def _answer(self, batch: list[TenantId], answer: dict[str, TenantRow] | BaseException) -> None:
        now = asyncio.get_running_loop().time()
        for tenant in batch:
            future = self._loading.pop(tenant)
            stale = tenant in self._changed
            self._changed.discard(tenant)
            if future.done():
                continue
            if isinstance(answer, BaseException):
                self._events.emit(DirectoryLookup("failed"))
                failure = answer if isinstance(answer, TenantryError) else _unavailable(answer)
                future.set_exception(failure)
                future.exception()  # nobody may be waiting any more; that is no bug
            elif (row := answer.get(str(tenant))) is None:
                self._events.emit(DirectoryLookup("absent"))
                if not stale:
                    self._remember_absent(tenant, now)
                future.set_exception(UnknownTenant(tenant))
                future.exception()
            else:
                self._events.emit(DirectoryLookup("loaded"))
                future.set_result(Entry(row.id, profile_of(row)) if stale else self.keep(row))

    def _remember_absent(self, tenant: TenantId, now: float) -> None:
        if len(self._absent) >= 10_000:
            self._absent = {t: until for t, until in self._absent.items() if until > now}
            if len(self._absent) >= 10_000:
                self._absent.clear()
        self._absent[tenant] = now + self._absent_seconds

    async def close(self) -> None:
        """Fail who waits. Idempotent."""
        if self._loader is not None:
            self._loader.cancel()
            await asyncio.wait([self._loader])
        # Those whose turn to be asked for never came, or whose loader never ran.
        self._wanted.clear()
        self._answer(list(self._loading), asyncio.CancelledError())


def profile_of(row: TenantRow) -> Profile:
    """What a row says, in the form that is shared."""
    return Profile(
        Placement(row.database, Kind(row.kind), row.epoch),
        Terms(
            row.weight,
            _limit(row.limits, "connections"),
            _limit(row.limits, "queue"),
            _limit(row.limits, "statement_timeout"),
        ),
        row.state == "suspended",
        row.plan,
    )


def _limit(limits: dict[str, Any], name: str) -> int | None:
    value = limits.get(name)
    return value if isinstance(value, int) and value > 0 else None


def _unavailable(error: BaseException) -> TenantryError:
    from tenantry.errors import DatabaseUnavailable, RouterClosed

    if isinstance(error, asyncio.CancelledError):
        return RouterClosed()
    return DatabaseUnavailable("control", type(error).__name__)
