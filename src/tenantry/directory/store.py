"""The directory's authority: the tables `tenant`, `database` and `event` of the control database."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import asyncpg

from tenantry.directory import placements
from tenantry.directory.inhabitants import InhabitantRows
from tenantry.directory.tokens import TokenRows
from tenantry.errors import DatabaseUnavailable, TenantRemoved
from tenantry.ids import Kind
from tenantry.residence import Residence
from tenantry.rooms import Rooms
from tenantry.runtime.connection_errors import UNREACHABLE, unavailable
from tenantry.runtime.durations import seconds
from tenantry.runtime.fork_safety import ForkSafeConnection

#: Channel on which the control database tells changes of the directory.
CHANNEL: Final = "tenantry_directory"

_TENANT = "t.id, t.database, d.kind, t.epoch, t.state, t.plan, t.weight, t.limits, t.changed::text AS changed"
#: Not `t.name` and so on: a control database that `tenantry init` has not upgraded yet has no such columns.
_NAMED = f"{_TENANT}, whole.row ->> 'name' AS name, whole.row ->> 'region' AS region, whole.row ->> 'tier' AS tier"
#: OFFSET 0: so that each row is written out once, not for each of the three.
_FROM = (
    "FROM tenantry.tenant AS t JOIN tenantry.database AS d ON d.name = t.database "
    "CROSS JOIN LATERAL (SELECT to_jsonb(t) AS row OFFSET 0) AS whole"
)
#: A lookup costs a fifth of what `Kind(…)` does, for each row of a list of all tenants.
_KINDS: Final = {kind.value: kind for kind in Kind}


#: Rows of a page after which the event loop has a turn.
_TURN: Final = 200


class TenantRow(NamedTuple):
    """One tenant, as the directory has it."""

    id: str
    database: str
    kind: Kind
    epoch: int
    state: str
    """"active", "suspended" or "removed"."""
    plan: str | None
    weight: float
    limits: dict[str, Any]
    changed: int
    """The transaction that wrote this version of the row."""
    name: str | None = None
    """What people call it; None: it has no name."""
    region: str | None = None
    """It lives only in databases of this region; None: in any."""
    tier: str | None = None
    """Likewise."""

    @property
    def residence(self) -> Residence:
        """What it asks of its home."""
        return Residence(self.region, self.tier)


class DatabaseRow(NamedTuple):
    """One database, as the directory has it."""

    name: str
    kind: Kind
    dsn: str
    """A reference: "env:NAME", "file:PATH", "server:NAME" or "config"; `config.resolve` says where it leads."""
    settings: dict[str, Any]


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What the driver says of the control database, in our words."""
    try:
        yield
    except UNREACHABLE as error:
        raise unavailable("control", error) from error
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError) as error:
        raise DatabaseUnavailable(
            "control", "the tenantry schema is not installed; run `tenantry init`"
        ) from error


@contextlib.contextmanager
def _placed_in(database: str) -> Iterator[None]:
    """A row that names a database names one of the directory's; else LookupError."""
    try:
        yield
    except asyncpg.ForeignKeyViolationError:
        raise LookupError(f"no database {database} in the directory") from None


@contextlib.contextmanager
def _upgraded() -> Iterator[None]:
    """The control database has the columns for regions and tiers; else DatabaseUnavailable."""
    try:
        yield
    except asyncpg.UndefinedColumnError as error:
        why = "its schema is older than regions and tiers; run `tenantry init`"
        raise DatabaseUnavailable("control", why) from error


class Changes(NamedTuple):
    """What changed since a mark."""

    tenants: dict[str, int | None]
    """By id the transaction that wrote the newest version; None: the row is gone."""
    mark: str
    """Ask for what changed since this next time."""


