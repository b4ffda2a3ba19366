"""What an operator may do with one tenant's data."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from tenantry.config import ResolvedDatabase
from tenantry.directory import TenantRow, placements
from tenantry.errors import DatabaseUnavailable, OperationRefused, TenantryError, UnknownTenant
from tenantry.ids import IdType, Kind, check_name, check_terms
from tenantry.move import Endpoint, failpoints
from tenantry.operations.context import Context
from tenantry.operations.data import erasing, exporting, importing
from tenantry.operations.data.alone import alone
from tenantry.operations.data.archive import reading
from tenantry.operations.data.importing import Placing
from tenantry.operations.data.manifest import Manifest
from tenantry.operations.data.progress import DataProgress, TellData, untold
from tenantry.operations.data.receipt import ErasureReceipt
from tenantry.residence import check_word, refuse_mismatch
from tenantry.runtime.connection_errors import DATABASE_ERRORS, UNREACHABLE, unavailable
from tenantry.wiring import tenancy_of

T = TypeVar("T")


class ArchiveWritten(NamedTuple):
    """An export."""

    path: Path
    database: str
    """Where the rows were."""
    rows: int
    bytes: int
    """Of the streams; the file is a little larger."""
    manifest: Manifest


class ImportDone(NamedTuple):
    """An import, or what it would do."""

    tenant: str
    database: str
    rows: int
    already: bool
    """True: the archive's rows were there, each of them and no others; none was written."""
    written: bool
    """False: no row was, because they were there or it was only looked."""
    schema_differs: bool
    """True: the tables are not made as they were when the archive was written; the rows fit all the same."""


