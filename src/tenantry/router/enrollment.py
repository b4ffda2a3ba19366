"""Signing tenants up: the directory's row first, then the placement in the tenant's own database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg

from tenantry.directory import Directory, Entry, placements
from tenantry.errors import ConfigError, DatabaseUnavailable, TenantRemoved, UnknownTenant
from tenantry.ids import Kind, TenantId
from tenantry.proof import enroll_proof
from tenantry.residence import Residence, refuse_mismatch
from tenantry.rooms import Rooms
from tenantry.router import driver
from tenantry.router.pools import Pools, ProcessLimits
from tenantry.runtime.connection_errors import NOT_CONNECTED, unavailable
from tenantry.runtime.sqlstates import NOT_HERE


class Enrollment:
    """Finds a tenant's entry, and makes one for a tenant that is new."""

    # No mutable state.

    def __init__(
        self,
        directory: Directory,
        pools: Pools,
        limits: ProcessLimits,
        default_database: str | None,
        rooms: Rooms | None,
        residence_of: Callable[[str], Awaitable[Residence | None]],
    ) -> None:
        """Args:
        default_database: where tenants live that the directory doesn't know; None: they are refused.
        rooms: among which a tenant's home is chosen that is signed up without one; None: nothing is said of that.
        residence_of: what a database says of its region and tier; None: there is no such database.
        """
        self._directory = directory
        self._pools = pools
        self._limits = limits
        self._default_database = default_database
        self._rooms = rooms
        self._residence_of = residence_of

    async def find(self, tenant: TenantId, deadline: float, *, refresh: bool = False) -> Entry:
        """The tenant's directory entry; placed in the default database if it is new and there is one.

        Args:
            deadline: loop time in seconds.
            refresh: ask the control database even when the entry is cached.
        """
        try:
            async with asyncio.timeout_at(deadline):
                try:
                    if refresh:
                        return await self._directory.refresh(tenant)
                    return await self._directory.lookup(tenant)
                except UnknownTenant as unknown:
                    if self._default_database is None or isinstance(unknown, TenantRemoved):
                        raise  # a request is no reason to bring a removed tenant back
                await self.add(tenant)
                return await self._directory.lookup(tenant)
        except TimeoutError:
            raise DatabaseUnavailable("control", "no answer within the deadline") from None

    async def add(
        self,
        tenant: TenantId,
        *,
        plan: str | None = None,
        database: str | None = None,
        weight: float = 1.0,
        limits: dict[str, int] | None = None,
        residence: Residence = Residence(),  # noqa: B008  a value
    ) -> Entry:
        """Write a new tenant down, in the directory and in its database. See `TenantRouter.add_tenant`."""
        home = database or self._rooms or self.home_for_new()
        if any(residence) and isinstance(home, str):
            there = await self._residence_of(home)
            if there is not None:
                refuse_mismatch(str(tenant), residence, home, there)
        try:
            row = await self._directory.store.add_tenant(
                str(tenant), home, plan=plan, weight=weight, limits=limits, residence=residence
            )
        except TenantRemoved:  # a LookupError as well
            raise
        except LookupError:
            raise ConfigError(
                f"no database {home} in the directory; `tenantry apply` writes the configured ones to it",
                key="database",
            ) from None
        entry = self._directory.put(row)
        await self._write_placement(entry)
        return entry

    def home_for_new(self) -> str:
        """The database where a new tenant lives that names none.

        Raises:
            ConfigError: the configuration leaves it open.
        """
        if self._default_database is not None:
            return self._default_database
        shared = [spec.name for spec in self._pools.known().values() if spec.kind is Kind.SHARED]
        if len(shared) != 1:
            raise ConfigError(
                f"{len(shared)} shared databases are configured: say database=, or set tenancy.default_database",
                key="tenancy.default_database",
            )
        return shared[0]

    async def complete(self, entry: Entry, refusal: asyncpg.PostgresError) -> None:
        """Finish a sign-up that died half-way: the database has never heard of the tenant that the directory
        places there.

        Only the first placement of a tenant is ever written this way, later ones are a move's to write.

        Raises:
            DatabaseUnavailable: it is not the tenant's first placement.
        """
        placement = entry.profile.placement
        if placement.epoch != 1:
            raise DatabaseUnavailable(
                placement.database,
                f"it does not know tenant {entry.text}, which the directory places there since epoch "
                f"{placement.epoch}; was it restored from a backup?",
            ) from refusal
        await self._write_placement(entry)

    async def _write_placement(self, entry: Entry) -> None:
        """Tell the tenant's database that the tenant lives there, on a connection of its own."""
        placement = entry.profile.placement
        spec = await self._pools.spec(placement.database)
        async with self._pools.permit(spec.name):
            try:
                connection, context = await self._pools.dial(spec)
            except NOT_CONNECTED as error:
                raise unavailable(spec.name, error) from error
            try:
                await placements.enroll(
                    connection,
                    entry.text,
                    placement.epoch,
                    enroll_proof(spec.key, context.backend, entry.text, placement.epoch) if spec.key else None,
                    timeout=self._limits.connect_timeout,
                )
            except asyncpg.PostgresError as error:
                if error.sqlstate != NOT_HERE:
                    raise
                raise ConfigError(
                    f"database {spec.name} is stamped for another tenant; place {entry.text} elsewhere",
                    key=f"databases.{spec.name}.tenant",
                ) from error
            finally:
                await driver.close(connection)
