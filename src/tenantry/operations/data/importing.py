"""Import: an archive's rows into a database, all of them or none.

The whole file is read and compared with its hashes before anything is written. The rows are written in one
transaction, with the tenant's lock held, without triggers; what those would have watched is looked at afterwards:
every foreign key, and every table's rows against the archive's hashes. The tenant is let in last. Whoever dies on
the way leaves either nothing, or all rows and a tenant that is not let in yet: the same import again sees that the
rows are the archive's, and ends it.

No row of an archive says whose it is. The tenant's id is written in front of each line here, so an archive can't
bring rows of another tenant, whatever somebody has made of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from typing import Final

import asyncpg

from tenantry.catalog.tenancy import Tenancy
from tenantry.directory import placements
from tenantry.errors import OperationRefused
from tenantry.ids import Kind
from tenantry.move import Endpoint, failpoints
from tenantry.move.plan import TablePlan
from tenantry.move.preflight import read_foreign_keys, read_rows
from tenantry.move.session import Connection, blaming, session
from tenantry.move.shape import digest as shape_digest
from tenantry.move.shape import read_shape
from tenantry.operations.data.archive import ArchiveReader
from tenantry.operations.data.exporting import digest_of
from tenantry.operations.data.fitting import obstacles
from tenantry.operations.data.foreign_keys import missing_keys, refuse_broken_keys, refuse_unmappable
from tenantry.operations.data.holdings import Holdings, read_holdings
from tenantry.operations.data.kits_data import import_kits, refuse_missing_kits
from tenantry.operations.data.manifest import ArchivedTable
from tenantry.operations.data.progress import DataProgress, TellData
from tenantry.operations.data.sequences import advance
from tenantry.runtime.sqltext import literal

#: Milliseconds that the tenant's own transactions are waited for.
_LOCK: Final = 5_000


@dataclass(frozen=True, slots=True)
class Placing:
    """Where the tenant is to live once its rows are there."""

    tenant: str
    epoch: int
    closed: bool
    """True: the tenant is in no database yet, and is not let in before the rows are there."""


async def look(
    place: Endpoint, archive: ArchiveReader, tenant: str, tenancy: Tenancy, *, replacing: bool
) -> tuple[Holdings, bool]:
    """See that the archive can be imported: without writing. Returns what is there, and whether its rows are
    already.

    Raises:
        OperationRefused: it does not fit, or other rows of the tenant are there; says which.
    """
    async with session(place, "import") as connection:
        with blaming(place), _told(place):
            holdings = await read_holdings(connection, place.name, tenant, tenancy)
            await _fits(connection, place, holdings, archive, tenant)
            if replacing:
                await _refuse_crossing(connection, place, holdings, tenant)
            elif await _occupied(connection, place, holdings, archive, tenant):
                return holdings, True
            async with connection.transaction():  # for the temporary tables
                if missing := await missing_keys(connection, archive):
                    raise OperationRefused(
                        f"{place.name} lacks rows of tables that are no tenant's, which the archive needs: "
                        f"{'; '.join(missing)}. Bring them first; nothing was written"
                    )
    return holdings, False


async def _fits(
    connection: Connection, place: Endpoint, holdings: Holdings, archive: ArchiveReader, tenant: str
) -> None:
    manifest = archive.manifest
    tables = {table.quoted: (table, column) for table, column in holdings.selection.tenant}
    if odd := list(obstacles(manifest, tables, holdings.definitions)):
        raise OperationRefused(f"the archive does not fit, and nothing was written: {'; '.join(odd[:10])}")
    if tenant != manifest.tenant:
        await refuse_unmappable(connection, holdings.tables)
    await refuse_missing_kits(connection, place, manifest)


async def _refuse_crossing(connection: Connection, place: Endpoint, holdings: Holdings, tenant: str) -> None:
    """Rows that are replaced are gone for a moment, and some for good: nobody's foreign key may lean on them."""
    found = await read_foreign_keys.read(connection, tenant, holdings.selection)
    if odd := [f"{one.child} by {one.constraint}" for one in found if not one.outward]:
        raise OperationRefused(
            f"in {place.name} rows of other tenants reference this tenant's: {'; '.join(odd)}. Nothing was written"
        )


