"""The databases of the directory. Credentials are named there, never stored: see `config.databases`."""

from __future__ import annotations

from typing import Any, NamedTuple

from tenantry.config import Config, ResolvedDatabase, check_database_name
from tenantry.directory import DatabaseRow
from tenantry.errors import ConfigError, DatabaseExists, OperationRefused, UnknownDatabase
from tenantry.ids import LARGEST, Kind
from tenantry.operations.context import Context
from tenantry.operations.tenants import check_residence


class DatabaseDetails(NamedTuple):
    """A database, and who lives there."""

    database: ResolvedDatabase
    source: str
    """Who knows it: "file", "directory" or "both"."""
    tenants: int
    """How many live there."""


class Databases:
    """`Operations.databases`.

    Raises (every method): DatabaseUnavailable for "control" when the control database doesn't answer.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    async def list(self) -> tuple[DatabaseDetails, ...]:
        """Every database of the configuration and of the directory, in the order of the names."""
        counts = await self._context.store.count_tenants()
        known = await self._context.databases()
        return tuple(self._details(database, counts) for database in known.values())

    async def show(self, name: str) -> DatabaseDetails:
        """One database.

        Raises:
            UnknownDatabase: neither the configuration nor the directory has it.
        """
        database = await self._context.database(name)
        return self._details(database, await self._context.store.count_tenants())

    async def add(
        self,
        name: str,
        kind: Kind,
        dsn: str,
        *,
        operator: str | None = None,
        max: int | None = None,
        idle: float | None = None,
        region: str | None = None,
        tier: str | None = None,
        capacity: int | None = None,
        accepts: bool | None = None,
    ) -> DatabaseRow:
        """Add a database to the directory. Run `Operations.init` afterwards: it installs the schema there.

        Args:
            dsn: a reference to the routers' DSN: "env:NAME", "file:PATH", or "server:NAME": a move makes it there.
            operator: a reference to the operator's DSN.
            max: connections of one process's pool at most; None: 20.
            idle: seconds after which unused connections are closed; None: 600.
            region: tenants of this region live there; "" takes it away, None leaves it.
            tier: likewise.
            capacity: of a shared one: how many tenants it may have; 0: any number.
            accepts: of a shared one: whether sign-ups that name no database may choose it.

        Raises:
            DatabaseExists: the directory has it already.
            ConfigError: a name, a reference or a number can't be used.
        """
        check_database_name(name)
        self._check(dsn, operator)
        if await self._row(name) is not None:
            raise DatabaseExists(name)
        given = _Given(operator, max, idle, region, tier, capacity, accepts)
        return await self._put(DatabaseRow(name, kind, dsn, _settings({}, kind, given)), "database.added")

    async def set(
        self,
        name: str,
        *,
        kind: Kind | None = None,
        dsn: str | None = None,
        operator: str | None = None,
        max: int | None = None,
        idle: float | None = None,
        region: str | None = None,
        tier: str | None = None,
        capacity: int | None = None,
        accepts: bool | None = None,
    ) -> DatabaseRow:
        """Change what is given, leave the rest. The configuration wins for the databases that it names.

        Args: as of `add`.

        Raises:
            UnknownDatabase: the directory has no such database.
            OperationRefused: it holds several tenants and would become a dedicated one.
            ConfigError: a reference or a number can't be used.
        """
        self._check(dsn, operator)
        row = await self._there(name)
        living = (await self._context.store.count_tenants()).get(name, 0)
        if kind is Kind.DEDICATED and row.kind is not kind and living > 1:
            raise OperationRefused(f"database {name} holds {living} tenants, so it can't become a dedicated one")
        given = _Given(operator, max, idle, region, tier, capacity, accepts)
        settings = _settings(row.settings, kind or row.kind, given)
        return await self._put(DatabaseRow(name, kind or row.kind, dsn or row.dsn, settings), "database.changed")

    async def remove(self, name: str) -> None:
        """Take a database out of the directory. Nothing is dropped in it.

        Raises:
            UnknownDatabase: the directory has no such database.
            OperationRefused: tenants live there.
        """
        await self._there(name)
        try:
            await self._context.store.remove_database(name)
        except ValueError as error:
            raise OperationRefused(str(error)) from None
        await self._context.store.record("database.removed", self._context.actor, database=name)

    # -- how ---------------------------------------------------------------------------------------

    def _details(self, database: ResolvedDatabase, counts: dict[str, int]) -> DatabaseDetails:
        in_file, in_directory = database.name in self._context.config.databases, database.name in counts
        source = "both" if in_file and in_directory else "file" if in_file else "directory"
        return DatabaseDetails(database, source, counts.get(database.name, 0))

    async def _row(self, name: str) -> DatabaseRow | None:
        return next((row for row in await self._context.store.databases() if row.name == name), None)

    async def _there(self, name: str) -> DatabaseRow:
        rows = {row.name: row for row in await self._context.store.databases()}
        if name not in rows:
            raise UnknownDatabase(name, list(rows), "the directory has these; `tenantry apply` writes the file's")
        return rows[name]

    def _check(self, dsn: str | None, operator: str | None) -> None:
        """What is given; what the directory has already may be another machine's to read."""
        for key, reference in (("dsn", dsn), ("operator", operator)):
            if reference is not None:
                check_reference(self._context.config, reference, key)

    async def _put(self, row: DatabaseRow, event: str) -> DatabaseRow:
        await self._context.store.put_database(row.name, row.kind, row.dsn, row.settings)
        detail = {"kind": row.kind.value, "dsn": row.dsn, "settings": row.settings}
        await self._context.store.record(event, self._context.actor, database=row.name, detail=detail)
        return row


