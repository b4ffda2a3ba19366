"""Carrying tenants between databases: the mover, made of the configuration and the directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypedDict, Unpack

import asyncpg

from tenantry.config import ResolvedDatabase, check_database_name, resolve
from tenantry.directory import DatabaseRow
from tenantry.errors import ConfigError, DatabaseUnavailable, DsnUnreadable, TenantryError, UnknownDatabase
from tenantry.ids import Kind
from tenantry.move import Endpoint, Interrupt, Leftover, Limits, MoveBusy, MovePlan, Mover, MoveRecord, MoveSummary
from tenantry.move.errors import MoveRefused, PreflightFinding
from tenantry.move.progress import Tell, silence
from tenantry.operations.context import Context
from tenantry.residence import Residence, mismatches
from tenantry.runtime.connection_errors import BROKEN
from tenantry.wiring import tenancy_of


class MoveOptions(TypedDict, total=False):
    """What every move can be told."""

    limits: Limits | None
    """How fast, how many tables at once, how long a pause; None: the defaults."""
    progress: Tell
    """Told how far it is."""
    interrupt: Interrupt | None
    """By which it can be stopped at the next clean point."""


class Moves:
    """`Operations.moves`. The journal keeps the state: all can be repeated, and finished by another process.

    Raises (every method): InvalidTenantId before any I/O; UnknownTenant, UnknownDatabase, UnknownMove;
    DatabaseUnavailable or Unreachable; ConfigError or DsnUnreadable for a database without an operator's DSN.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    # -- looking -----------------------------------------------------------------------------------

    async def plan(
        self, tenant: object, to: str, *, consent: float | None = None, limits: Limits | None = None
    ) -> MovePlan:
        """Decide a move. Touches nothing; what stands in its way is in the plan's `findings`.

        Args:
            to: a database, or a new name: it will be made on the only server of the configuration.
            consent: seconds of pause that are accepted where logical replication can't be had.

        Raises:
            AlreadyThere: there is nothing to do.
            ConfigError: there are several servers to make it on.
        """
        text = self._context.id_of(tenant)
        target, _ = await self._target(to)
        mover, unusable = await self._mover(target, limits=limits)
        try:
            plan = await mover.plan(text, to, consent=consent)
        except UnknownDatabase as error:
            raise unusable.get(error.database, error) from None
        return replace(plan, findings=(*await self._wrong_home(text, target), *plan.findings))

    async def readiness(self) -> Mapping[str, tuple[PreflightFinding, ...] | TenantryError]:
        """What moves from and to each known database would be refused for today; or why it can't be asked."""
        mover, unusable = await self._mover()
        found: dict[str, tuple[PreflightFinding, ...] | TenantryError] = dict(unusable)
        for name in await self._context.databases():
            if name not in unusable:
                try:
                    found[name] = await mover.readiness(name)
                except (TenantryError, asyncpg.PostgresError, *BROKEN) as error:
                    found[name] = DatabaseUnavailable(name, f"{type(error).__name__}: {error}")
        return found

    async def list(self, tenant: object = None) -> Sequence[MoveSummary]:
        """All moves, or one tenant's; the newest first."""
        wanted = None if tenant is None else self._context.id_of(tenant)
        return await (await self._mover())[0].list(wanted)

    async def show(self, move: str) -> MoveRecord:
        """One move, as the journal has it."""
        return await (await self._mover())[0].show(move)

    async def leftovers(self) -> Sequence[Leftover]:
        """What moves have left, or may have left, and no mover is at work on."""
        return await (await self._mover())[0].leftovers()

    # -- moving ------------------------------------------------------------------------------------

    async def promote(
        self, tenant: object, to: str, *, consent: float | None = None, **how: Unpack[MoveOptions]
    ) -> MoveRecord:
        """Move a tenant to a dedicated database while it works. The way back stays open until `release`.

        Args: as of `plan`.

        Raises:
            ConfigError: `to` is not a dedicated database.
            MoveRefused: preflight refuses; nothing was touched.
            MoveBusy: the tenant is being moved already.
            MoveStopped: it could not be done; the tenant works where it was. `resume` or `abort` it.
        """
        await self.check_promotion(to)
        return await self.move(tenant, to, consent=consent, **how)

    async def demote(
        self, tenant: object, to: str | None = None, *, consent: float | None = None, **how: Unpack[MoveOptions]
    ) -> MoveRecord:
        """Move a tenant to a shared database while it works. `to`: None: the only one. Raises as `promote`."""
        return await self.move(tenant, await self.shared_home(to), consent=consent, **how)

    async def move(
        self, tenant: object, to: str, *, consent: float | None = None, **how: Unpack[MoveOptions]
    ) -> MoveRecord:
        """Move a tenant to any other database while it works. Raises as `promote`."""
        plan = await self.plan(tenant, to, consent=consent, limits=how.get("limits"))
        return await self.run(plan, **how)

    async def run(self, plan: MovePlan, **how: Unpack[MoveOptions]) -> MoveRecord:
        """Run a plan that was looked at. Raises as `promote`."""
        await self.check_not_moving(plan)
        target, known = await self._target(plan.target)
        if refused := [one for one in await self._wrong_home(plan.tenant, target) if one.refuses]:  # by now
            raise MoveRefused(plan.tenant, plan.target, refused)
        if not known and not plan.refusals:  # before the move makes it: routers will look for it there
            await self._register(target)
        return await (await self._mover(target, **how))[0].run(plan, how.get("progress", silence))

    async def resume(self, move: str, **how: Unpack[MoveOptions]) -> MoveRecord:
        """Go on with a move that was interrupted, whatever it was doing."""
        return await (await self._mover(**how))[0].resume(move, how.get("progress", silence))

    async def abort(self, move: str, **how: Unpack[MoveOptions]) -> MoveRecord:
        """Give a move up and take away what it made. After the flip it goes forward instead: see its state."""
        return await (await self._mover(**how))[0].abort(move, how.get("progress", silence))

    async def rollback(self, move: str, **how: Unpack[MoveOptions]) -> MoveRecord:
        """Take the tenant back to its old home, with everything it wrote since.

        Raises:
            DataDiffers: the old home does not hold what the new one does; the move stays flipped.
        """
        return await (await self._mover(**how))[0].rollback(move, how.get("progress", silence))

    async def release(self, move: str, **how: Unpack[MoveOptions]) -> MoveRecord:
        """Give the way back up, and delete the tenant's rows at its old home."""
        return await (await self._mover(**how))[0].release(move, how.get("progress", silence))

    # -- what is asked before a plan ---------------------------------------------------------------

    async def check_promotion(self, to: str) -> None:
        """See that `to` is, or will be, a dedicated database. Raises ConfigError."""
        if (await self._target(to))[0].kind is not Kind.DEDICATED:
            raise ConfigError(f"{to} is not a dedicated database; `tenantry move` goes anywhere", key="to")

    async def shared_home(self, to: str | None = None) -> str:
        """The shared database that a tenant is demoted to. Raises ConfigError."""
        shared = [name for name, found in (await self._context.databases()).items() if found.kind is Kind.SHARED]
        if to is None:
            if len(shared) != 1:
                raise ConfigError(f"{len(shared)} shared databases: say which", key="to")
            return shared[0]
        if to not in shared:
            raise ConfigError(f"{to} is not a shared database; `tenantry move` goes anywhere", key="to")
        return to

    async def check_not_moving(self, plan: MovePlan) -> None:
        """See that no other move of the tenant is under way: preflight would take what it has made for obstacles.

        Raises:
            MoveBusy: there is one.
        """
        for other in await self.list(plan.tenant):
            if not other.state.finished:
                raise MoveBusy(other.id, f"tenant {plan.tenant} is being moved already")

    async def _wrong_home(self, tenant: str, target: ResolvedDatabase) -> tuple[PreflightFinding, ...]:
        """Why the tenant should not live there, as far as the directory says: see `residence`."""
        row = (await self._context.store.tenants([tenant], removed=True)).get(tenant)
        residence = Residence() if row is None else row.residence
        found = [
            PreflightFinding(
                f"wrong-{one.rule}",
                f"tenant {tenant} is of {one.rule} {one.wanted}, and database {target.name} "
                + ("names none" if one.has is None else f"is of {one.has}"),
                f"choose another database (`tenantry databases list`), or `tenantry tenants set {tenant} "
                f"--{one.rule} {one.has or repr('')}`",
            )
            for one in mismatches(residence, target.site.residence)
        ]
        living = (await self._context.store.count_tenants()).get(target.name, 0)
        if target.kind is Kind.SHARED and target.site.excess(living + 1):
            problem = f"database {target.name} has {living} tenants, and a capacity of {target.site.capacity}"
            fix = "choose another database, or raise its capacity"
            found.append(PreflightFinding("over-capacity", problem, fix, refuses=False))
        return tuple(found)

    # -- how ---------------------------------------------------------------------------------------

    async def _mover(
        self, new: ResolvedDatabase | None = None, **how: Unpack[MoveOptions]
    ) -> tuple[Mover, dict[str, TenantryError]]:
        """A mover for the known databases and for a `new` one, and why some of them can't take part."""
        endpoints: dict[str, Endpoint] = {}
        unusable: dict[str, TenantryError] = {}
        databases = {**await self._context.databases(), **({new.name: new} if new else {})}
        for name, database in databases.items():
            try:
                endpoints[name] = self._endpoint(database)
            except (ConfigError, DsnUnreadable) as error:
                unusable[name] = error
        mover = Mover(
            self._context.config.control.listen_dsn,
            endpoints,
            tenancy=tenancy_of(self._context.config),
            limits=how.get("limits"),
            interrupt=how.get("interrupt"),
        )
        return mover, unusable

    def _endpoint(self, database: ResolvedDatabase) -> Endpoint:
        """What the mover is told of a database."""
        section, servers = database.section, self._context.config.servers
        server = servers.get(section.server or "") if section else None
        reached = (server.direct_dsn or server.operator_dsn) if server else None
        return Endpoint(
            database.name,
            database.kind,
            database.require_operator_dsn(),
            key=self._context.config.key(database.name),
            server_dsn=None if reached is None else reached.get_secret_value(),
            disk=section.disk if section else None,
            server_disk=server.disk if server else None,
            autovacuum=section.autovacuum if section else {},
        )

    async def _target(self, name: str) -> tuple[ResolvedDatabase, bool]:
        """The database to move to, and whether it is known: else a new one on the only server."""
        if name.startswith("node:"):
            raise ConfigError(
                f"{name}: a tenant is pinned to a node by two statements of Citus's own, not by tenantry; "
                "docs/how-to/citus.md has them",
                key="to",
            )
        known = await self._context.databases()
        servers = [*self._context.config.servers]
        if name in known or not servers:
            return await self._context.database(name), True
        if len(servers) > 1:
            raise ConfigError(
                f"no database {name}, and {len(servers)} servers to make it on: say which by "
                f"`tenantry databases add {name} --kind dedicated --server {servers[0]}`"
            )
        check_database_name(name, "to")
        row = DatabaseRow(name, Kind.DEDICATED, f"server:{servers[0]}", {})
        return resolve(self._context.config, row), False

    async def _register(self, database: ResolvedDatabase) -> None:
        """Write a new database to the directory."""
        context = self._context
        await context.store.put_database(database.name, Kind.DEDICATED, database.reference)
        detail = {"kind": Kind.DEDICATED.value, "dsn": database.reference}
        await context.store.record("database.added", context.actor, database=database.name, detail=detail)
