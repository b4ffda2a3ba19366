"""SQLAlchemy 2 on the router: each of SQLAlchemy's transactions is a scope of the tenant.

    engine = create_async_engine(router)

    async with scoped_session(engine, tenant_id) as session:
        session.add(Student(name="Ada"))
        await session.commit()  # really commits; the next statement opens a new scope
        names = (await session.scalars(select(Student.name))).all()

SQLAlchemy's own asyncpg dialect works on a connection that has nothing behind it between two transactions: a
transaction enters `router.tenant(…)`, its commit or rollback leaves it. So SQLAlchemy pools nothing, and what the
router does for a scope (turns, metering, re-routing while the tenant moves) holds for a session's transactions.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

import asyncpg
from sqlalchemy import ForeignKeyConstraint, Uuid, event, text
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.ext.asyncio import create_async_engine as _create_async_engine
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.pool import NullPool
from sqlalchemy.pool.base import _AdhocProxiedConnection

from tenantry import Router, ScopedConnection
from tenantry.errors import ConfigError, InvalidTenantId

__all__ = [
    "TenantMixin",
    "create_async_engine",
    "scoped_session",
    "tenant_foreign_key",
    "tenant_of",
]

#: The execution option that names the tenant.
TENANT: Final = "tenantry_tenant"
#: The one that has the claims of its scopes.
CLAIMS: Final = "tenantry_claims"

#: What a column of the tenant's id gets where a statement does not give it: the tenant of the scope.
_CURRENT = "nullif(current_setting('{setting}', true), '')::{type}"


def create_async_engine(router: Router, **options: Any) -> AsyncEngine:
    """An engine whose transactions are scopes of the router.

    It needs no closing: there is nothing in it. Core names the tenant by an option:
    `engine.execution_options(tenantry_tenant=tenant_id).begin()`; a session gets it from `scoped_session`.

    Args:
        options: of SQLAlchemy's `create_async_engine`, but for pool and connection, which are the router's.

    Raises:
        ConfigError: an option that belongs to the router.
    """
    for name in options:
        if name.startswith("pool") or name in {"connect_args", "creator", "async_creator", "native_inet_types"}:
            raise ConfigError(f"{name} can't be given: connections are the router's; see Router.open", key=name)

    async def connect(*_: Any, **__: Any) -> VirtualConnection:
        return VirtualConnection(router)

    engine = _create_async_engine(
        "postgresql+asyncpg://",
        poolclass=NullPool,
        # The dialect's own cache would outlive the connection that a statement was prepared on.
        connect_args={"async_creator_fn": connect, "prepared_statement_cache_size": 0},
        _initialize=False,
        **options,
    )
    known = False

    @event.listens_for(engine.sync_engine, "engine_connect")
    def bind(connection: Connection) -> None:
        nonlocal known
        virtual = connection.connection.driver_connection
        assert isinstance(virtual, VirtualConnection)
        virtual.tenant = connection.get_execution_options().get(TENANT)
        virtual.claims = connection.get_execution_options().get(CLAIMS)
        if (
            not known
        ):  # SQLAlchemy asks the server for its version when it first connects: then nobody is bound yet
            known = True
            try:
                _ask_the_server(connection)
            except BaseException:
                known = False
                connection.close()  # whoever asked for it gets the error, and nothing to close
                raise

    return engine


def _ask_the_server(connection: Connection) -> None:
    """As SQLAlchemy does at an engine's first connection, in a scope of whoever is first."""
    proxied = _AdhocProxiedConnection(connection.connection.dbapi_connection, None)  # type: ignore[arg-type]
    asking = Connection(
        connection.engine,
        connection=proxied,
        _has_events=False,
        _allow_revalidate=False,
        _allow_autobegin=False,
    )
    try:
        connection.dialect.initialize(asking)
    finally:
        connection.dialect.do_rollback(proxied)


def scoped_session(
    engine: AsyncEngine | Router,
    tenant: uuid.UUID | int | str,
    *,
    claims: Mapping[str, Any] | None = None,
    **options: Any,
) -> AsyncSession:
    """A session whose transactions are scopes of this tenant.

    `async with scoped_session(engine, tenant) as session`

    Args:
        engine: from `create_async_engine`; or a router, for which an engine is made and kept.
        claims: who asks, for each of its scopes; as of `Router.tenant`.
        options: of SQLAlchemy's `AsyncSession`. `expire_on_commit` is False unless you say otherwise.
    """
    if isinstance(engine, Router):
        kept = _engines.get(id(engine))
        if kept is None or kept[0] is not engine:
            kept = _engines[id(engine)] = (engine, create_async_engine(engine))
            engine.add_close_callback(_forget(id(engine)))
        engine = kept[1]
    options.setdefault("expire_on_commit", False)
    return AsyncSession(engine.execution_options(**{TENANT: tenant, CLAIMS: claims}), **options)


_engines: dict[int, tuple[Router, AsyncEngine]] = {}


def _forget(key: int) -> Any:
    async def forget() -> None:
        _engines.pop(key, None)

    return forget


def tenant_of(session: AsyncSession) -> uuid.UUID | int | str:
    """The tenant whose scopes this session's transactions are."""
    bind = session.bind
    tenant: uuid.UUID | int | str | None = None
    if isinstance(bind, AsyncEngine):
        tenant = bind.get_execution_options().get(TENANT)
    if tenant is None:
        raise ConfigError("this session is of no tenant: make it with scoped_session")
    return tenant


