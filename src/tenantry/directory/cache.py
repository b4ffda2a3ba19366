"""The router's cache of the directory. An optimisation, never the authority: `tenantry.bind` decides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, Final, NamedTuple

from tenantry.directory.store import Store, TenantRow
from tenantry.errors import DatabaseUnavailable, RouterClosed, TenantRemoved, TenantryError, UnknownTenant
from tenantry.events import DirectoryChanged, DirectoryLookup, Events
from tenantry.ids import LARGEST, IdType, Kind, Placement, TenantId, Terms

#: Ids asked of the control database in one query.
BATCH: Final = 500
#: Seconds that a caller waits until a suspect entry has been read again; then it is served as it is.
RECHECK: Final = 0.25
#: Seconds for which suspects are served as they are once the control database has not answered.
AWAY: Final = 1.0


class Profile(NamedTuple):
    """All that tenants have in common who live in the same place on the same terms. Shared in memory."""

    placement: Placement
    terms: Terms
    suspended: bool
    plan: str | None


class Entry:
    """One cached tenant."""

    __slots__ = ("changed", "profile", "text")

    def __init__(self, text: str, profile: Profile, changed: int) -> None:
        self.text = text
        """The id as the databases write it."""
        self.profile = profile
        self.changed = changed
        """The transaction that wrote this version of the directory's row."""