class TenantData:
    """`Operations.data`. Every method takes a tenant's id, or the text that a user has typed for one.

    Raises (every method): InvalidTenantId before any I/O; DatabaseUnavailable for a database that doesn't answer;
    ConfigError or DsnUnreadable for a database without an operator's DSN.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    async def export(self, tenant: object, path: Path, *, progress: TellData = untold) -> ArchiveWritten:
        """Write all rows of a tenant, as of one moment, into the new file `path`. The tenant works meanwhile.

        A suspended or removed tenant can be exported too. The file is for its owner's eyes only (mode 0600).

        Raises:
            UnknownTenant: the directory has never known it.
            ArchiveUnusable: the file is there, or can't be written.
            OperationRefused: not all of the tenant's rows can be taken; says which and why.
        """
        row = await self._row(tenant)
        place = await self._endpoint(row.database)
        tenancy = tenancy_of(self._context.config)
        manifest = await _reached(place, lambda: exporting.export(place, row, tenancy, path, progress))
        detail = {"rows": manifest.rows, "bytes": manifest.size, "fingerprint": manifest.fingerprint}
        await self._record("data.exported", row.id, row.database, detail)
        return ArchiveWritten(path, row.database, manifest.rows, manifest.size, manifest)

    async def import_(
        self,
        path: Path,
        *,
        database: str | None = None,
        as_tenant: object = None,
        replace: bool = False,
        dry_run: bool = False,
        progress: TellData = untold,
    ) -> ImportDone:
        """Bring an archive's rows in: all of them, in one transaction, or none. Others work on meanwhile.

        The tenant is signed up, or comes back if it was removed. Repeatable: where the archive's rows are there
        already, what is missing to let the tenant in is done.

        Args:
            database: where it shall live; None: where it does, or did, or new ones do. Its tables have to be
                there.
            as_tenant: another id for the tenant; None: its own.
            replace: delete the rows that the tenant has, in the same transaction. It must be suspended or removed.
            dry_run: read the whole file and look at the database, and write nothing.

        Raises:
            ArchiveUnusable: the file is damaged, or no archive that this release reads.
            OperationRefused: the rows do not fit, rows of the tenant are there, or rows of other tables lack.
            MoveBusy: the tenant is being moved.
        """
        context = self._context
        with reading(path) as archive:
            manifest = archive.manifest
            if manifest.id_type != context.config.tenancy.type.value:
                raise OperationRefused(
                    f"{path}: its tenant's id is a {manifest.id_type}, and here ids are "
                    f"{context.config.tenancy.type}"
                )
            tenant = context.id_of(manifest.tenant if as_tenant is None else as_tenant)
            _check_terms(path, manifest, context.config.tenancy.type)
            await archive.check(lambda part, size: progress(DataProgress("checking", part.member, size)))
            async with alone(context, tenant) as held:
                row = (await context.store.tenants([tenant], removed=True)).get(tenant)
                place = await self._home(row, tenant, database)
                await self._check_home(row, tenant, place, manifest)
                tenancy = tenancy_of(context.config)
                if replace:
                    _check_replaced(row, tenant, place)
                holdings, there = await _reached(
                    place, lambda: importing.look(place, archive, tenant, tenancy, replacing=replace)
                )
                done = ImportDone(
                    tenant,
                    place.name,
                    manifest.rows,
                    there,
                    not (there or dry_run),
                    holdings.fingerprint != manifest.fingerprint,
                )
                if dry_run:
                    return done
                row = await self._reserved(row, tenant, place, manifest)
                failpoints.reach("import.reserved")
                placing = Placing(tenant, row.epoch, row.state == "removed")
                await held.check()
                if not there:
                    await _reached(
                        place,
                        lambda: importing.load(place, archive, holdings, placing, progress, replacing=replace),
                    )
                if placing.closed:
                    await _reached(place, lambda: importing.close(place, placing))
                    await self._let_in(row, manifest)
        await self._record("data.imported", tenant, place.name, {"rows": manifest.rows, "from": manifest.tenant})
        return done

    async def erase(
        self, tenant: object, *, dry_run: bool = False, reason: str | None = None, progress: TellData = untold
    ) -> ErasureReceipt:
        """Delete a tenant's rows in every database of the directory; it is removed first. There is no way back
        but an archive.

        Repeatable: a run that was broken off is gone on with. What can't be reached is in the receipt, which is
            not `complete` then: erase again once it can.

        Args:
            dry_run: count only.

        Raises:
            UnknownTenant: the directory has never known it.
            MoveBusy: the tenant has a move that is not finished.
            OperationRefused: a database has rows that can't be told to be the tenant's or not; nothing was
                touched.
        """
        context = self._context
        row = await self._row(tenant)
        tenancy = tenancy_of(context.config)
        receipt = ErasureReceipt(row.id, None, erasing.now())
        async with alone(context, row.id) as held:
            places = [
                erasing.usable(name, database.kind.value, lambda database=database: _endpoint(database))
                for name, database in sorted((await context.databases()).items())
            ]
            looked = await erasing.look(places, row, tenancy, receipt, progress)
            if dry_run:
                return receipt
            await erasing.begin(context, row, receipt, reason)
            try:
                await erasing.delete(looked, row.id, held, progress)
            except UNREACHABLE as error:
                raise DatabaseUnavailable(
                    "a data database", f"{type(error).__name__}; erase again to go on"
                ) from error
            await erasing.rename_in_ledger(context, row.id, receipt)
            await erasing.forget_tokens(context, row.id, receipt, reason)
            await erasing.finish(context, row, receipt, reason)
        return receipt

    # -- how ---------------------------------------------------------------------------------------

    async def _row(self, tenant: object) -> TenantRow:
        text = self._context.id_of(tenant)
        rows = await self._context.store.tenants([text], removed=True)
        if text not in rows:
            raise UnknownTenant(text)
        return rows[text]

    async def _endpoint(self, name: str) -> Endpoint:
        return _endpoint(await self._context.database(name))

    async def _home(self, row: TenantRow | None, tenant: str, database: str | None) -> Endpoint:
        """The database that the rows go to.

        Raises:
            OperationRefused: the tenant lives in another one.
        """
        if row is not None and database not in (None, row.database) and row.state != "removed":
            raise OperationRefused(
                f"tenant {tenant} lives in {row.database}: import it there, or remove or erase it first"
            )
        if database is None:
            database = await self._home_for_new() if row is None else row.database
        return await self._endpoint(database)

    async def _check_home(self, row: TenantRow | None, tenant: str, place: Endpoint, manifest: Manifest) -> None:
        """See that the tenant may live where its rows are to go. What the directory says of it comes first.

        Raises:
            WrongHome: it may not.
        """
        residence = manifest.residence if row is None or not any(row.residence) else row.residence
        if row is None or row.state == "removed":  # who lives there already is `placements check`'s to tell of
            there = (await self._context.database(place.name)).site.residence
            refuse_mismatch(tenant, residence, place.name, there)

    async def _home_for_new(self) -> str:
        if self._context.config.tenancy.default_database is not None:
            return self._context.config.tenancy.default_database
        shared = [one.name for one in (await self._context.databases()).values() if one.kind is Kind.SHARED]
        if len(shared) != 1:
            raise OperationRefused(f"{len(shared)} shared databases: say which by --database")
        return shared[0]

    async def _reserved(
        self, row: TenantRow | None, tenant: str, place: Endpoint, manifest: Manifest
    ) -> TenantRow:
        """The directory's row, which names the new home from now on, while nobody is let in yet."""
        store = self._context.store
        if row is None:
            return await store.reserve_tenant(
                tenant,
                place.name,
                plan=manifest.plan,
                weight=manifest.weight,
                limits=manifest.limits,
                residence=manifest.residence,
            )
        if row.database == place.name or row.state != "removed":
            return row
        epoch = row.epoch + 1
        try:
            # The old home first: from now on it says where the tenant has gone. One that is lost shuts nobody in.
            async with self._context.operator(row.database) as old:
                await placements.close(old, tenant, place.name, epoch, True)
        except (TenantryError, *DATABASE_ERRORS):
            pass
        if not await store.rehome(tenant, place.name, epoch):
            raise OperationRefused(f"tenant {tenant} has got another home meanwhile; nothing was written")
        return row._replace(database=place.name, kind=place.kind, epoch=epoch)

    async def _let_in(self, row: TenantRow, manifest: Manifest) -> None:
        store = self._context.store
        failpoints.reach("import.letting_in")
        await store.restore(self._context.operator, row)
        if not any(row.residence) and any(manifest.residence):
            await store.set_residence(row.id, manifest.region, manifest.tier)
        if row.plan is None and not row.limits:  # an erasure has left nothing of them
            await store.set_tenant(row.id, plan=manifest.plan, weight=manifest.weight, limits=manifest.limits)
        if row.name is None and manifest.name is not None and row.id == manifest.tenant:
            with contextlib.suppress(ValueError):  # another one is called so by now: it stays without
                await store.name_tenant(row.id, manifest.name)

    async def _record(self, kind: str, tenant: str, database: str, detail: dict[str, object]) -> None:
        await self._context.store.record(
            kind, self._context.actor, tenant=tenant, database=database, detail=detail
        )