class VirtualConnection:
    """What SQLAlchemy's dialect takes for asyncpg's connection: one scope after the other, nothing in between."""

    # Mutable state: tenant and claims; _scope and _connection while a transaction is open.

    def __init__(self, router: Router) -> None:
        self._router = router
        self.tenant: Any = None
        self.claims: Mapping[str, Any] | None = None
        self._scope: Any = None
        self._connection: ScopedConnection | None = None

    # -- transactions ------------------------------------------------------------------------------

    def transaction(
        self, *, isolation: str | None = None, readonly: bool = False, deferrable: bool = False
    ) -> VirtualTransaction:
        """One of SQLAlchemy's transactions, which is a scope."""
        return VirtualTransaction(self, {"isolation": isolation, "readonly": readonly, "deferrable": deferrable})

    async def enter(self, options: dict[str, Any]) -> None:
        """Open a scope."""
        if self.tenant is None:
            raise InvalidTenantId(
                None,
                self._router.ids.value,
                "no tenant was named: use scoped_session, or the option tenantry_tenant",
            )
        scope = self._router.tenant(self.tenant, claims=self.claims, **options)
        self._connection = await scope.__aenter__()
        self._scope = scope
        try:
            await self._connection.opened()  # so that whatever is wrong is told here, as the error of BEGIN
        except BaseException:
            await self.leave(commit=False)
            raise

    async def leave(self, *, commit: bool) -> None:
        """End the scope. Idempotent."""
        scope, self._scope, self._connection = self._scope, None, None
        if scope is None:
            return
        if commit:
            await scope.__aexit__(None, None, None)
        else:
            error = _RolledBack()
            await scope.__aexit__(_RolledBack, error, None)

    def _open(self) -> ScopedConnection:
        if self._connection is None:
            raise asyncpg.InterfaceError(
                "a tenant's statements run in a transaction: the isolation level AUTOCOMMIT has none"
            )
        return self._connection

    # -- what the dialect calls --------------------------------------------------------------------

    async def prepare(self, query: str, *, name: str | None = None) -> Any:
        """A statement of the open scope."""
        return await self._open().prepare(query)

    async def executemany(self, command: str, args: Sequence[Any]) -> None:
        """As asyncpg's."""
        await self._open().executemany(command, args)

    async def fetchrow(self, query: str) -> Any:
        """As asyncpg's."""
        return await self._open().fetchrow(query)

    async def reload_schema_state(self) -> None:
        """As asyncpg's, for the connection that is behind the open scope."""
        if self._connection is not None:
            await self._connection.reload_schema_state()

    async def set_type_codec(self, *_: Any, **__: Any) -> None:
        """The dialect wants JSON as text, which is what asyncpg gives where nobody says otherwise."""

    def is_closed(self) -> bool:
        """Whether the connection behind the open scope is lost."""
        return self._connection is not None and self._connection.is_closed()

    async def close(self, timeout: float | None = None) -> None:
        """Roll back what is open."""
        await self.leave(commit=False)

    def terminate(self) -> None:
        """Roll back what is open, in the background: SQLAlchemy calls this where it can't wait."""
        if self._scope is not None:
            task = asyncio.get_running_loop().create_task(
                self.leave(commit=False), name="tenantry sqlalchemy rollback"
            )
            _leaving.add(task)
            task.add_done_callback(_leaving.discard)

    def __getattr__(self, name: str) -> Any:
        """The rest of asyncpg's connection, while a scope is open: for `driver_connection` and raw statements."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._open(), name)


_leaving: set[asyncio.Task[None]] = set()


class _RolledBack(Exception):
    """Tells a scope to roll back."""


class VirtualTransaction:
    """One scope, as the dialect uses asyncpg's transactions."""

    def __init__(self, connection: VirtualConnection, options: dict[str, Any]) -> None:
        self._connection = connection
        self._options = options

    async def start(self) -> None:
        """Open the scope."""
        await self._connection.enter(self._options)

    async def commit(self) -> None:
        """Commit it."""
        await self._connection.leave(commit=True)

    async def rollback(self) -> None:
        """Roll it back."""
        await self._connection.leave(commit=False)


# -- models ----------------------------------------------------------------------------------------


class TenantMixin:
    """Gives a model the tenant's column, first in its primary key, filled in by the database.

    For uuids under the setting app.current_tenant, which are the defaults. Where yours differ, write the column:
    `mapped_column(BigInteger, primary_key=True, server_default=current_tenant("app.current_org", "bigint"))`.
    """

    tenant_id: Mapped[uuid.UUID] = mapped_column(
        Uuid(),
        primary_key=True,
        sort_order=-100,
        server_default=text(_CURRENT.format(setting="app.current_tenant", type="uuid")),
    )


def current_tenant(setting: str = "app.current_tenant", type: str = "uuid") -> Any:
    """The default of a tenant's column: the scope's tenant. `setting` and `type` as in the configuration."""
    if not setting.replace(".", "").replace("_", "").isalnum() or type not in {"uuid", "bigint", "text"}:
        raise ConfigError(f"not a setting and a type of tenants' ids: {setting!r}, {type!r}")
    return text(_CURRENT.format(setting=setting, type=type))


def tenant_foreign_key(
    columns: str | Sequence[str],
    references: str,
    *,
    to: str | Sequence[str] = "id",
    tenant: str = "tenant_id",
    **options: Any,
) -> ForeignKeyConstraint:
    """A foreign key that includes the tenant, so that a row can't reference another tenant's.

    `__table_args__ = (tenant_foreign_key("student_id", "students"),)`

    Args:
        columns: of this table, without the tenant's.
        references: the other table, with its schema if it has one.
        to: the other table's columns, without the tenant's.
        options: of `ForeignKeyConstraint`.
    """
    mine = [columns] if isinstance(columns, str) else list(columns)
    theirs = [to] if isinstance(to, str) else list(to)
    return ForeignKeyConstraint(
        [tenant, *mine], [f"{references}.{tenant}", *(f"{references}.{name}" for name in theirs)], **options
    )
