"""Asks every database of the fleet, some at a time; a database that does not answer is a fact, no error."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

import asyncpg

from tenantry import sql
from tenantry.catalog import guards
from tenantry.catalog.fingerprint import Fingerprint
from tenantry.catalog.read import read_distributed, read_fingerprint, read_tables
from tenantry.catalog.tables import tenant_tables
from tenantry.catalog.values import Way
from tenantry.config import ResolvedDatabase
from tenantry.directory import DatabaseRow
from tenantry.errors import DatabaseUnavailable, DsnUnreadable, TenantryError
from tenantry.move import Leftover
from tenantry.move.journal import Journal
from tenantry.operations.backups import measure, policies
from tenantry.operations.check.gate import Gate, address
from tenantry.operations.context import Context
from tenantry.operations.migrate.journal import MigrationJournal
from tenantry.operations.migrate.values import MigrateRun
from tenantry.operations.placements import PlacementFinding, look
from tenantry.router import driver, self_test
from tenantry.router.driver import Connection
from tenantry.router.roles import control_access, problems
from tenantry.router.roles import query as role_query
from tenantry.runtime.connection_errors import ANY_FAILURE, BROKEN
from tenantry.wiring import tenancy_of

#: Seconds for one connection, and for what is tried on it.
CONNECT: Final = 5.0
#: Seconds for all that one session asks: a server that takes connections and does not answer holds nothing up.
LOOK: Final = 20.0
#: Seconds to wait for a table that somebody has locked.
PATIENCE: Final = 1.0
#: Since when servers count what subscriptions could not apply, as server_version_num.
OLDEST_COUNTED: Final = 150000

_LOST: Final = (asyncpg.PostgresConnectionError, asyncpg.ProtocolViolationError, *BROKEN)


class CitusFacts(NamedTuple):
    """What a database with Citus says of itself."""

    version: str
    coordinator: bool
    """False: it is a worker, where no tenant's placement is."""
    elsewhere: tuple[str, ...] = ()
    """Tenant tables that are distributed by another column, or by none, as `schema.name`."""


@dataclass(frozen=True, slots=True)
class Reached:
    """What one DSN led to."""

    error: str | None = None
    """Why it can't be used; None: it can."""
    missing: bool = False
    """The server answers, the database is not there."""
    statement_pooler: bool = False
    pooled: bool = False
    version: int = 0
    """As server_version_num: 160014."""
    version_text: str | None = None
    role: str | None = None
    cluster: str | None = None
    """Which server it is: databases with the same one share its connections."""
    replica: bool = False
    max_connections: int = 0
    reserved: int = 0
    skew: float = 0.0
    """Seconds that the server's clock is ahead of ours, beyond what the round trip explains."""
    tls: bool | None = None
    installed: bool = False
    role_problems: tuple[tuple[str, str], ...] = ()
    """Ways past row-level security, each with its fix."""
    schema: int | None = None
    """Number of the last migration; None: not readable by this role."""
    local: dict[str, Any] | None = None
    """The row of tenantry.database_identity; None: not readable, or not there."""
    functions: tuple[str, str] | None = None
    """Form and checksum of the schema's functions; None: not readable, or not there."""
    control_access: tuple[str, ...] = ()
    """What the role may do with the control tables, where they stand in this database."""
    directory_roles: tuple[str, ...] = ()
    """Of the control database: all roles but superusers that may read or write its tables."""
    unguarded: tuple[str, ...] = ()
    """Tenant tables that the fence of a move would not hold for everybody."""
    stuck: tuple[str, ...] = ()
    """Subscriptions of moves that can't apply what they are sent."""
    undecided: tuple[str, ...] = ()
    """Tables of which nothing says whose rows they hold, as `schema.name`."""
    unmatched: tuple[str, ...] = ()
    """Overrides of `tenancy.tables` whose table is not there, though other tables are."""
    fingerprint: Fingerprint | None = None
    """Of the product's schema; None: not asked, or a table was locked."""
    citus: CitusFacts | None = None
    """None: the database has no Citus."""


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """One database."""

    database: ResolvedDatabase
    router: Reached
    """By the routers' DSN."""
    operator: Reached | None
    """By the operator's; None: none is configured."""
    direct: Reached | None
    unpipelined: str | None = None
    """Why scopes can't be opened together with their first statements."""


