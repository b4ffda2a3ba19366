"""Erasure: one tenant's rows, gone from every database, with a receipt that says what was where.

First everything is looked at and counted; what can't be taken whole refuses before anything is touched. Then the
tenant is shut out, as a removal does, and rows are deleted in small transactions, the referencing ones first.
Each of them makes sure anew that nobody is let in there. At the end all is counted again. What a run has found is
written down before it deletes, so a run that was killed is gone on with by the next one, whose receipt says what
there was at first.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg

from tenantry import kits, sql
from tenantry.catalog.tenancy import Tenancy
from tenantry.directory import TenantRow
from tenantry.errors import ConfigError, DatabaseUnavailable, DsnUnreadable, OperationRefused
from tenantry.ids import TAG_PREFIX, tag
from tenantry.move import Endpoint, failpoints
from tenantry.move.plan import TablePlan
from tenantry.move.preflight import read_foreign_keys
from tenantry.move.session import Connection, blaming, session
from tenantry.operations.context import Context
from tenantry.operations.data.alone import Alone
from tenantry.operations.data.holdings import read_holdings
from tenantry.operations.data.progress import DataProgress, TellData
from tenantry.operations.data.receipt import ErasedDatabase, ErasedTable, ErasureReceipt
from tenantry.runtime.connection_errors import UNREACHABLE
from tenantry.runtime.sqltext import literal

#: Rows of one transaction, and seconds of rest after it: what bounds the time for which a lock is held.
_BATCH: Final = 2_000
_REST: Final = 0.01
#: Tables of ours in data databases that keep something of a tenant's data -> their tenant column.
_OURS: Final = {"audit_log": "tenant", "usage_copy": "tenant"}
#: Tables of the ledger with a tenant's id.
_LEDGER: Final = ("usage", "usage_day", "sample", "storage")
#: Whether the product has anything here.
_HAS_TABLES: Final = """
SELECT EXISTS (SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
               WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't'
               AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'tenantry'))
"""
#: Kinds of the events that an erasure leaves.
BEGUN: Final = "data.erasing"
DONE: Final = "data.erased"
#: Kinds of events after which an erasure that was broken off is not gone on with: the next one is another.
_CAME_BACK: Final = ("data.imported", "tenant.restored")


@dataclass(frozen=True, slots=True)
class Place:
    """A database that may hold rows of the tenant."""

    name: str
    kind: str
    endpoint: Endpoint | None
    """None: it can't be reached from here."""
    why: str | None = None
    """Why not."""


@dataclass(slots=True)
class Looked:
    """What was found in one database."""

    place: Endpoint
    told: ErasedDatabase
    tables: list[tuple[TablePlan, ErasedTable]]
    """Referencing ones first."""
    kits: bool
    """Whether it has kits, which keep limits and copies of tenants' data, also where the product has no tables."""


async def look(
    places: Sequence[Place], tenant: TenantRow, tenancy: Tenancy, receipt: ErasureReceipt, tell: TellData
) -> list[Looked]:
    """Count the tenant's rows everywhere. Touches nothing.

    Raises:
        OperationRefused: a database has rows that may be the tenant's and can't be told, or rows of others hang
            on its own.
    """
    found = []
    for place in places:
        told = ErasedDatabase(place.name, place.kind, place.name == tenant.database)
        receipt.databases.append(told)
        if place.endpoint is None:
            told.unread = place.why
            continue
        try:
            with blaming(place.endpoint):
                found.append(await _look(place.endpoint, told, tenant, tenancy, tell))
        except UNREACHABLE as error:
            told.unread = type(error).__name__
    return found


async def _look(
    place: Endpoint, told: ErasedDatabase, tenant: TenantRow, tenancy: Tenancy, tell: TellData
) -> Looked:
    async with session(place, "erase") as connection:
        tables = await _ours(connection)
        if await connection.fetchval(_HAS_TABLES):  # else the target of a move to come, or what was left of a home
            tables = [*await _products(connection, place, told, tenant, tenancy), *tables]
        counted = []
        for table in tables:
            tell(DataProgress("counting", f"{place.name} {table.quoted}", 0))
            entry = ErasedTable(table.quoted, await _count(connection, table, tenant.id))
            told.tables.append(entry)
            counted.append((table, entry))
        return Looked(place, told, counted, bool(await kits.installed(connection)))