async def _occupied(
    connection: Connection, place: Endpoint, holdings: Holdings, archive: ArchiveReader, tenant: str
) -> bool:
    """True: the archive's rows are there, each of them and no others.

    Raises:
        OperationRefused: other rows are.
    """
    whole = place.kind is Kind.DEDICATED
    found = await read_rows.occupied(connection, tenant, place.kind, holdings.tables)
    if not found:
        return False
    archived = {table.quoted: table for table in archive.manifest.tables}
    for table in holdings.tables:
        wanted = archived.get(table.quoted)
        if not await _holds(connection, place, table, wanted, tenant):
            raise OperationRefused(
                f"rows {'' if whole else f'of tenant {tenant} '}are in {place.name} already, in "
                f"{', '.join(found)}, and they are not the archive's. Nothing was written; `tenantry erase "
                f"{tenant}` deletes a tenant's rows"
            )
    return True


async def _holds(
    connection: Connection, place: Endpoint, table: TablePlan, wanted: ArchivedTable | None, tenant: str
) -> bool:
    """Whether the archive's rows are there, and no others of the tenant; in a dedicated database none at all."""
    whole = place.kind is Kind.DEDICATED
    digest = await digest_of(connection, tenant, _as_archived(table, wanted), whole_table=whole)
    return digest == ((wanted.part.rows, int(wanted.digest)) if wanted else (0, 0))


def _as_archived(table: TablePlan, wanted: ArchivedTable | None) -> TablePlan:
    """The table with the archive's columns, which a migration may have added others to."""
    return replace(table, columns=wanted.columns, rows=wanted.part.rows) if wanted else table


async def load(
    place: Endpoint,
    archive: ArchiveReader,
    holdings: Holdings,
    placing: Placing,
    tell: TellData,
    *,
    replacing: bool,
) -> None:
    """Write the rows; `replacing`: in the place of those that the tenant has.

    Raises:
        OperationRefused: they can't be written; nothing was.
    """
    manifest, tenant = archive.manifest, placing.tenant
    # No triggers and no foreign keys while rows arrive: they are looked at afterwards.
    with _told(place):
        async with session(place, "import", session_replication_role="replica") as connection:
            with blaming(place):
                async with connection.transaction():
                    await _begin(connection, place, holdings, archive, tenant, replacing=replacing)
                    for table in manifest.tables:
                        if table.part.rows:
                            await _load_table(connection, archive, table, tenant, tell)
                    # What was replaced has its log here, which goes on.
                    log = None if replacing else _audit(archive, tenant)
                    await import_kits(connection, archive, tenant, log)
                    failpoints.reach("import.loaded")
                    await _compare(connection, place, holdings, archive, tenant, tell)
                    await refuse_broken_keys(connection, holdings.tables, tenant)
                    await advance(connection, place.kind, holdings, manifest, tenant)
                    failpoints.reach("import.committing")
                failpoints.reach("import.committed")


@contextlib.contextmanager
def _told(place: Endpoint) -> Iterator[None]:
    """What the database says of the rows, in our words."""
    try:
        yield
    except (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError) as error:
        detail = getattr(error, "detail", None)
        raise OperationRefused(
            f"the archive's rows can't be in {place.name}: {error}{f' ({detail})' if detail else ''}. "
            "Nothing was written"
        ) from error


async def _compare(
    connection: Connection,
    place: Endpoint,
    holdings: Holdings,
    archive: ArchiveReader,
    tenant: str,
    tell: TellData,
) -> None:
    tables = {table.quoted: table for table in archive.manifest.tables}
    for table in holdings.tables:
        tell(DataProgress("comparing", table.quoted, 0))
        if not await _holds(connection, place, table, tables.get(table.quoted), tenant):
            raise OperationRefused(
                f"the rows of {table.quoted} are not in {place.name} what they are in the archive, so nothing was "
                "written: something changes rows that are written there"
            )