class Store:
    """Reads and writes the directory. Every method is one transaction.

    Raises (every method): DatabaseUnavailable for "control" when the control database can't be reached.
    """

    # Mutable state: _pool, made on first use.

    def __init__(self, dsn: str, *, timeout: float = 5.0, size: int = 3) -> None:
        """Args:
        dsn: of the control database.
        timeout: seconds for connecting, and for each query.
        size: connections at most.
        """
        self._dsn = dsn
        self._timeout = seconds("timeout", timeout)
        self._size = size
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._opening = asyncio.Lock()
        self.tokens = TokenRows(self._fetch)
        """The table of sync tokens."""
        self.inhabitants = InhabitantRows(self._fetch)
        """Who lives where, counted."""

    async def pool(self) -> asyncpg.Pool[asyncpg.Record]:
        """The pool of connections to the control database, for the ledger and the journal too."""
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._dsn,
                    connection_class=ForkSafeConnection,
                    min_size=0,
                    max_size=self._size,
                    timeout=self._timeout,
                    command_timeout=self._timeout,
                    statement_cache_size=0,  # works behind any pooler; this is no hot path
                    server_settings={"application_name": "tenantry control"},
                )
            return self._pool

    @property
    def dsn(self) -> str:
        """Of the control database, for a session of one's own."""
        return self._dsn

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                await asyncio.wait_for(pool.close(), self._timeout)
            except TimeoutError:
                pool.terminate()

    async def _fetch(self, query: str, *args: Any) -> list[asyncpg.Record]:
        with _told():
            pool = await self.pool()
            return await pool.fetch(query, *args)

    # -- tenants -----------------------------------------------------------------------------------

    async def tenants(self, ids: Sequence[str], *, removed: bool = False) -> dict[str, TenantRow]:
        """The rows of those of `ids` that are there; of removed ones too if `removed`."""
        rows = await self._fetch(
            f"SELECT {_NAMED} {_FROM} WHERE t.id = ANY($1::text[]) AND ($2 OR t.state <> 'removed')",
            list(ids),
            removed,
        )
        return {row["id"]: _tenant(row) for row in rows}

    async def all_tenants(self, *, database: str | None = None, page: int = 1000) -> AsyncIterator[TenantRow]:
        """Every tenant that is not removed, in the order of the ids; two pages of `page` rows in memory.

        The control database reads the next page while this one is worked on.
        """
        query = (
            f"SELECT {_NAMED} {_FROM} WHERE t.id > $1 AND t.state <> 'removed' "
            "AND ($2::text IS NULL OR t.database = $2) ORDER BY t.id LIMIT $3"
        )
        loop = asyncio.get_running_loop()
        reading = loop.create_task(self._fetch(query, "", database, page))
        try:
            while rows := await reading:
                if len(rows) == page:
                    reading = loop.create_task(self._fetch(query, rows[-1]["id"], database, page))
                for number, row in enumerate(rows):
                    if number % _TURN == 0:
                        await asyncio.sleep(0)  # a turn for the page that is being read
                    yield _tenant(row)
                if len(rows) < page:
                    return
        finally:  # whoever has seen enough does not wait for the page that is being read, nor for why it can't be
            reading.add_done_callback(lambda page: page.cancelled() or page.exception())
            reading.cancel()

    async def find(self, text: str, *, beginning: bool, limit: int = 6) -> list[str]:
        """Ids of the tenants that a text means, removed ones left out: the one that has it for a name, or else, of
        ids that begin so, `limit` at most.

        Args:
            beginning: whether beginnings of ids count.
        """
        named = await self._fetch(
            "SELECT id FROM tenantry.tenant AS t "
            "WHERE lower(to_jsonb(t) ->> 'name') = lower($1) AND state <> 'removed'",
            text,
        )
        if named or not beginning:
            return [row["id"] for row in named]
        rows = await self._fetch(
            "SELECT id FROM tenantry.tenant WHERE starts_with(id, $1) AND state <> 'removed' ORDER BY id LIMIT $2",
            text.lower(),
            limit,
        )
        return [row["id"] for row in rows]

    async def name_tenant(self, tenant: str, name: str | None) -> bool:
        """Call a tenant so; None: it has no name any more. False: no such tenant.

        Raises:
            ValueError: another tenant is called so.
        """
        try:
            return await placements.set_name(self._fetch, tenant, name)
        except asyncpg.UniqueViolationError:
            raise ValueError(f"another tenant is called {name!r}") from None
        except asyncpg.UndefinedColumnError as error:
            raise DatabaseUnavailable("control", "its schema is older than names; run `tenantry init`") from error

    async def count_tenants(self) -> dict[str, int]:
        """How many tenants live in each database."""
        rows = await self._fetch(
            "SELECT d.name, count(t.id) AS n FROM tenantry.database AS d LEFT JOIN tenantry.tenant AS t "
            "ON t.database = d.name AND t.state <> 'removed' GROUP BY d.name ORDER BY d.name"
        )
        return {row["name"]: row["n"] for row in rows}

    async def add_tenant(
        self,
        tenant: str,
        database: str | Rooms,
        *,
        plan: str | None = None,
        weight: float = 1.0,
        limits: dict[str, Any] | None = None,
        residence: Residence = Residence(),  # noqa: B008  a value
    ) -> TenantRow:
        """Add a tenant, unless it is there: then its row stays as it is and is returned.

        Two callers at once get the same row.

        Args:
            database: its name, or those among which is to be chosen. That the tenant may live in one that is
                named is the caller's to see.
            residence: what it asks of its home.

        Raises:
            LookupError: no such database.
            NoRoom: none of them takes another such tenant.
            TenantRemoved: the tenant was removed, and stays so.
        """
        if isinstance(database, Rooms):
            with _told(), _upgraded():
                async with (await self.pool()).acquire() as acquired:
                    control: Any = acquired
                    fitting = database.fitting(residence)
                    await placements.add_to_room(control, tenant, fitting, plan, weight, limits or {}, residence)
        else:
            with _placed_in(database), _upgraded():
                await placements.add(self._fetch, tenant, database, plan, weight, limits or {}, residence)
        row = (await self.tenants([tenant], removed=True)).get(tenant)
        if row is None:
            assert isinstance(database, Rooms)
            raise database.full(residence)
        if row.state == "removed":
            raise TenantRemoved(tenant)
        return row

    async def reserve_tenant(
        self,
        tenant: str,
        database: str,
        *,
        plan: str | None,
        weight: float,
        limits: dict[str, Any],
        residence: Residence,
    ) -> TenantRow:
        """Take an id for a tenant whose rows are on their way; it is "removed" until `restore`. One that is there
        stays.

        Raises:
            LookupError: no such database.
        """
        with _placed_in(database), _upgraded():
            await placements.reserve(self._fetch, tenant, database, plan, weight, limits, residence)
        return (await self.tenants([tenant], removed=True))[tenant]

    async def rehome(self, tenant: str, database: str, epoch: int) -> bool:
        """Say that a tenant's home is another one, from this epoch on. False: the directory knows that, or a later
        one."""
        return await placements.point_directory(self._fetch, tenant, database, epoch)

    async def forget_terms(self, tenant: str) -> None:
        """Take name, plan, weight and limits of a removed tenant away."""
        await placements.forget_terms(self._fetch, tenant)

    async def import_tenants(
        self,
        ids: Iterable[str],
        database: str,
        *,
        plan: str | None = None,
        residence: Residence = Residence(),  # noqa: B008  a value
    ) -> int:
        """Add many tenants at once; those that are there stay as they are. Returns how many are new.

        Raises:
            LookupError: no such database.
        """
        with _placed_in(database), _upgraded():
            return await placements.add_many(self._fetch, list(ids), database, plan, residence)

    async def set_tenant(
        self,
        tenant: str,
        *,
        plan: str | None = None,
        weight: float | None = None,
        limits: dict[str, Any] | None = None,
    ) -> bool:
        """Change what is given, leave the rest. False: no such tenant."""
        return await placements.set_terms(self._fetch, tenant, plan, weight, limits)

    async def set_residence(self, tenant: str, region: str | None, tier: str | None) -> bool:
        """Change what a tenant asks of its home; "": nothing any more, None: as it was. False: no such tenant."""
        with _upgraded():
            return await placements.set_residence(self._fetch, tenant, region, tier)

    async def set_state(self, data: placements.Open, tenant: TenantRow, state: str) -> str:
        """Make a tenant "active", "suspended" or "removed", here and in its database; returns that one's name.

        Args:
            data: opens a session in a data database, as its operator.
            tenant: as it was just read.
        """
        return await placements.set_state(self._fetch, data, tenant.id, tenant.database, tenant.epoch, state)

    async def restore(self, data: placements.Open, tenant: TenantRow) -> str:
        """Let a tenant that was removed in again, where it lives. Arguments and result as of `set_state`.

        Raises:
            ValueError: another tenant is called as it was.
        """
        try:
            return await placements.restore(self._fetch, data, tenant.id, tenant.database, tenant.epoch)
        except asyncpg.UniqueViolationError:
            raise ValueError(f"another tenant is called {tenant.name!r} meanwhile") from None

    # -- databases ---------------------------------------------------------------------------------

    async def databases(self) -> list[DatabaseRow]:
        """Every database, by name."""
        rows = await self._fetch("SELECT name, kind, dsn, settings FROM tenantry.database ORDER BY name")
        return [
            DatabaseRow(row["name"], Kind(row["kind"]), row["dsn"], json.loads(row["settings"])) for row in rows
        ]

    async def put_database(self, name: str, kind: Kind, dsn: str, settings: dict[str, Any] | None = None) -> None:
        """Add a database, or change it. `dsn` is a reference, never a credential."""
        await self._fetch(
            "INSERT INTO tenantry.database (name, kind, dsn, settings) VALUES ($1, $2, $3, $4::jsonb) "
            "ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, dsn = excluded.dsn, "
            "settings = excluded.settings WHERE (database.kind, database.dsn, database.settings) "
            "IS DISTINCT FROM (excluded.kind, excluded.dsn, excluded.settings)",
            name,
            kind.value,
            dsn,
            json.dumps(settings or {}),
        )

    async def remove_database(self, name: str) -> bool:
        """Remove a database in which no tenant lives. False: no such database.

        Raises:
            ValueError: tenants live in it.
        """
        try:
            return await placements.remove_database(self._fetch, name)
        except asyncpg.ForeignKeyViolationError:
            raise ValueError(f"tenants live in database {name}; move them first") from None

    # -- what changed, who did what ----------------------------------------------------------------

    async def changes(self, mark: str) -> Changes:
        """Tenants changed since `mark`, 10,001 of them at most.

        The mark is the oldest transaction that was still running, so a change that commits late is told
        next time rather than missed.
        """
        rows = await self._fetch(
            "SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS mark, "
            "t.id, t.changed::text AS changed FROM (SELECT) AS one LEFT JOIN ("
            "SELECT id, changed FROM tenantry.tenant WHERE changed >= $1::text::xid8 ORDER BY changed LIMIT 10001"
            ") AS t ON true",
            mark,
        )
        return _changes(rows)

    async def differences(self, versions: Mapping[str, int]) -> Changes:
        """Which of these tenants have another version than the given one, and a mark for what comes later."""
        rows = await self._fetch(
            "SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS mark, "
            "k.id, t.changed::text AS changed FROM (SELECT) AS one LEFT JOIN ("
            "unnest($1::text[], $2::text[]) AS k (id, changed) LEFT JOIN tenantry.tenant AS t ON t.id = k.id"
            ") ON t.changed IS DISTINCT FROM k.changed::xid8",
            list(versions),
            [str(each) for each in versions.values()],
        )
        return _changes(rows)

    async def record(
        self,
        kind: str,
        actor: str,
        *,
        tenant: str | None = None,
        database: str | None = None,
        reason: str | None = None,
        detail: dict[str, Any] | None = None,
    ) -> int:
        """Write an event; returns its number."""
        rows = await self._fetch(
            "INSERT INTO tenantry.event (kind, actor, tenant, database, reason, detail) "
            "VALUES ($1, session_user || ' / ' || $2, $3, $4, $5, $6::jsonb) RETURNING id",
            kind,
            actor,
            tenant,
            database,
            reason,
            json.dumps(detail or {}),
        )
        return int(rows[0]["id"])

    async def amend(self, event: int, detail: dict[str, Any]) -> None:
        """Add to an event's detail: how it ended."""
        await self._fetch(
            "UPDATE tenantry.event SET detail = detail || $2::jsonb WHERE id = $1",
            event,
            json.dumps(detail),
        )


def _changes(rows: Sequence[asyncpg.Record]) -> Changes:
    found = {row["id"]: row["changed"] and int(row["changed"]) for row in rows if row["id"] is not None}
    return Changes(found, rows[0]["mark"])


def _tenant(row: asyncpg.Record) -> TenantRow:
    tenant, database, kind, epoch, state, plan, weight, limits, changed, *people = row  # in the order of `_NAMED`
    kept = {} if limits == "{}" else json.loads(limits)
    return TenantRow(tenant, database, _KINDS[kind], epoch, state, plan, weight, kept, int(changed), *people)