async def _products(
    connection: Connection, place: Endpoint, told: ErasedDatabase, tenant: TenantRow, tenancy: Tenancy
) -> list[TablePlan]:
    """Tables of the product with rows of tenants, referencing ones first.

    Raises:
        OperationRefused: rows of others hang on the tenant's.
    """
    holdings = await read_holdings(connection, place.name, tenant.id, tenancy)
    crossing = [
        f"{one.rows or 'perhaps some'} rows of {one.child} reference this tenant's rows of {one.parent} by "
        f"{one.constraint} (SELECT c.* {one.query.partition('c.* ')[2]})"
        for one in await read_foreign_keys.read(connection, tenant.id, holdings.selection)
        if not one.outward
    ]
    if crossing:
        raise OperationRefused(
            f"in {place.name} rows of other tenants would reference nothing: {'; '.join(crossing)}. Mend "
            "these rows first; nothing was touched"
        )
    told.without_column = sorted(table.quoted for table in holdings.selection.other)
    return [*reversed(holdings.tables)]


async def _ours(connection: Connection) -> list[TablePlan]:
    """Tables of kits with copies of the tenant's data."""
    rows = await connection.fetch(
        "SELECT name FROM unnest($1::text[]) AS name WHERE to_regclass('tenantry.' || name) IS NOT NULL", [*_OURS]
    )
    return [TablePlan("tenantry", row["name"], _OURS[row["name"]], (), (), None, binary=False) for row in rows]


async def _count(connection: Connection, table: TablePlan, tenant: str) -> int:
    return int(await connection.fetchval(f"SELECT count(*) FROM {table.quoted} WHERE {table.where(tenant)}"))  # noqa: S608  quoted


async def begin(context: Context, tenant: TenantRow, receipt: ErasureReceipt, reason: str | None) -> None:
    """Write down what was found, or take over what an earlier run has, and shut the tenant out."""
    async with context.pool() as control:
        earlier = await control.fetchrow(
            "SELECT b.id, b.detail FROM tenantry.event AS b WHERE b.kind = $2 AND b.tenant = $1 AND NOT EXISTS ("
            "SELECT FROM tenantry.event AS d WHERE d.kind = ANY($3::text[]) AND d.tenant = $1 AND d.id > b.id) "
            "ORDER BY b.id LIMIT 1",
            tenant.id,
            BEGUN,
            [DONE, *_CAME_BACK],
        )
    if earlier is not None:
        detail = json.loads(earlier["detail"])
        receipt.erasure, receipt.resumed = earlier["id"], True
        _take_over(receipt, detail["found"])
    else:
        found = {one.database: {table.table: table.found for table in one.tables} for one in receipt.databases}
        receipt.erasure = await context.store.record(
            BEGUN,
            context.actor,
            tenant=tenant.id,
            database=tenant.database,
            reason=reason,
            detail={"found": found},
        )
    failpoints.reach("erase.begun")
    # Not by name: a tenant that was removed stays so, and its home is told again.
    await context.store.set_state(context.operator, tenant, "removed")
    failpoints.reach("erase.shut_out")


def _take_over(receipt: ErasureReceipt, found: Mapping[str, Mapping[str, int]]) -> None:
    for one in receipt.databases:
        for table in one.tables:
            table.found = max(table.found, found.get(one.database, {}).get(table.table, 0))


async def delete(looked: Sequence[Looked], tenant: str, alone: Alone, tell: TellData) -> None:
    """Delete what was found, database by database, and count again."""
    for one in (each for each in looked if each.tables or each.kits):
        await alone.check()
        with blaming(one.place):
            async with session(one.place, "erase", session_replication_role="replica") as connection:
                for table, entry in one.tables:
                    await _delete(connection, one.place, table, entry, tenant, tell)
                await kits.forget(connection, tenant)
                failpoints.reach("erase.counting")
                async with connection.transaction(isolation="repeatable_read", readonly=True):
                    for table, entry in one.tables:
                        entry.left = await _count(connection, table, tenant)


