"""The pools of all databases, within the process's budget."""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import asyncpg

from tenantry.catalog.tenancy import Tenancy
from tenantry.errors import ConfigError, DatabaseUnavailable, RouterClosed, TenantryError
from tenantry.events import Events
from tenantry.ids import Kind
from tenantry.router import driver, roles, self_test
from tenantry.router.admission import Admission
from tenantry.router.budget import Budget
from tenantry.router.driver import Connection, OnConnect
from tenantry.router.origin import Origin
from tenantry.router.pool import Pool
from tenantry.router.scope import ProofContext
from tenantry.router.waiter import Waiter
from tenantry.runtime.connection_errors import NOT_CONNECTED
from tenantry.runtime.durations import seconds
from tenantry.runtime.periodic import Periodic

logger = logging.getLogger("tenantry")


@dataclass(frozen=True, slots=True)
class DatabaseSpec:
    """What the router must know of a database to open connections to it."""

    name: str
    kind: Kind
    dsn: str = field(repr=False)
    operator_dsn: str | None = field(default=None, repr=False)
    """DSN of a role that may bypass RLS, for operator scopes; None: there are none on this database."""
    size: int = 20
    """Connections at most."""
    idle: float = 600.0
    """Seconds after which an unused connection is closed."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """`server_settings` of every connection."""
    key: bytes | None = field(default=None, repr=False)
    """Hardened mode's key of this database; None: it isn't hardened."""
    prepared_statements: bool | None = None
    """Whether asyncpg may keep named statements; None: unless a pooler is found in between."""
    reread: Callable[[], DatabaseSpec] | None = field(default=None, repr=False, compare=False)
    """The same with its DSNs read again from where they stand: a rotated password is found there. Raises
    DsnUnreadable. None: they can't change while the process runs."""


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """Limits of one process, over all databases."""

    connections: int = 100
    tenant_share: float = 0.75
    """Part of one pool that one tenant may hold while others exist."""
    queue: int = 1000
    """Waiting checkouts per tenant."""
    timeout: float = 30.0
    """Seconds: a caller's deadline unless it says another."""
    connect_timeout: float = 5.0
    """Seconds for opening one connection."""

    def __post_init__(self) -> None:
        """Refuse times that can't be waited for, as ValueError."""
        seconds("timeout", self.timeout)
        seconds("connect_timeout", self.connect_timeout)


#: Seconds, at most, between two looks for connections that have been idle for too long.
REAPED_EVERY: Final = 10.0

logger = logging.getLogger("tenantry")

#: A DSN that asks for a standby, in a libpq parameter.
_STANDBY_WANTED = re.compile(r"target_session_attrs=(standby|prefer-standby|read-only)\b")

Resolve = Callable[[str], Awaitable[DatabaseSpec | None]]