class Directory:
    """Answers where a tenant lives, from memory if it can.

    Unknown ids are looked up once however many callers wait, many ids in one query; absent ones are
    remembered for a moment; an entry that changed while it was being loaded is not kept. An entry that may have
    changed is a suspect: it is read again when it is next used, and served as it is while the control database
    does not answer. So neither a dead control database nor whoever sends false notices empties the cache.
    """

    # Mutable state: _entries and _suspects (by id; an id is in one of them), _profiles (to share them), _absent
    # (id -> until which loop time it is known not to be had, and why), _loading (id -> the future that all its
    # callers wait for), _wanted (ids not asked yet), _changed (id in _loading -> its newest version, None: not
    # known), _away_until (loop time until which suspects are not read again), _loader (the task), _watchers.

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
        self._suspects: dict[TenantId, Entry] = {}
        self._profiles: dict[Profile, Profile] = {}
        self._absent: dict[TenantId, tuple[float, type[UnknownTenant]]] = {}
        self._loading: dict[TenantId, asyncio.Future[Entry]] = {}
        self._wanted: list[TenantId] = []
        self._changed: dict[TenantId, int | None] = {}
        self._away_until = float("-inf")
        self._loader: asyncio.Task[None] | None = None
        self._watchers: list[Callable[[TenantId | None], None]] = []
        self.cached = self._entries.get  # the hot path: one dictionary access

    def __len__(self) -> int:
        return len(self._entries) + len(self._suspects)

    def watch(self, watcher: Callable[[TenantId | None], None]) -> None:
        """Call `watcher` with each id that changes; with None when anything may have changed."""
        self._watchers.append(watcher)

    async def lookup(self, tenant: TenantId) -> Entry:
        """The tenant's entry, from the control database if it is not cached, or a suspect.

        Raises:
            UnknownTenant: it isn't in the directory; TenantRemoved, one of that kind: it is no more.
            DatabaseUnavailable: it isn't cached, and the control database is down.
        """
        entry = self._entries.get(tenant)
        if entry is not None:
            return entry
        suspect = self._suspects.get(tenant)
        if suspect is not None:
            return await self._recheck(tenant, suspect)
        known = self._absent.get(tenant)
        if known is not None:
            until, why = known
            if asyncio.get_running_loop().time() < until:
                self._events.emit(DirectoryLookup("absent"))
                raise why(tenant)
            del self._absent[tenant]
        return await asyncio.shield(self._load_soon(tenant))

    async def _recheck(self, tenant: TenantId, suspect: Entry) -> Entry:
        """Read a suspect again, or serve it as it is: a dead control database harms nobody who is cached."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._away_until:
            return suspect
        try:
            async with asyncio.timeout(RECHECK):
                return await asyncio.shield(self._load_soon(tenant))
        except TimeoutError:
            self._away_until = loop.time() + AWAY
            return suspect

    def _load_soon(self, tenant: TenantId) -> asyncio.Future[Entry]:
        future = self._loading.get(tenant)
        if future is None:
            loop = asyncio.get_running_loop()
            future = self._loading[tenant] = loop.create_future()
            self._wanted.append(tenant)
            if self._loader is None or self._loader.done():
                self._loader = loop.create_task(self._load(), name="tenantry directory")
        return future

    async def refresh(self, tenant: TenantId) -> Entry:
        """The tenant's entry as the control database has it now."""
        self.drop(tenant)
        return await self.lookup(tenant)

    def correct(self, tenant: TenantId, placement: Placement) -> bool:
        """A database said where the tenant lives now. False: we knew that, or better."""
        kept = self._entries if tenant in self._entries else self._suspects
        entry = kept.get(tenant)
        if entry is None or entry.profile.placement.epoch >= placement.epoch:
            return False
        kept[tenant] = Entry(entry.text, self._shared(entry.profile._replace(placement=placement)), entry.changed)
        return True

    def put(self, row: TenantRow) -> Entry:
        """Put a row that was just read or written into the cache."""
        tenant = self.ids.parse(row.id)
        entry = Entry(row.id, self._shared(profile_of(row)), row.changed)
        self._absent.pop(tenant, None)
        self._suspects.pop(tenant, None)
        if len(self) >= self._capacity:
            self._make_room()
        self._entries[tenant] = entry
        return entry

    def _make_room(self) -> None:
        number = max(1, self._capacity // 20)
        for kept in (self._suspects, self._entries):
            for old in list(islice(kept, number)):
                del kept[old]
                number -= 1

    def drop(self, tenant: TenantId) -> None:
        """Forget one tenant; it is looked up again when it is asked for."""
        self._entries.pop(tenant, None)
        self._suspects.pop(tenant, None)
        self._absent.pop(tenant, None)
        if tenant in self._loading:
            self._changed[tenant] = None

    def suspect(self, changes: Mapping[str, int | None]) -> None:
        """These ids may have changed in the control database: read them again when they are next used.

        Args:
            changes: by id the transaction that wrote the newest version, None if unknown. An entry of that very
                version is none the worse: a router's own sign-up is no news to it. Equal, not newer: a transaction
                with a lower number may commit later.
        """
        for text, changed in changes.items():
            try:
                tenant = self.ids.parse(text)
            except ValueError:  # somebody wrote an id of another type into the table
                continue
            entry = self._entries.get(tenant)
            if entry is not None and (changed is None or entry.changed != changed):
                self._suspects[tenant] = self._entries.pop(tenant)
            self._absent.pop(tenant, None)
            if tenant in self._loading:
                self._changed[tenant] = changed
            self._announce(tenant)

    def suspect_all(self) -> None:
        """Anything may have changed: read each entry again when it is next used."""
        # The smaller is added to the larger, so that two million entries cost the event loop nothing.
        larger, smaller = sorted((self._suspects, self._entries), key=len, reverse=True)
        larger.update(smaller)
        self._suspects, self._entries = larger, {}
        self.cached = self._entries.get
        self._absent.clear()
        self._changed.update(dict.fromkeys(self._loading))
        self._announce(None)

    def versions(self, limit: int) -> dict[str, int] | None:
        """By id the version of each entry, to compare with the control database's; None: more than `limit`."""
        if len(self) > limit:
            return None
        return {e.text: e.changed for kept in (self._entries, self._suspects) for e in kept.values()}

    def _announce(self, tenant: TenantId | None) -> None:
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
                rows = await self.store.tenants(list(texts), removed=True)
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
            newest = self._changed.pop(tenant, None)
            if isinstance(answer, BaseException):
                self._fail(tenant, future, answer, now)
            elif (row := answer.get(str(tenant))) is None or row.state == "removed":
                self._events.emit(DirectoryLookup("absent"))
                self._suspects.pop(tenant, None)
                why = UnknownTenant if row is None else TenantRemoved
                if not stale:
                    self._remember_absent(tenant, now, why)
                if not future.done():
                    future.set_exception(why(tenant))
                    future.exception()  # nobody may be waiting any more; that is no bug
            else:
                self._events.emit(DirectoryLookup("loaded"))
                if not stale or row.changed == newest:
                    entry = self.put(row)
                else:
                    entry = Entry(row.id, self._shared(profile_of(row)), row.changed)
                    if tenant in self._suspects:
                        self._suspects[tenant] = entry
                if not future.done():
                    future.set_result(entry)

    def _fail(self, tenant: TenantId, future: asyncio.Future[Entry], error: BaseException, now: float) -> None:
        self._events.emit(DirectoryLookup("failed"))
        if future.done():
            return
        suspect = self._suspects.get(tenant)
        failure = error if isinstance(error, TenantryError) else _unavailable(error)
        if suspect is not None and isinstance(failure, DatabaseUnavailable):
            self._away_until = now + AWAY
            future.set_result(suspect)
            return
        future.set_exception(failure)
        future.exception()  # nobody may be waiting any more; that is no bug

    def _remember_absent(self, tenant: TenantId, now: float, why: type[UnknownTenant]) -> None:
        if len(self._absent) >= 10_000:
            self._absent = {t: known for t, known in self._absent.items() if known[0] > now}
            if len(self._absent) >= 10_000:
                self._absent.clear()
        self._absent[tenant] = now + self._absent_seconds, why

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
    if type(value) is not int or value < 1:
        return None
    return min(value, LARGEST)  # what was written past us may be more than PostgreSQL can take


def _unavailable(error: BaseException) -> TenantryError:
    if isinstance(error, asyncio.CancelledError):
        return RouterClosed()
    return DatabaseUnavailable("control", type(error).__name__)