def _endpoint(database: ResolvedDatabase) -> Endpoint:
    return Endpoint(database.name, database.kind, database.require_operator_dsn())


def _check_replaced(row: TenantRow | None, tenant: str, place: Endpoint) -> None:
    """Its clients would wait as long as the rows travel, and write to the new ones what they have read of the old.

    Raises:
        OperationRefused: the tenant is let in, or has nothing there to be replaced.
    """
    if row is None or row.database != place.name:
        raise OperationRefused(f"tenant {tenant} has no rows to replace in {place.name}: it does not live there")
    if row.state == "active":
        raise OperationRefused(
            f"tenant {tenant} works: `tenantry tenants suspend {tenant}` first, and resume it afterwards"
        )


def _check_terms(path: Path, manifest: Manifest, ids: IdType) -> None:
    try:
        check_terms(manifest.weight, manifest.limits)
        if manifest.name is not None:
            check_name(manifest.name, ids)
        for word in manifest.residence:
            if word is not None:
                check_word(word)
    except ValueError as error:
        raise OperationRefused(f"{path}: its tenant's terms can't be kept: {error}") from None


async def _reached(place: Endpoint, work: Callable[[], Awaitable[T]]) -> T:
    """Do the work with one database; that it is away is told in our words."""
    try:
        return await work()
    except UNREACHABLE as error:
        raise unavailable(place.name, error) from error
