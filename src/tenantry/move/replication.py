"""Publications, slots and subscriptions of a move: made once, found again, taken away. All idempotent."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final

import asyncpg

from tenantry import sql
from tenantry.move.context import Direction, MoveContext
from tenantry.move.errors import MoveError, MoveStopped
from tenantry.move.progress import Retrying
from tenantry.move.session import Connection, Endpoint, connect, conninfo, publisher_options, session
from tenantry.runtime.connection_errors import TRANSIENT
from tenantry.runtime.sqltext import identifier, literal

#: How long the reader of a slot that is to go is waited for. Seconds.
_SLOT_SECONDS: Final = 60.0
#: Between two attempts to take a slot away: less than its reader needs to come back. Seconds.
_SLOT_PAUSE: Final = 0.002
#: What an open publication carries. TRUNCATE is not: it isn't filtered, so it would empty everybody's rows.
#: That one happened is told by the tables' files (sql/move/storage.sql).
ROWS: Final = "insert, update, delete"
#: What the link of the reference tables carries: they are published whole, and some reload them by TRUNCATE and
#: INSERT. Where rows of tenants reference one, the target refuses its TRUNCATE as the source does.
ROWS_AND_TRUNCATE: Final = "insert, update, delete, truncate"
#: A publication with nothing to say yet. Opening it later takes no lock on any table.
NO_OPERATIONS: Final = ""
#: Of the subscriptions named $1 those of this database; how they connect is a superuser's to read.
_SUBSCRIBED: Final = (
    "SELECT subname::text AS name, has_column_privilege('pg_subscription', 'subconninfo', 'SELECT') AS readable "
    "FROM pg_subscription WHERE subname = ANY ($1::text[]) "
    "AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_CONNECTS: Final = (
    "SELECT subconninfo FROM pg_subscription WHERE subname = $1 "
    "AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


async def publish(context: MoveContext, direction: Direction, connection: Connection, publish: str) -> None:
    """Make this way's publication: the tenant's rows, the markers, and the tenant's placement.

    The placement travels with the rows, so the flip itself makes the new home admit the tenant, whether or not
    the mover lives to see it, and not a moment before the flip is committed.
    """
    name, tenant = context.replication_name(direction), literal(context.plan.tenant)
    entries = [f"{table.quoted} WHERE {table.where(context.plan.tenant)}" for table in context.plan.tables]
    entries.append(
        f"tenantry.move_marker WHERE (move = {literal(context.plan.id)} AND direction = {literal(direction.name)})"
    )
    entries.append(f"tenantry.placement WHERE (tenant = {tenant})")
    await make_publication(connection, name, entries, publish)


async def publish_reference(context: MoveContext, connection: Connection) -> None:
    """Make the publication of the reference tables, whole."""
    entries = [table.quoted for table in context.plan.references]
    await make_publication(connection, context.reference_name, entries, ROWS_AND_TRUNCATE)


async def make_publication(connection: Connection, name: str, entries: Sequence[str], publish: str) -> None:
    """Make a publication, or find it."""
    if await connection.fetchval("SELECT 1 FROM pg_publication WHERE pubname = $1", name):
        return
    with contextlib.suppress(asyncpg.DuplicateObjectError):
        await connection.execute(
            f"CREATE PUBLICATION {identifier(name)} FOR TABLE {', '.join(entries)} "
            f"WITH (publish = {literal(publish)}, publish_via_partition_root = true)"
        )


async def set_operations(connection: Connection, name: str, publish: str) -> None:
    """Open or close a publication. Takes no lock on the tables."""
    await connection.execute(f"ALTER PUBLICATION {identifier(name)} SET (publish = {literal(publish)})")


async def set_identities(context: MoveContext, connection: Connection) -> None:
    """Make the replica identities hold the tenant column, where they don't yet: of tables and their partitions.

    Before the publication: with a filter on a column outside the identity, UPDATE and DELETE fail for every
    tenant at once. The lock is exclusive but brief.

    Raises:
        MoveStopped: somebody has used a table for longer than the limits' patience.
    """
    for table in context.plan.tables:
        if table.identity is None:
            continue
        index = f"{identifier(table.schema)}.{identifier(table.identity)}" if table.identity else None
        while parts := await connection.fetch(sql.query("move/identities"), table.quoted, index):
            part = parts[0]
            if index is not None and part["index"] is None:
                raise MoveError(
                    f"index {index} is gone since the move was planned; abort the move and plan it anew"
                )
            identity = "FULL" if index is None else f"USING INDEX {identifier(part['index'])}"
            await _alter(context, connection, part["part"], f"REPLICA IDENTITY {identity}")


async def _alter(context: MoveContext, connection: Connection, table: str, change: str) -> None:
    """Alter a table without holding up those who use it.

    Whoever comes behind a lock that is waited for waits too. So nothing is asked for while somebody is seen who
    has had the table for longer than a second, and looked for more and more seldom; else it is asked for 100 ms at
    a time.
    """
    deadline = time.monotonic() + context.limits.patience
    wait = 0.2
    while True:
        users = await connection.fetch(sql.query("move/users"), table)
        long = any(user["long"] for user in users)
        if not long:
            try:
                await connection.execute(
                    f"BEGIN; SET LOCAL lock_timeout = '100ms'; ALTER TABLE {table} {change}; COMMIT"
                )
            except asyncpg.LockNotAvailableError:
                await connection.execute("ROLLBACK")
            else:
                return
        if time.monotonic() + wait > deadline:
            who = ", ".join(user["who"] for user in users[:5]) or "transactions that have ended since"
            raise MoveStopped(
                context.plan.id,
                f"the replica identity of {table} had to wait too long for: {who}; "
                "end what is idle there, or go on when it is quieter",
            )
        context.tell(Retrying(context.plan.id, f"identity of {table}", _names(users), wait))
        await asyncio.sleep(wait)  # lets those pass who queued behind us
        wait = min(wait * 2, 5.0) if long else 0.4


def _names(users: Sequence[asyncpg.Record]) -> str:
    return "it is in use by " + (", ".join(user["who"] for user in users[:3]) or "many, briefly")


@contextlib.asynccontextmanager
async def slot_with_snapshot(context: MoveContext, direction: Direction) -> AsyncIterator[str]:
    """Make the slot and yield a snapshot of exactly its starting point; the snapshot ends with the context.

    The slot comes before the subscription: CREATE SUBSCRIPTION that makes its own slot hangs for ever when both
    ends are one cluster. Making it waits for every transaction with an xid in the whole cluster.
    """
    name = context.replication_name(direction)
    connection = await connect(direction.source.dsn, f"slot {context.plan.id}", replication="database")
    try:
        try:
            await connection.execute(
                f"CREATE_REPLICATION_SLOT {identifier(name)} LOGICAL pgoutput (SNAPSHOT 'export')",
                timeout=context.limits.patience,
            )
        except TimeoutError:
            raise MoveStopped(context.plan.id, await _who_delays(direction.source)) from None
        async with session(direction.source, f"snapshot {context.plan.id}") as source_side:
            snapshot = await _exported(source_side, connection.get_server_pid())
            if context.plan.references:
                # A copy of the slot starts at the same point, so one snapshot serves both.
                await source_side.execute(
                    f"SELECT pg_copy_logical_replication_slot({literal(name)}, {literal(context.reference_name)})"
                )
        yield snapshot
    finally:
        connection.terminate()


async def _exported(source_side: Connection, pid: int) -> str:
    # asyncpg gives no rows of replication commands, but an exported snapshot is named after its transaction
    # (snapmgr.c, ExportSnapshot): backend and local transaction id in hexadecimal, and a count.
    virtual = await source_side.fetchval(
        "SELECT virtualtransaction FROM pg_locks WHERE pid = $1 AND locktype = 'virtualxid' LIMIT 1", pid
    )
    backend, local = str(virtual).split("/")
    return f"{int(backend):08X}-{int(local):08X}-1"


async def _who_delays(endpoint: Endpoint) -> str:
    async with session(endpoint, "diagnosis") as connection:
        # The oldest first: among many short ones it is the one that was waited for.
        rows = await connection.fetch(
            "SELECT format('pid %s (%s on %s, %s for %s s)', pid, usename, datname, state, "
            "round(extract(epoch FROM clock_timestamp() - xact_start))) AS who, xact_start AS since "
            "FROM pg_stat_activity WHERE backend_xid IS NOT NULL UNION ALL "
            "SELECT format('prepared transaction %s', gid), prepared FROM pg_prepared_xacts ORDER BY since LIMIT 5"
        )
    who = ", ".join(row["who"] for row in rows) or "a transaction that has ended since"
    return f"the slot had to wait too long for: {who}"


async def make_slot(context: MoveContext, place: Endpoint, connection: Connection, name: str) -> None:
    """Make a logical slot at `place` that starts now, or find it. `connection` is to there.

    Raises:
        MoveStopped: a transaction of that cluster would not end.
    """
    if await connection.fetchval("SELECT 1 FROM pg_replication_slots WHERE slot_name = $1", name):
        return
    make = f"SELECT pg_create_logical_replication_slot({literal(name)}, 'pgoutput')"
    try:
        with contextlib.suppress(asyncpg.DuplicateObjectError):
            await connection.execute(make, timeout=context.limits.patience)
    except TimeoutError:
        raise MoveStopped(context.plan.id, await _who_delays(place)) from None


async def subscribe(connection: Connection, publisher: Endpoint, name: str, *, major: int, origin: str) -> None:
    """Make a subscription to the publication and slot of the same name, disabled, without copying.

    synchronous_commit: what the other side has confirmed is on its disk. A subscription commits asynchronously
    by default, and a crash would lose what was applied.
    """
    if await connection.fetchval("SELECT 1 FROM pg_subscription WHERE subname = $1", name):
        return
    options = {
        "create_slot": "false",
        "copy_data": "false",
        "enabled": "false",
        "slot_name": literal(name),
        "synchronous_commit": "'on'",
        "streaming": "'off'",
    }
    if connection.get_server_version().major >= 16:
        options |= {"run_as_owner": "true", "origin": origin}
    info = _subscribed(publisher, name, major)
    listed = ", ".join(f"{key} = {value}" for key, value in options.items())
    with contextlib.suppress(asyncpg.DuplicateObjectError):
        await connection.execute(
            f"CREATE SUBSCRIPTION {identifier(name)} CONNECTION {literal(info)} "
            f"PUBLICATION {identifier(name)} WITH ({listed})"
        )


def _subscribed(publisher: Endpoint, name: str, major: int) -> str:
    """How a subscription connects to a publisher of this major version."""
    return conninfo(publisher.peer_dsn or publisher.dsn, options=publisher_options(major), application_name=name)


async def renew_connections(context: MoveContext) -> None:
    """Let the move's subscriptions connect as the mover does now: a password may have been rotated since they were
    made. An end that can't be reached is left; the step that needs it will say so."""
    ways = (
        (context.forward, (context.replication_name(context.forward), context.reference_name)),
        (context.reverse, (context.replication_name(context.reverse),)),
    )
    for direction, names in ways:
        with contextlib.suppress(asyncpg.PostgresError, MoveError, *TRANSIENT):
            async with (
                session(direction.source, f"renew {context.plan.id}") as publisher,
                session(direction.target, f"renew {context.plan.id}") as subscriber,
            ):
                major = publisher.get_server_version().major
                for row in await subscriber.fetch(_SUBSCRIBED, list(names)):
                    info = _subscribed(direction.source, row["name"], major)
                    if row["readable"] and await subscriber.fetchval(_CONNECTS, row["name"]) == info:
                        continue  # the worker is left alone
                    await subscriber.execute(
                        f"ALTER SUBSCRIPTION {identifier(row['name'])} CONNECTION {literal(info)}"
                    )


