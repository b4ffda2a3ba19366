"""Export: all rows of one tenant as of one snapshot, into one file.

The tables are locked against changes of their schema before the snapshot is taken: the catalogs, COPY and the
hashes then speak of the same tables. Two sessions share the snapshot: one copies, the other lets the server hash
the rows that the tenant's predicate finds. Their counts have to agree, so no stream can be cut short unseen.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

import asyncpg

from tenantry import __version__
from tenantry.catalog.tenancy import Tenancy
from tenantry.directory import TenantRow, placements
from tenantry.errors import OperationRefused
from tenantry.ids import IdType
from tenantry.move import Endpoint, failpoints
from tenantry.move.plan import TablePlan
from tenantry.move.session import Connection, blaming, session
from tenantry.move.shape import digest, read_shape
from tenantry.move.steps.digest import Digest, TableSide
from tenantry.operations.data.archive import ArchiveWriter, writing
from tenantry.operations.data.holdings import ForeignKey, Holdings, read_foreign_keys, read_holdings
from tenantry.operations.data.kits_data import export_kits
from tenantry.operations.data.manifest import (
    FORMAT,
    VERSION,
    ArchivedReference,
    ArchivedSequence,
    ArchivedTable,
    Manifest,
)
from tenantry.operations.data.progress import DataProgress, TellData
from tenantry.runtime.shielded import stop
from tenantry.runtime.sqltext import identifier

#: Bytes of a table that one statement of the hashing reads.
_CHUNK: Final = 32 * 1024 * 1024
#: How often it is begun anew while the schema changes.
_READINGS: Final = 3


class _Changed(Exception):
    """A migration came between the look at the catalogs and the lock."""


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """A tenant's data at one moment."""

    holdings: Holdings
    copying: Connection
    """In a transaction with the snapshot, as the next."""
    hashing: Connection
    taken: datetime


async def export(place: Endpoint, tenant: TenantRow, tenancy: Tenancy, path: Path, tell: TellData) -> Manifest:
    """Write the archive. Returns its manifest.

    Raises:
        ArchiveUnusable: the file can't be written.
        OperationRefused: not all of the tenant's rows can be taken, or it lives elsewhere by now.
    """
    for _ in range(_READINGS):
        with contextlib.suppress(_Changed), blaming(place):
            async with _snapshot(place, tenant, tenancy) as snapshot, writing(path) as archive:
                manifest = await _write(archive, snapshot, tenant, tenancy.id_type, tell)
                await archive.finish(manifest)
                failpoints.reach("export.written")
            return manifest
    raise OperationRefused(f"the schema of {place.name} is being changed: export when the migration is over")


@contextlib.asynccontextmanager
async def _snapshot(place: Endpoint, tenant: TenantRow, tenancy: Tenancy) -> AsyncIterator[_Snapshot]:
    async with session(place, "export") as copying, session(place, "export") as hashing:
        holdings = await read_holdings(copying, place.name, tenant.id, tenancy)
        begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        # LOCK takes no snapshot: what is seen afterwards is newer than whatever the locks have waited for.
        try:
            await copying.execute(f"{begin}; LOCK TABLE {', '.join(holdings.names)} IN ACCESS SHARE MODE")
        except asyncpg.LockNotAvailableError:
            raise OperationRefused(
                f"somebody keeps a table of {place.name} locked, against readers too: export when that is over"
            ) from None
        if digest(await read_shape(copying, holdings.names)) != holdings.shape:
            raise _Changed
        placed = await placements.read(copying, tenant.id)
        if placed is not None and placed.database != place.name:
            raise OperationRefused(
                f"tenant {tenant.id} has moved from {place.name} to {placed.database} meanwhile: export it again"
            )
        snapshot = await copying.fetchval("SELECT pg_export_snapshot()")
        await hashing.execute(f"{begin}; SET TRANSACTION SNAPSHOT '{snapshot}'")
        yield _Snapshot(holdings, copying, hashing, await copying.fetchval("SELECT now()"))