async def _delete(
    connection: Connection, place: Endpoint, table: TablePlan, entry: ErasedTable, tenant: str, tell: TellData
) -> None:
    while True:
        async with _nobody_there(connection, place, tenant):
            rows = int((await connection.execute(table.deletion(tenant, _BATCH))).split()[-1])
        if not rows:
            return
        failpoints.reach("erase.deleting")
        entry.deleted += rows
        tell(DataProgress("deleting", f"{place.name} {table.quoted}", rows))
        await asyncio.sleep(_REST)


@contextlib.asynccontextmanager
async def _nobody_there(connection: Connection, place: Endpoint, tenant: str) -> Any:
    """A transaction in which the tenant is not served from `place`, nor comes there.

    Raises:
        OperationRefused: it is let in again, or its transactions do not end.
    """
    async with connection.transaction():
        placed = await connection.fetchrow(
            "SELECT database, suspended FROM tenantry.placement WHERE tenant = $1 FOR SHARE", tenant
        )
        if placed is not None and placed["database"] == place.name and not placed["suspended"]:
            raise OperationRefused(f"tenant {tenant} was let into {place.name} again, so its rows stay")
        try:
            await connection.execute(
                f"SELECT pg_advisory_xact_lock(tenantry.lock_space(), tenantry.lock_key({literal(tenant)}))"
            )
        except asyncpg.LockNotAvailableError:
            rows = await connection.fetch(sql.query("move/blockers"), tenant)
            who = ", ".join(row["who"] for row in rows) or "a transaction that has ended since"
            raise OperationRefused(
                f"tenant {tenant} still works in {place.name}: {who}. End that, and erase again"
            ) from None
        yield


async def rename_in_ledger(context: Context, tenant: str, receipt: ErasureReceipt) -> None:
    """Take the id out of the ledger: sums and shares stay what they were. What stands there instead is written
    down nowhere else. What a router reports later is left for the next run."""
    nobody = f"erased-{secrets.token_hex(8)}"
    tagged = tag(tenant).removeprefix(TAG_PREFIX)
    async with context.pool() as control:
        for table in _LEDGER:
            status = await control.execute(
                f"UPDATE tenantry.{table} SET tenant = $1 WHERE tenant = ANY($2::text[])",  # noqa: S608  named above
                nobody,
                [tenant, tagged],
            )
            receipt.ledger[table] = int(status.split()[-1])
    failpoints.reach("erase.ledger")


async def forget_tokens(context: Context, tenant: str, receipt: ErasureReceipt, reason: str | None) -> None:
    """Revoke the tenant's sync tokens, which tells every router, and delete them: their labels name people, and so
    do those in the record, and the tenant's own name."""
    await context.store.tokens.revoke(None, tenant, actor=context.actor, reason=reason)
    async with context.pool() as control:
        status = await control.execute("DELETE FROM tenantry.sync_token WHERE tenant = $1", tenant)
        receipt.tokens = int(status.split()[-1])
        await control.execute(
            "UPDATE tenantry.event SET detail = detail - '{label,name}'::text[] WHERE tenant = $1 "
            "AND detail ?| '{label,name}'",
            tenant,
        )


async def finish(context: Context, tenant: TenantRow, receipt: ErasureReceipt, reason: str | None) -> None:
    """Leave of the directory's row what keeps the id from coming back, and write the end down."""
    await context.store.forget_terms(tenant.id)
    receipt.ended = now()
    if receipt.complete:
        await context.store.record(
            DONE,
            context.actor,
            tenant=tenant.id,
            database=tenant.database,
            reason=reason,
            detail={"receipt": receipt.as_json()},
        )


def now() -> str:
    """UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def usable(name: str, kind: str, make: Any) -> Place:
    """A database as `make` reaches it."""
    try:
        return Place(name, kind, make())
    except (ConfigError, DsnUnreadable, DatabaseUnavailable) as error:
        return Place(name, kind, None, str(error))