class Pools:
    """One pool per database, made on first use."""

    # Mutable state: _specs (known databases), _pools (by name), _warned (by name, of a role), _closed.

    def __init__(
        self,
        specs: Mapping[str, DatabaseSpec],
        *,
        limits: ProcessLimits,
        tenancy: Tenancy,
        events: Events,
        resolve: Resolve,
        on_connect: OnConnect | None = None,
        dice: random.Random | None = None,
    ) -> None:
        """Args:
        specs: databases known from the start.
        tenancy: which tables are tenants', for the check of the role.
        resolve: finds a database that is not among `specs`, in the directory.
        on_connect: the application's own preparation of each new connection (type codecs).
        """
        self._specs = dict(specs)
        self._limits = limits
        self._tenancy = tenancy
        self._events = events
        self._resolve = resolve
        self._on_connect = on_connect
        self._dice = dice or random.Random()  # noqa: S311  (jitter, not a secret)
        self._pools: dict[str, Pool] = {}
        self._reaping = Periodic(
            self._reap, REAPED_EVERY, lambda _error, _failures: self._until_next_look(), name="tenantry reaper"
        )
        self._warned: set[str] = set()
        self._closed = False
        self.origin = Origin()
        self.budget = Budget(limits.connections)
        self.ready = self._pools.get  # the hot path: one dictionary access

    async def get(self, name: str) -> Pool:
        """The pool of a database.

        Raises:
            DatabaseUnavailable: nobody knows how to reach it.
        """
        pool = self._pools.get(name)
        if pool is not None:
            return pool
        spec = await self.spec(name)
        if self._closed:
            raise RouterClosed
        pool = self._pools.get(name)  # somebody may have been faster
        if pool is None:
            pool = self._pools[name] = self._make(spec)
            self._reaping.start()
        return pool

    async def spec(self, name: str) -> DatabaseSpec:
        """What is known of a database. Raises as `get`."""
        spec = self._specs.get(name)
        if spec is None:
            spec = await self._resolve(name)
            if spec is None:
                raise DatabaseUnavailable(
                    name, "no DSN: name it under databases: in the configuration, or set its env: reference"
                )
            self._specs[name] = spec
        return spec

    @property
    def tenancy(self) -> Tenancy:
        """Which tables are tenants'."""
        return self._tenancy

    def known(self) -> Mapping[str, DatabaseSpec]:
        """The databases known so far."""
        return self._specs

    def open_pools(self) -> Mapping[str, Pool]:
        """The pools made so far."""
        return self._pools

    def _make(self, spec: DatabaseSpec) -> Pool:
        share = self._limits.tenant_share if spec.kind is Kind.SHARED else 1.0
        admission: Admission[Waiter] = Admission(spec.size, share=share, queue=self._limits.queue)
        return Pool(
            spec.name,
            dial=lambda: self.dial(spec),
            admission=admission,
            budget=self.budget,
            events=self._events,
            key=spec.key,
            idle=spec.idle,
            dice=self._dice,
        )

    async def dial(self, spec: DatabaseSpec) -> tuple[Connection, ProofContext]:
        """Open a connection that is fit for scopes: its role is safe, its session prepared, its server writable.

        Where the database does not let us in, its DSN is read again: a password that was rotated stands there.

        Raises:
            UnsafeRole, ConfigError, DatabaseUnavailable, or what asyncpg raises.
        """
        known = self._specs.get(spec.name, spec)
        try:
            return await self._dial(known)
        except (*NOT_CONNECTED, DatabaseUnavailable) as error:
            try:
                fresh = known if known.reread is None else known.reread()
            except TenantryError:
                fresh = known  # what was read before is all there is
            # Cut off after it was let in: a pooler has given it a server's process that was ending. Once more.
            if fresh.dsn == known.dsn and not isinstance(error, asyncpg.ConnectionDoesNotExistError):
                raise
        self._specs[spec.name] = fresh
        return await self._dial(fresh)

    async def _dial(self, spec: DatabaseSpec, *, pipelined: bool = True) -> tuple[Connection, ProofContext]:
        cached = spec.prepared_statements is not False
        connection = await self._connect(spec, cached)
        try:
            session = await roles.inspect(
                connection, spec.name, self._tenancy, timeout=self._limits.connect_timeout
            )
            if session.pooled and cached and spec.prepared_statements is None:
                # PgBouncer before 1.21 breaks named statements, and nothing tells its version here.
                await driver.close(connection)
                connection = await self._connect(spec, cached_statements=False)
            if session.control_access and spec.name not in self._warned:
                self._warned.add(spec.name)
                logger.warning("database %s: the scopes' role %s", spec.name, "; ".join(session.control_access))
            if session.hardened != (spec.key is not None):
                raise ConfigError(
                    f"database {spec.name} is {'' if session.hardened else 'not '}hardened; set "
                    f"tenancy.hardened to {str(session.hardened).lower()}, or run `tenantry init`",
                    key="tenancy.hardened",
                )
            if driver.is_standby(connection) and not _STANDBY_WANTED.search(spec.dsn):
                raise DatabaseUnavailable(
                    spec.name,
                    "its DSN leads to a hot standby, which takes no writes; if that is meant, say "
                    "target_session_attrs=standby in the DSN",
                )
            if pipelined:
                why = await self_test.run(connection, self._limits.connect_timeout)
                if why is not None:
                    connection.terminate()  # its state is anybody's guess
                    logger.warning(
                        "database %s: scopes take a flight more, because their openings can't travel with "
                        "statements: %s",
                        spec.name,
                        why,
                    )
                    return await self._dial(spec, pipelined=False)
            if self._on_connect is not None:
                await self._on_connect(connection)
            if driver.keeps_statements(connection):
                driver.expect(connection, session.surroundings)
        except BaseException:
            connection.terminate()
            raise
        backend = 0 if session.pooled else session.backend
        return connection, ProofContext(backend, session.pooled, pipelined)

    @asynccontextmanager
    async def permit(self, database: str) -> AsyncIterator[None]:
        """Room for one connection beside the pools, in the process's budget.

        Raises:
            DatabaseUnavailable: there was none within router.timeout.
        """
        try:
            async with asyncio.timeout(self._limits.timeout):
                await self.budget.acquire(self, asyncio.get_running_loop().time)
        except TimeoutError:
            raise DatabaseUnavailable(
                database, f"all {self._limits.connections} connections of router.connections are in use"
            ) from None
        try:
            yield
        finally:
            self.budget.give_back()

    async def _connect(self, spec: DatabaseSpec, cached_statements: bool) -> Connection:
        return await driver.connect(
            spec.dsn,
            timeout=self._limits.connect_timeout,
            application_name="tenantry",
            settings=spec.settings,
            cached_statements=cached_statements,
            origin=self.origin,
        )

    async def _reap(self) -> float:
        now = asyncio.get_running_loop().time()
        for pool in self._pools.values():
            pool.reap(now)
        return self._until_next_look()

    def _until_next_look(self) -> float:
        shortest = min(spec.idle for spec in self._specs.values())
        return min(REAPED_EVERY, max(0.05, shortest / 4))

    async def close(self, seconds: float) -> dict[str, int]:
        """Close every pool; returns how many scopes had to be cut, by database. Idempotent."""
        self._closed = True
        await self._reaping.close()
        pools = list(self._pools.values())
        cut = await asyncio.gather(*(pool.close(seconds) for pool in pools))
        return {pool.database: n for pool, n in zip(pools, cut, strict=True) if n}