async def enable(connection: Connection, name: str) -> None:
    """Let a subscription run."""
    await connection.execute(f"ALTER SUBSCRIPTION {identifier(name)} ENABLE")


async def drop_subscription(connection: Connection, name: str) -> None:
    """Take a subscription away, its slot not: the publisher may be gone."""
    if not await connection.fetchval("SELECT 1 FROM pg_subscription WHERE subname = $1", name):
        return
    quoted = identifier(name)
    await connection.execute(f"ALTER SUBSCRIPTION {quoted} DISABLE")
    await connection.execute(f"ALTER SUBSCRIPTION {quoted} SET (slot_name = NONE)")
    await connection.execute(f"DROP SUBSCRIPTION {quoted}")


async def drop_slot(connection: Connection, name: str) -> None:
    """Take a slot away, ending whoever streams from it."""
    state = "SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1"
    deadline = time.monotonic() + _SLOT_SECONDS
    while True:
        rows = await connection.fetch(state, name)
        if not rows:
            return
        if time.monotonic() > deadline:
            raise MoveError(f"slot {name} is in use by pid {rows[0]['active_pid']}, which does not end; end it")
        if rows[0]["active_pid"] is not None:
            # Its end is not waited for here: that looks again after 100 ms only, and by then a reader that was
            # ended is back (an apply worker, after wal_retrieve_retry_interval).
            await connection.execute(f"SELECT pg_terminate_backend({rows[0]['active_pid']})")
        with contextlib.suppress(asyncpg.ObjectInUseError, asyncpg.UndefinedObjectError):
            await connection.execute(f"SELECT pg_drop_replication_slot({literal(name)})")
        await asyncio.sleep(_SLOT_PAUSE)


async def drop_publication(connection: Connection, name: str) -> None:
    """Take a publication away."""
    await connection.execute(f"DROP PUBLICATION IF EXISTS {identifier(name)}")