def check_reference(config: Config, reference: str, key: str) -> None:
    """See that a text is a reference to a DSN, and not a DSN.

    Raises:
        ConfigError: it isn't; it is not repeated, for it may be a secret.
    """
    scheme, _, target = reference.partition(":")
    if scheme not in ("env", "file", "server") or not target or "://" in reference:
        raise ConfigError("write env:NAME, file:PATH or server:NAME; never the DSN itself", key=key)
    if scheme == "env" and not target.replace("_", "a").isalnum():
        raise ConfigError("env: wants the name of an environment variable; never the DSN itself", key=key)
    if scheme == "server" and (key != "dsn" or target not in config.servers):
        known = ", ".join(config.servers) or "none"
        raise ConfigError(f"the configuration has no server {target}; there are: {known}", key=key)


class _Given(NamedTuple):
    """What is said of a database; None: nothing."""

    operator: str | None
    max: int | None
    idle: float | None
    region: str | None
    tier: str | None
    capacity: int | None
    accepts: bool | None


def _settings(before: dict[str, Any], kind: Kind, given: _Given) -> dict[str, Any]:
    if given.max is not None and not 1 <= given.max <= 10_000:
        raise ConfigError("is from 1 to 10000", key="max")
    if given.idle is not None and not 0 < given.idle < float("inf"):
        raise ConfigError("is a number of seconds above zero", key="idle")
    check_residence(given.region, given.tier)
    if given.capacity is not None and not 0 <= given.capacity <= LARGEST:
        raise ConfigError(f"is a number of tenants, {LARGEST} at most; 0: any number", key="capacity")
    if kind is Kind.DEDICATED and (given.capacity is not None or given.accepts is not None):
        raise ConfigError(
            "only a shared database takes sign-ups", key="accepts" if given.capacity is None else "capacity"
        )
    after = {**before, **{key: value for key, value in given._asdict().items() if value is not None}}
    gone = {"region": "", "tier": "", "capacity": 0, "accepts": True}
    return {key: value for key, value in after.items() if key not in gone or value != gone[key]}