@dataclass(frozen=True, slots=True)
class FleetFacts:
    """All that was found out."""

    control: Reached
    listen: Reached | None
    """By control.direct_dsn; None: none is configured."""
    databases: tuple[DatabaseFacts, ...]
    directory: tuple[DatabaseRow, ...] | None
    """None: the directory can't be read."""
    leftovers: tuple[Leftover, ...] = ()
    """What moves have in databases while no mover is at work."""
    why_no_directory: str | None = field(default=None)
    backups: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """By database with a policy: seconds since its last backup began (infinite: none), and seconds allowed."""
    placements: tuple[PlacementFinding, ...] = ()
    """Tenants that are where they may not be."""
    migration: MigrateRun | None = None
    """The unfinished run of `tenantry migrate`, else the last one."""


async def gather(context: Context) -> FleetFacts:
    """Ask everything. Raises ConfigError only."""
    control = context.config.control
    gate = Gate()
    listening = control.direct_dsn is not None
    asked = [
        reach(context, gate, "control", control.dsn.get_secret_value(), "control"),
        reach(context, gate, "control", control.listen_dsn, "control") if listening else _nothing(),
    ]
    first, listen = await asyncio.gather(*asked)
    assert first is not None
    directory, why = await _directory(context)
    databases = await context.databases() if directory is not None else context.configured()
    asking = asyncio.gather(*(_ask(context, gate, database) for database in databases.values()))
    if directory is None:
        return FleetFacts(first, listen, tuple(await asking), None, why_no_directory=why)
    found, leftovers, backups, placed, migration = await asyncio.gather(
        asking, _leftovers(context), _backups(context), _placements(context), _migration(context)
    )
    return FleetFacts(first, listen, tuple(found), directory, leftovers, why, backups, placed, migration)


async def _ask(context: Context, gate: Gate, database: ResolvedDatabase) -> DatabaseFacts:
    def by(role: str, dsn: str | None, side: str) -> Any:
        if role in database.unreadable:
            return _unreadable(database.unreadable[role])
        if dsn is None:
            return _nothing()
        return reach(context, gate, database.name, dsn, side, fingerprint=role == "dsn")

    router = await by("dsn", database.dsn, "data")
    # What a database holds, one session tells; the others are asked for what the routers' role may not read.
    side = "data" if router.error is not None else "login" if router.local is not None else "schema"
    operator, direct = await asyncio.gather(
        by("operator", database.operator_dsn, side), by("direct", database.direct_dsn, side)
    )
    unpipelined = None
    if router.error is None:
        unpipelined = await _pipelining(gate, database, pooled=router.pooled)
    return DatabaseFacts(database, router, operator, direct, unpipelined)


async def _pipelining(gate: Gate, database: ResolvedDatabase, *, pooled: bool) -> str | None:
    """Why a router's scopes would take a flight more here; None: they do not, or the database is away by now.

    It is the server's and asyncpg's to say, so databases that are reached alike on one server are asked once; a
    pooler may treat each of its databases in a way of its own.
    """
    assert database.dsn is not None
    key = (
        database.name if pooled else address(database.dsn),
        database.prepared_statements,
        tuple(sorted(database.server_settings.items())),
    )
    known = gate.unpipelined.get(key)
    if known is not None:
        return await asyncio.shield(known)
    known = gate.unpipelined[key] = asyncio.get_running_loop().create_future()
    try:
        known.set_result(await _try_pipelining(gate, database, database.dsn))
    finally:
        if not known.done():
            known.set_result(None)  # cancelled: nobody waits any more
    return known.result()


async def _try_pipelining(gate: Gate, database: ResolvedDatabase, dsn: str) -> str | None:
    async with gate.of(dsn):
        try:
            connection = await driver.connect(
                dsn,
                timeout=CONNECT,
                application_name="tenantry check",
                settings=database.server_settings,
                cached_statements=database.prepared_statements is not False,
            )
        except ANY_FAILURE:
            return None
        why = await self_test.run(connection, CONNECT)
        if why is None:
            await driver.close(connection)
        else:
            connection.terminate()  # its state is anybody's guess
        return why