async def _write(
    archive: ArchiveWriter, snapshot: _Snapshot, tenant: TenantRow, id_type: IdType, tell: TellData
) -> Manifest:
    holdings = snapshot.holdings
    failpoints.reach("export.started")
    hashing = asyncio.create_task(_hash(snapshot, tenant.id))
    try:
        tables = [await _copy(archive, snapshot, table, tenant.id, tell) for table in holdings.tables]
        references = [one async for one in _references(archive, snapshot, tenant.id, tell)]
        kept = await export_kits(archive, snapshot.copying, tenant.id)
        sums = await hashing
    finally:
        await stop(hashing)
    for table in tables:
        if table.part.rows != sums[table.quoted].rows:
            raise OperationRefused(
                f"{table.quoted}: {table.part.rows} rows were copied and {sums[table.quoted].rows} are there. "
                "Nothing was written; please report this to tenantry's maintainers"
            )
    mine = {table.oid for table, _ in holdings.selection.tenant}
    return Manifest(
        format=FORMAT,
        version=VERSION,
        tenantry=__version__,
        server=str(await snapshot.copying.fetchval("SHOW server_version")),
        created=snapshot.taken.isoformat(),
        tenant=tenant.id,
        id_type=id_type.value,
        database=tenant.database,
        name=tenant.name,
        plan=tenant.plan,
        weight=tenant.weight,
        limits=tenant.limits,
        region=tenant.region,
        tier=tenant.tier,
        fingerprint=holdings.fingerprint,
        definitions=tuple((one.kind, one.name, one.normal) for one in holdings.definitions),
        tables=tuple(replace(table, digest=str(sums[table.quoted].sum)) for table in tables),
        references=tuple(references),
        kits=kept,
        sequences=tuple(
            ArchivedSequence(one.quoted, one.last)
            for one in holdings.sequences
            if any(oid in mine for oid, _ in one.feeds)
        ),
    )


async def _hash(snapshot: _Snapshot, tenant: str) -> dict[str, Digest]:
    return {table.quoted: await digest_of(snapshot.hashing, tenant, table) for table in snapshot.holdings.tables}


async def digest_of(connection: Connection, tenant: str, table: TablePlan, *, whole_table: bool = False) -> Digest:
    """Number and sum of the rows that the tenant has in a table, or of all, in the session's snapshot."""
    side = await TableSide.open(connection, tenant, table, _CHUNK, whole=whole_table)
    whole = Digest()
    async for chunk in side.digests():
        whole = whole.plus(chunk)
    return whole


async def _copy(
    archive: ArchiveWriter, snapshot: _Snapshot, table: TablePlan, tenant: str, tell: TellData
) -> ArchivedTable:
    columns = ", ".join(identifier(name) for name in table.columns)
    query = f"SELECT {columns} FROM {table.quoted} WHERE {table.where(tenant)}"  # noqa: S608  quoted
    part = await archive.copied(
        "tables", snapshot.copying, query, lambda size: tell(DataProgress("copying", table.quoted, size))
    )
    return ArchivedTable(table.schema, table.name, table.column, table.columns, "0", part)


async def _references(
    archive: ArchiveWriter, snapshot: _Snapshot, tenant: str, tell: TellData
) -> AsyncIterator[ArchivedReference]:
    """The keys that the rows need of tables that are no tenant's. By the tenant column they need the tenant
    itself, which may get another id."""
    tables = {table.quoted: table for table in snapshot.holdings.tables}
    for key in await read_foreign_keys(snapshot.copying, snapshot.holdings.tables):
        table = tables[key.root]
        if key.parent not in tables and table.column not in key.columns:
            yield await _keys(archive, snapshot, table, key, tenant, tell)


async def _keys(
    archive: ArchiveWriter, snapshot: _Snapshot, table: TablePlan, key: ForeignKey, tenant: str, tell: TellData
) -> ArchivedReference:
    columns = [identifier(name) for name in key.columns]
    some = " AND ".join(f"{name} IS NOT NULL" for name in columns)
    where = f"{table.where(tenant)} AND {some}"
    query = f"SELECT DISTINCT {', '.join(columns)} FROM {key.child} WHERE {where}"  # noqa: S608  quoted
    part = await archive.copied(
        "references", snapshot.copying, query, lambda size: tell(DataProgress("copying", key.parent, size))
    )
    return ArchivedReference(key.name, key.child, key.parent, key.far, part)
