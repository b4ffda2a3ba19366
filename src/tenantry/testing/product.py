"""A product's schema in a database of its own, with tenants that can really be promoted."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Self

from tenantry import kits
from tenantry.catalog.read import read
from tenantry.catalog.tables import tenant_tables
from tenantry.catalog.tenancy import Tenancy
from tenantry.config import Config
from tenantry.errors import TenantryError
from tenantry.ids import IdType, Kind, TenantId
from tenantry.isolation.apply import adopt
from tenantry.move import Limits, MoveStopped, State
from tenantry.operations import Operations
from tenantry.router.driver import OnConnect
from tenantry.runtime.sqltext import identifier
from tenantry.schema import install_control, install_data
from tenantry.testing.leftovers import ScopeLeftOpen, run_alone
from tenantry.testing.server import Server
from tenantry.wiring import Router

#: Of moves in tests: a missed fence is tried again soon, and what can't be done is told within a minute.
LIMITS: Final = Limits(backoff=0.1, attempts=10, patience=30.0, catch_up=60.0)
_FORGET: Final = "DELETE FROM tenantry.placement; DELETE FROM tenantry.tenant"
#: What of the kits names tenants.
_KEPT: Final = tuple(f"tenantry.{name}" for name in ("quota_plan", "quota_exception", "audit_log", "usage_copy"))


class Product:
    """A product's schema in a database of its own, ready for a router. Made by `Product.installed`.

    `database` and `role` are the names of its database and of the application's role; `tenancy` says how its
    tables tell tenants apart.
    """

    # Mutable state: _away, the databases of promotions that are not taken back yet; watched, while
    # `only_in_scopes` is entered.

    def __init__(
        self,
        server: Server,
        database: str,
        role: str,
        password: str,
        tenancy: Tenancy,
        on_connect: OnConnect | None = None,
    ) -> None:
        self.server = server
        self.database = database
        self.role = role
        self.tenancy = tenancy
        self._password = password
        self._on_connect = on_connect
        self._numbers = itertools.count(1)
        self._away: list[str] = []
        self.watched = False

    @classmethod
    @asynccontextmanager
    async def installed(
        cls,
        server: Server,
        schema: str = "",
        *,
        ids: IdType | str = IdType.UUID,
        column: str = "tenant_id",
        setting: str = "app.current_tenant",
        tables: Mapping[str, str] | None = None,
        policies: bool = True,
        foreign_keys: bool = True,
        kits: str | Iterable[str] = (),
        on_connect: OnConnect | None = None,
    ) -> AsyncIterator[Self]:
        """A fresh database with the tenantry schema and the product's; it and its role are dropped at the end.

        Args:
            schema: the product's SQL; `{role}` in it stands for the application role, quoted.
            policies: True brings the tables to tenantry's standard, as `tenantry rls apply` does; False takes
                the schema as it is, with grants and policies of its own.
            foreign_keys: with `policies`: foreign keys between tenant tables compare the tenants too, as
                `tenantry rls apply --foreign-keys` makes them.
            kits: "quotas", "audit" and "usage", as `tenantry init --with` installs them; they are there before
                the schema, which can call `tenantry.quota_on` and the like.
            on_connect: what the product gives to `Router.open`: awaited with every new connection of `router`.
        """
        tenancy = Tenancy(column=column, id_type=IdType(ids), setting=setting, tables=dict(tables or {}))
        role, password = f"tenantry_app_{secrets.token_hex(4)}", secrets.token_urlsafe(24)
        async with server.database() as database:
            product = cls(server, database, role, password, tenancy, on_connect)
            async with server.connect(database) as owner:
                await owner.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
            try:
                async with server.connect(database) as owner:
                    await _install(owner, tenancy, role, kits)
                    if schema:
                        await owner.execute(schema.replace("{role}", identifier(role)))
                    if policies:
                        await adopt(owner, tenancy, role=role, foreign_keys=foreign_keys)
                yield product
            finally:
                try:
                    await product.take_back()
                finally:
                    async with server.connect(database) as owner:
                        await owner.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")

    @property
    def ids(self) -> IdType:
        """The type of tenant ids."""
        return self.tenancy.id_type

    @property
    def column(self) -> str:
        """The tenant column."""
        return self.tenancy.column

    @property
    def dsn(self) -> str:
        """The address that the application uses."""
        return self.server.dsn(self.database, self.role, self._password)

    @property
    def owner_dsn(self) -> str:
        """The address of the role that owns the schema."""
        return self.server.dsn(self.database)

    @property
    def databases(self) -> tuple[str, ...]:
        """Its database, and those that tenants were promoted to, as the server knows them."""
        return (self.database, *self._away)

    def config(self, **sections: Mapping[str, Any]) -> Config:
        """A configuration with this database, and its server for those of promoted tenants; sections add to its
        own.
        """
        reached = {"dsn": self.dsn, "operator_dsn": self.owner_dsn}
        tenancy = {
            "type": self.ids.value,
            "column": self.column,
            "setting": self.tenancy.setting,
            "tables": dict(self.tenancy.tables),
        }
        return Config.parse(
            {
                **sections,
                "tenancy": {**tenancy, **sections.get("tenancy", {})},
                "control": {"dsn": self.owner_dsn, **sections.get("control", {})},
                "servers": {"own": reached, **sections.get("servers", {})},
                "databases": {"shared": {"kind": "shared", **reached}, **sections.get("databases", {})},
            },
            source="tenantry.testing",
        )

    @asynccontextmanager
    async def router(
        self, *, on_connect: OnConnect | None = None, **sections: Mapping[str, Any]
    ) -> AsyncIterator[Router]:
        """An open router on it; sections as of `config`. `on_connect`: None: that of `installed`.

        Scopes that a test has left open are cut off after a second.
        """
        chosen = on_connect or self._on_connect
        router = await Router.open(self.config(**sections), metrics=False, on_connect=chosen)
        try:
            yield router
        finally:
            await router.close(grace=1.0)

    # -- moves -------------------------------------------------------------------------------------

    async def promote(self, tenant: TenantId, *, limits: Limits = LIMITS) -> str:
        """Really promote a tenant, as `tenantry promote` does: to a database of its own, made on the same server.

        Routers that are open follow. `take_back`, and the end of the product, undo it. The server needs
        `wal_level = logical`, as an embedded one has it, and a pg_dump of its version.

        Returns:
            The database's name, in the directory and on the server.

        Raises:
            MoveRefused: preflight says why this schema, or this server, can't be moved.
            MoveStopped: the move could not be done while the product was at work; it is aborted.
        """
        name = f"{self.database}_own_{next(self._numbers)}"
        self._away.append(name)  # from now on: whatever becomes of the move, `take_back` looks after it
        async with Operations.open(self.config(), actor="tenantry.testing") as operations:
            try:
                await operations.moves.promote(tenant, name, limits=limits)
            except MoveStopped as stopped:
                with suppress(TenantryError):  # what stopped it is what the test must see
                    await operations.moves.abort(stopped.move, limits=limits)
                raise
        return name

    async def take_back(self, *, limits: Limits = LIMITS) -> None:
        """Roll every promotion back, with what the tenants have written since, and drop their databases.

        Also of those that were broken off.

        Raises:
            MoveStopped: it could not be done.
        """
        if not self._away:
            return
        async with Operations.open(self.config(), actor="tenantry.testing") as operations:
            moves = operations.moves
            while left := [one for one in await moves.list() if not one.state.finished]:
                for one in left:  # an abort that the flip came before goes forward: then it is rolled back
                    undo = moves.rollback if one.state in (State.FLIPPED, State.ROLLING_BACK) else moves.abort
                    await undo(one.id, limits=limits)
            for name in self._away:
                await self.server.drop(name)
                with suppress(TenantryError):
                    await operations.databases.remove(name)
        self._away.clear()

    # -- cleaning ----------------------------------------------------------------------------------

    async def clean(self) -> None:
        """Everything that tests have left of tenants goes: promotions, rows, numbers of sequences, the tenants.

        Reference tables, and what the schema has written to them, stay. Limits of plans stay too.

        Raises:
            ScopeLeftOpen: a transaction of the test still held the tables. It was cut off, and all of it is clean.
        """
        await self.take_back()
        async with self.server.connect(self.database) as owner:
            catalog = await read(owner)
            placed = tenant_tables(catalog, self.tenancy)  # what hangs there by a foreign key goes with it
            oids = {*placed.tenants, *placed.dependent, *placed.waved_through}
            tables = [catalog.relations[oid].sql for oid in sorted(oids)]
            kept = [name for name in _KEPT if await owner.fetchval("SELECT to_regclass($1) IS NOT NULL", name)]
            empty = f"TRUNCATE {', '.join((*tables, *kept))} RESTART IDENTITY;" if tables or kept else ""
            left = await run_alone(owner, self.role, empty + _FORGET)
        if left:
            raise ScopeLeftOpen(left)


async def _install(owner: Any, tenancy: Tenancy, role: str, wanted: str | Iterable[str]) -> None:
    await install_control(owner)
    await install_data(
        owner,
        name="shared",
        kind=Kind.SHARED,
        setting=tenancy.setting,
        id_type=tenancy.id_type,
        application_role=role,
    )
    await kits.install(owner, wanted, application_role=role)
    await owner.execute("INSERT INTO tenantry.database (name, kind, dsn) VALUES ('shared', 'shared', 'config')")
