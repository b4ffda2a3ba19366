"""The tenants of the directory, kept equal in the control database and in the database where each lives.

In which order the two are written, and why, stands in `directory.placements`. Every operation can be repeated.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from tenantry.directory import TenantRow, placements
from tenantry.directory.placements import Placed
from tenantry.errors import (
    ConfigError,
    DatabaseUnavailable,
    InvalidTenantId,
    OperationRefused,
    TenantRemoved,
    UnknownTenant,
    UnmatchedTenant,
)
from tenantry.ids import IdType, Kind, check_name, check_terms
from tenantry.operations import import_tenants
from tenantry.operations.context import Context
from tenantry.operations.import_tenants import Imported, ImportTerms, Told, untold
from tenantry.residence import Residence, check_word, mismatches

#: Characters of what somebody may have typed for a name.
_LONGEST: Final = 100


class TenantDetails(NamedTuple):
    """A tenant, as both sides have it."""

    row: TenantRow
    in_database: Placed | None
    """What its database has of it; None: it has never heard of the tenant, or could not be asked."""
    unknown: str | None = None
    """Why the database could not be asked; None: it was."""


class Added(NamedTuple):
    """A sign-up."""

    row: TenantRow
    new: bool
    """False: the tenant was there already, and stays as it was."""


class Tenants:
    """`Operations.tenants`. Every method takes a tenant's id, or the text that a user has typed for one.

    Raises (every method): InvalidTenantId before any I/O; DatabaseUnavailable for a database that doesn't answer.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    async def list(
        self, *, database: str | None = None, state: str | None = None, plan: str | None = None
    ) -> AsyncIterator[TenantRow]:
        """Every tenant that was not removed, in the order of the ids; a page of them in memory.

        Args:
            state: "active" or "suspended" ones only.
            plan: those of this plan only.
        """
        async for row in self._context.store.all_tenants(database=database):
            if state in (None, row.state) and plan in (None, row.plan):
                yield row

    async def get(self, tenant: object) -> TenantRow:
        """The directory's row.

        Raises:
            UnknownTenant: it isn't in the directory.
        """
        return await self._context.tenant(tenant)

    async def find(self, said: str) -> str:
        """The id of the tenant that somebody means: by its id, its name or, of uuids, the beginning of its id.

        An id goes before a name, and a name before a beginning, which has four characters at least and no other
        tenant's id begins so. Numbers and texts are written out: a shorter one is another tenant's.

        Raises:
            UnmatchedTenant: nobody is meant, or several are. An id that is one, of a tenant that is not in the
                directory, is given back: who works with it says so.
        """
        ids, text = self._context.config.tenancy.type, None
        try:
            text = self._context.id_of(said)
        except InvalidTenantId:
            if not said.isprintable() or len(said) > _LONGEST:
                raise
        else:
            if text in await self._context.store.tenants([text], removed=True):
                return text
        beginning = ids is IdType.UUID and text is None and re.fullmatch(r"[0-9a-fA-F-]{4,35}", said) is not None
        found = await self._context.store.find(said, beginning=beginning)
        if len(found) == 1:
            return found[0]
        if text is not None and not found:
            return text
        raise UnmatchedTenant(said, found)

    async def show(self, tenant: object) -> TenantDetails:
        """One tenant: where it lives, on what terms, and what its database says of it. Raises as `get`."""
        row = await self.get(tenant)
        try:
            async with self._context.operator(row.database) as connection:
                return TenantDetails(row, await placements.read(connection, row.id))
        except (ConfigError, DatabaseUnavailable) as error:
            return TenantDetails(row, None, str(error))

    async def add(
        self,
        tenant: object,
        *,
        database: str | None = None,
        plan: str | None = None,
        weight: float | None = None,
        limits: Mapping[str, int] | None = None,
        name: str | None = None,
        region: str | None = None,
        tier: str | None = None,
        restore: bool = False,
    ) -> Added:
        """Sign a tenant up as a service does: it can be served when this returns. Repeatable.

        Args:
            database: where it shall live; None: as `tenancy.placement` chooses, or `tenancy.default_database`, or
                the only shared database.
            restore: bring it back if it was removed, where it lived and on its terms, save for those that are
                given. That needs the operator's role.
            limits: "connections", "queue" (of one pool), "statement_timeout" (milliseconds).
            name: what people call it; of a tenant that is there already it stays as it is.
            region: it lives only in databases of this region; None: in any. Of a tenant that is there already it
                stays as it is.
            tier: likewise.

        Raises:
            UnknownDatabase: there is no such database.
            NoRoom: no database that sign-ups may choose has room for it and is of its region and tier.
            WrongHome: the database where it would live is of another region or tier; nothing was done.
            ConfigError: it can't be told where the tenant shall live, or it shall be restored elsewhere; or that
                can't be a name.
            TenantRemoved: it was removed, and `restore` was not said.
            OperationRefused: another tenant is called so; nothing was done.
        """
        context = self._context
        check_residence(region, tier)
        if name is not None:
            name = await self._free_name(name, context.id_of(tenant))
        text = context.id_of(tenant)
        known = await context.store.tenants([text], removed=True)
        if text in known and known[text].state == "removed":
            if not restore:
                raise TenantRemoved(text)
            return await self._restore(known[text], database, plan, weight, limits)
        rooms = context.config.tenancy.placement
        home = None if database is None and rooms is not None else await self._home_for_new(database)
        await context.router.add_tenant(
            context.config.tenancy.type.parse(text),
            plan=plan,
            database=home,
            weight=1.0 if weight is None else weight,
            limits=dict(limits or {}),
            region=region or None,
            tier=tier or None,
        )
        row = await self.get(text)
        if not known:
            await context.store.record("tenant.added", context.actor, tenant=row.id, database=row.database)
            if name is not None:
                row = await self._call(row.id, name)
        return Added(row, not known)

    async def _restore(
        self,
        row: TenantRow,
        database: str | None,
        plan: str | None,
        weight: float | None,
        limits: Mapping[str, int] | None,
    ) -> Added:
        context = self._context
        if database not in (None, row.database):
            raise ConfigError(
                f"tenant {row.id} lived in {row.database}, and its rows are there: restore it there, then move it",
                key="database",
            )
        (await context.database(row.database)).require_operator_dsn()  # before anything is written
        try:
            home = await context.store.restore(context.operator, row)
        except ValueError as error:
            raise OperationRefused(f"{error}: give that one another name, then restore this one") from None
        await context.store.set_tenant(row.id, plan=plan, weight=weight, limits=dict(limits) if limits else None)
        await context.store.record("tenant.restored", context.actor, tenant=row.id, database=home)
        return Added(await self.get(row.id), True)

    async def set(
        self,
        tenant: object,
        *,
        plan: str | None = None,
        weight: float | None = None,
        limits: Mapping[str, int] | None = None,
        name: str | None = None,
        region: str | None = None,
        tier: str | None = None,
    ) -> TenantRow:
        """Change the terms that are given, leave the rest. Routers follow within milliseconds. Raises as `get`.

        Args:
            limits: as of `add`; 0 takes a limit away.
            name: what people call it; "" takes its name away.
            region: it may live only in databases of this region from now on; "": in any. It stays where it is:
                `placements.check` says so, and a move mends it.
            tier: likewise.

        Raises ValueError too: the terms can't be kept. ConfigError: that can't be a name. OperationRefused:
        another tenant is called so. Nothing was changed then.
        """
        row = await self.get(tenant)
        check_residence(region, tier)
        if name:
            name = await self._free_name(name, row.id)
        kept = {name: value for name, value in {**row.limits, **(limits or {})}.items() if value}
        check_terms(1.0 if weight is None else weight, kept)
        if (region, tier) != (None, None) and not await self._context.store.set_residence(row.id, region, tier):
            raise UnknownTenant(row.id)
        changed = await self._context.store.set_tenant(
            row.id, plan=plan, weight=weight, limits=kept if limits else None
        )
        if not changed:  # removed meanwhile
            raise UnknownTenant(row.id)
        now = await self.get(row.id) if name is None else await self._call(row.id, name or None)
        detail = {"plan": now.plan, "weight": now.weight, "limits": now.limits, "name": now.name}
        detail |= now.residence._asdict()
        await self._context.store.record("tenant.changed", self._context.actor, tenant=row.id, detail=detail)
        return now

    async def suspend(self, tenant: object, *, reason: str | None = None) -> TenantRow:
        """Shut a tenant out: its requests fail with TenantSuspended, its data stay. Raises as `get`.

        Raises:
            ConfigError: its database has no operator's role.
        """
        return await self._change(tenant, "suspended", reason)

    async def resume(self, tenant: object, *, reason: str | None = None) -> TenantRow:
        """Let a suspended tenant in again. Raises as `suspend`."""
        return await self._change(tenant, "active", reason)

    async def remove(self, tenant: object, *, reason: str | None = None) -> TenantRow:
        """Take a tenant out of the directory and shut it out of its database; the row as it was.

        The tenant's rows in its database are not deleted. Raises as `suspend`.
        """
        return await self._change(tenant, "removed", reason)

    # -- many at once ------------------------------------------------------------------------------

    async def import_ids(
        self,
        ids: Iterable[str] | AsyncIterable[str],
        *,
        database: str | None = None,
        plan: str | None = None,
        region: str | None = None,
        tier: str | None = None,
        batch: int = 5000,
        progress: Told = untold,
    ) -> Imported:
        """Adopt ids of a product that exists: they live in the database from now on. Repeatable.

        An id that is none ends it; the batches before it stay.

        Args:
            database: a shared one; None: as of `add`.
            region: what those that are new ask of their home; as of `add`.
            tier: likewise.
            batch: ids that are written at once, and held in memory.
            progress: told after each batch how many more were read.

        Raises:
            OperationRefused: the database is a dedicated one, of another region or tier than theirs, or its DSN
                leads to another.
        """
        terms = await self._import_terms(database, plan, region, tier)
        read = import_tenants.checked(self._context, ids)
        return await import_tenants.place(self._context, terms, read, batch, progress)

    async def import_table(
        self,
        source: str,
        *,
        database: str | None = None,
        plan: str | None = None,
        region: str | None = None,
        tier: str | None = None,
        batch: int = 5000,
        progress: Told = untold,
    ) -> Imported:
        """The same with the distinct values of a column of that database: `schema.table.column`."""
        terms = await self._import_terms(database, plan, region, tier)
        read = import_tenants.from_table(self._context, terms.home, source)
        return await import_tenants.place(self._context, terms, read, batch, progress)

    async def import_file(
        self,
        path: Path,
        *,
        column: str | None = None,
        database: str | None = None,
        plan: str | None = None,
        region: str | None = None,
        tier: str | None = None,
        batch: int = 5000,
        progress: Told = untold,
    ) -> Imported:
        """The same with the ids of a file, an id a line, or of the column of a CSV file with a header.

        The file is read to its end first, so that one with a mistake changes nothing. "-" reads standard input.
        """
        terms = await self._import_terms(database, plan, region, tier)
        read = import_tenants.from_file(self._context, path, column)
        return await import_tenants.place(self._context, terms, read, batch, progress)

    async def _import_terms(
        self, database: str | None, plan: str | None, region: str | None, tier: str | None
    ) -> ImportTerms:
        check_residence(region, tier)
        home = await self._home_for_new(database)
        residence = Residence(region or None, tier or None)
        there = (await self._context.database(home)).site.residence
        if why := ", and ".join(map(str, mismatches(residence, there))):
            raise OperationRefused(
                f"tenants {residence} may not live in {home}: {why}. Import them elsewhere, or correct "
                "what they or the database are; nothing was imported"
            )
        return ImportTerms(home, plan, residence)

    # -- how ---------------------------------------------------------------------------------------

    async def _free_name(self, name: str, tenant: str) -> str:
        """The name, if the tenant can be called so. Raises OperationRefused, ConfigError."""
        try:
            checked = check_name(name, self._context.config.tenancy.type)
        except ValueError as error:
            raise ConfigError(str(error), key="name") from None
        others = [one for one in await self._context.store.find(checked, beginning=False) if one != tenant]
        if others:
            raise OperationRefused(f"tenant {others[0]} is called {checked!r}: choose another name")
        return checked

    async def _call(self, tenant: str, name: str | None) -> TenantRow:
        try:
            if not await self._context.store.name_tenant(tenant, name):
                raise UnknownTenant(tenant)
        except ValueError as error:  # it was taken meanwhile
            raise OperationRefused(f"{error}: choose another name") from None
        return await self.get(tenant)

    async def _change(self, tenant: object, state: str, reason: str | None) -> TenantRow:
        """Suspend, resume or remove a tenant, in both databases."""
        row, store = await self.get(tenant), self._context.store
        (await self._context.database(row.database)).require_operator_dsn()  # before anything is written
        home = await store.set_state(self._context.operator, row, state)
        kind = {"active": "tenant.resumed"}.get(state, f"tenant.{state}")
        await store.record(kind, self._context.actor, tenant=row.id, database=home, reason=reason)
        return row

    async def _home_for_new(self, database: str | None) -> str:
        """Where a new tenant lives when nothing is said: as `Router.add_tenant` decides."""
        if database is not None:
            return (await self._context.database(database)).name
        if self._context.config.tenancy.default_database is not None:
            return self._context.config.tenancy.default_database
        shared = [d.name for d in (await self._context.databases()).values() if d.kind is Kind.SHARED]
        if len(shared) != 1:
            raise ConfigError(
                f"{len(shared)} shared databases: say which, or set tenancy.default_database",
                key="database",
            )
        return shared[0]


def check_residence(region: str | None, tier: str | None) -> None:
    """See that a tenant or a database can be of them; "" is nothing.

    Raises:
        ConfigError: it can't.
    """
    for key, word in (("region", region), ("tier", tier)):
        try:
            if word:
                check_word(word)
        except ValueError as error:
            raise ConfigError(str(error), key=key) from None