async def close(place: Endpoint, placing: Placing) -> None:
    """Write the tenant's placement: it lives here, and is not let in yet.

    Raises:
        OperationRefused: the database knows a later home.
    """
    async with session(place, "import") as connection:
        if not await placements.close(connection, placing.tenant, place.name, placing.epoch, True):
            placed = await placements.read(connection, placing.tenant)
            home = placed.database if placed else "nowhere"
            raise OperationRefused(
                f"{place.name} says that tenant {placing.tenant} lives in {home} by now: import into that one. "
                "The rows that were written here are shut away"
            )


async def _begin(
    connection: Connection,
    place: Endpoint,
    holdings: Holdings,
    archive: ArchiveReader,
    tenant: str,
    *,
    replacing: bool,
) -> None:
    """Take the tenant's lock, and see that nothing has come since `look`; `replacing`: delete what there is."""
    key = f"tenantry.lock_space(), tenantry.lock_key({literal(tenant)})"
    patience = await connection.fetchval("SHOW lock_timeout")
    try:
        await connection.execute(f"SET LOCAL lock_timeout = {_LOCK}; SELECT pg_advisory_xact_lock({key})")
    except asyncpg.LockNotAvailableError:
        raise OperationRefused(f"tenant {tenant} works in {place.name}: suspend it, and import then") from None
    await connection.execute("SELECT set_config('lock_timeout', $1, true)", patience)
    names = ", ".join(holdings.names)
    await connection.execute(f"LOCK TABLE {names} IN ROW EXCLUSIVE MODE")
    if shape_digest(await read_shape(connection, holdings.names)) != holdings.shape:
        raise OperationRefused(f"the schema of {place.name} is being changed: import when the migration is over")
    if replacing:
        for table in reversed(holdings.tables):
            await connection.execute(f"DELETE FROM {table.quoted} WHERE {table.where(tenant)}")  # noqa: S608  quoted
    elif await _occupied(connection, place, holdings, archive, tenant):
        raise OperationRefused(f"somebody else has imported tenant {tenant} meanwhile")
    if place.kind is Kind.DEDICATED:
        other = await connection.fetchval(
            "UPDATE tenantry.database_identity SET tenant = $1 WHERE tenant IS NULL OR tenant = $1 "
            "RETURNING tenant",
            tenant,
        )
        if other is None:
            raise OperationRefused(f"{place.name} is the dedicated database of another tenant")


async def _load_table(
    connection: Connection, archive: ArchiveReader, table: ArchivedTable, tenant: str, tell: TellData
) -> None:
    async def told() -> AsyncIterator[bytes]:
        async for block in with_tenant(archive.stream(table.part), tenant, alone=not table.columns):
            yield block
            tell(DataProgress("loading", table.quoted, len(block)))

    status = await connection.copy_to_table(
        table.name, schema_name=table.schema, columns=[table.column, *table.columns], source=told(), format="text"
    )
    if int(status.split()[-1]) != table.part.rows:
        raise OperationRefused(
            f"{table.quoted}: the archive has {status.split()[-1]} rows and says {table.part.rows}. "
            "Nothing was written"
        )


def _audit(archive: ArchiveReader, tenant: str) -> AsyncIterator[bytes] | None:
    audit = archive.manifest.kits.audit
    if audit is None or tenant != archive.manifest.tenant:
        return None
    return with_tenant(archive.stream(audit.part), tenant, alone=False)


async def with_tenant(stream: AsyncIterator[bytes], tenant: str, *, alone: bool) -> AsyncIterator[bytes]:
    """COPY's text with a column in front that holds the tenant's id; `alone`: there is no other column.

    In that text a line feed ends a row and nothing else: within values it is written as an escape.
    """
    prefix = _escaped(tenant) + (b"" if alone else b"\t")
    between = b"\n" + prefix
    begins = True
    async for block in stream:
        ends = block.endswith(b"\n")
        body = (block[:-1] if ends else block).replace(b"\n", between)
        yield (prefix if begins else b"") + body + (b"\n" if ends else b"")
        begins = ends


def _escaped(value: str) -> bytes:
    """A value in COPY's text (PostgreSQL documentation, "COPY", "Text Format")."""
    table = str.maketrans(
        {"\\": r"\\", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v"}
    )
    return value.translate(table).encode()