async def _unreadable(error: DsnUnreadable) -> Reached:
    return Reached(error=str(error))


async def reach(
    context: Context, gate: Gate, name: str, dsn: str, side: str, *, fingerprint: bool = False
) -> Reached:
    """What one DSN leads to.

    Args:
        side: "control", "data", or, where another session tells what a data database holds, "schema", or "login"
            for nothing but whether it lets us in.
        fingerprint: read the product's schema too.
    """
    async with gate.of(dsn):
        try:
            async with asyncio.timeout(LOOK), context.connect(name, dsn) as connection:
                found = await _look(context, connection, side)
                return replace(found, fingerprint=await _fingerprint(connection)) if fingerprint else found
        except DatabaseUnavailable as error:
            missing = isinstance(error.__context__, asyncpg.InvalidCatalogNameError)
            return Reached(error=str(error), missing=missing)
        except TimeoutError:
            return Reached(error=f"it takes connections and did not answer within {LOOK:.0f} s")
        except _LOST as error:
            # PgBouncer in statement mode cuts the connection at BEGIN, and says why.
            return Reached(error=context.why(error), statement_pooler="statement pooling" in str(error))
        except (asyncpg.PostgresError, TenantryError) as error:
            return Reached(error=context.why(error))


async def _look(context: Context, connection: Connection, side: str) -> Reached:
    await connection.execute("BEGIN")
    sent = time.time()
    server = await connection.fetchrow(sql.query("check/server"))
    received = time.time()
    assert server is not None
    if side == "login":
        known = _Schema()
    else:
        schema = "control" if side == "control" else "data"
        known = await _schema(connection, schema, installed=server["installed"])
    if side in ("login", "schema"):
        await connection.execute("ROLLBACK")
        return _reached(connection, server, known, (sent + received) / 2, (received - sent) / 2)
    roles = await connection.fetchrow(role_query(), True, context.config.tenancy.setting)
    assert roles is not None
    installed = server["installed"] if side == "control" else roles["installed"]
    counted = side == "data" and server["version"] >= OLDEST_COUNTED
    stuck = await connection.fetch(sql.query("check/links")) if counted else ()
    placed = await _tables(context, connection) if side == "data" else _Tables()
    directory_roles = await _directory_roles(connection) if side == "control" and server["installed"] else ()
    tenancy, ours = tenancy_of(context.config), side == "data" and installed
    unproven = await guards.unproven(connection, tenancy) if ours and roles["hardened"] else ()
    unguarded = await guards.unguarded(connection, tenancy) if ours else ()
    citus = await _citus(context, connection) if side == "data" else None
    await connection.execute("ROLLBACK")
    return replace(
        _reached(connection, server, known, (sent + received) / 2, (received - sent) / 2),
        installed=installed,
        role_problems=(*problems(dict(roles), tenancy), *unproven),
        control_access=control_access(dict(roles)),
        directory_roles=directory_roles,
        unguarded=unguarded,
        stuck=tuple(row["name"] for row in stuck),
        undecided=placed.undecided,
        unmatched=placed.unmatched,
        citus=citus,
    )


def _reached(
    connection: Connection, server: asyncpg.Record, known: _Schema, middle: float, half: float
) -> Reached:
    """What every session tells.

    Args:
        middle: our clock half-way between the question and the answer of `server`; each is `half` seconds away.
    """
    off = server["clock"] - middle
    return Reached(
        pooled=server["backend"] != connection.get_server_pid(),
        version=server["version"],
        version_text=server["version_text"].partition(" ")[0],
        role=server["role"],
        cluster=server["cluster"],
        replica=server["replica"],
        max_connections=server["max_connections"],
        reserved=server["reserved"],
        skew=0.0 if abs(off) <= half else off - half if off > 0 else off + half,
        tls=_tls(connection),
        installed=server["installed"],
        schema=known.number,
        local=known.local,
        functions=known.functions,
    )


async def _citus(context: Context, connection: Connection) -> CitusFacts | None:
    if not await connection.fetchval("SELECT to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL"):
        return None
    row = await connection.fetchrow(sql.query("check/citus"))
    assert row is not None
    distributed = await read_distributed(connection)
    tables = await read_tables(connection)
    elsewhere = [
        tables.relations[oid].key
        for oid, column in tenant_tables(tables, tenancy_of(context.config)).tenants.items()
        if distributed and distributed.get(oid) != column.name and not tables.ancestors(oid)
    ]
    return CitusFacts(row["version"] or "", row["coordinator"], tuple(sorted(elsewhere)))


async def _fingerprint(connection: Connection) -> Fingerprint | None:
    try:
        return await read_fingerprint(connection, patience=PATIENCE)
    except asyncpg.LockNotAvailableError:
        return None


class _Tables(NamedTuple):
    """What somebody has to decide of a database's tables."""

    undecided: tuple[str, ...] = ()
    unmatched: tuple[str, ...] = ()


async def _tables(context: Context, connection: Connection) -> _Tables:
    """Ask the catalog. A database without tables is one whose product is not there yet: nothing to decide."""
    tables = await read_tables(connection)
    if not tables.relations:
        return _Tables()
    placed = tenant_tables(tables, tenancy_of(context.config))
    questions = (*placed.unclear.values(), *placed.without.values())
    return _Tables(tuple(sorted(q.object for q in questions)), tuple(q.object for q in placed.unmatched))


async def _directory_roles(connection: Connection) -> tuple[str, ...]:
    """Who may use the control tables: by a grant, as their owner, or as a member of such a role."""
    ways = [Way._make(row) for row in await connection.fetch(sql.query("catalog/ways"), None)]
    owners = {one.role for one in ways if one.way == "ours" and one.privilege in ("SCHEMA", "TABLE")}
    return tuple(sorted({one.role for one in ways if one.way == "directory"} | owners))


class _Schema(NamedTuple):
    """What this role can read of the tenantry schema."""

    number: int | None = None
    local: dict[str, Any] | None = None
    functions: tuple[str, str] | None = None


async def _schema(connection: Connection, side: str, *, installed: bool) -> _Schema:
    if not installed:
        return _Schema(number=0)
    found = _Schema()
    await connection.execute("SAVEPOINT here")
    try:
        found = found._replace(number=await connection.fetchval(sql.query("check/schema"), side))
        functions = await connection.fetchrow(sql.query("check/functions"), side)
        found = found._replace(functions=None if functions is None else (functions[0], functions[1]))
        if side == "data":
            row = await connection.fetchrow(sql.query("check/local"))
            found = found._replace(local=None if row is None else dict(row))
    except (asyncpg.InsufficientPrivilegeError, asyncpg.UndefinedTableError):
        # Not for this role to read, or made by an earlier tenantry, whose tables had other names.
        await connection.execute("ROLLBACK TO SAVEPOINT here")
    return found


def _tls(connection: Connection) -> bool | None:
    """Whether the connection is encrypted, as far as our side knows."""
    transport = getattr(connection, "_transport", None)
    return None if transport is None else transport.get_extra_info("ssl_object") is not None


async def _directory(context: Context) -> tuple[tuple[DatabaseRow, ...] | None, str | None]:
    try:
        return tuple(await context.store.databases()), None
    except (TenantryError, asyncpg.PostgresError, TimeoutError) as error:
        return None, str(error)


async def _leftovers(context: Context) -> tuple[Leftover, ...]:
    try:
        return tuple(await Journal(context.config.control.listen_dsn).leftovers())
    except ANY_FAILURE:
        return ()


async def _backups(context: Context) -> dict[str, tuple[float, float]]:
    try:
        wanted = await policies(context.store, context.config)
        measured = await measure(context.store, context.config)
    except ANY_FAILURE:
        return {}
    return {name: (measured[name], wanted[name].backup.every) for name in wanted if name in measured}


async def _placements(context: Context) -> tuple[PlacementFinding, ...]:
    try:
        return await look(context)
    except (TenantryError, asyncpg.PostgresError, TimeoutError):
        return ()


async def _nothing() -> None:
    return None


async def _migration(context: Context) -> MigrateRun | None:
    """None too where a schema of an earlier tenantry keeps no such journal, which has its own finding."""
    try:
        async with MigrationJournal.opened(context) as journal:
            return await journal.last()
    except (TenantryError, asyncpg.PostgresError, TimeoutError):
        return None
