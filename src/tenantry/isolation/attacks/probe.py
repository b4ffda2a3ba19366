"""Runs the battery on a living database, as the application role, with tenants that are found there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from tenantry.catalog.tenancy import Tenancy
from tenantry.catalog.values import Catalog, Relation
from tenantry.isolation.attacks.battery import Progress, battery
from tenantry.isolation.attacks.report import Report
from tenantry.isolation.attacks.scene import (
    AttackTarget,
    Connection,
    NotBound,
    Rights,
    Scene,
    rights_of,
    rows_of,
    undecided,
    undone,
)
from tenantry.isolation.facts import Facts
from tenantry.runtime.sqltext import identifier

Bind = Callable[[Connection, str], Awaitable[None]]
_LOCK_MILLISECONDS = 500
_PAIRS = 2
"""Pairs of tenants that are looked for in each table before it is asked for its own."""


async def probe(
    connection: Connection,
    catalog: Catalog,
    tenancy: Tenancy,
    role: str,
    *,
    bind: Bind | None = None,
    seconds: float = 5.0,
    progress: Progress | None = None,
) -> Report:
    """Attack every tenant table, view and function that shows tenants' rows.

    Nothing is left behind but the transaction ids that were used: every transaction is rolled back, no
    sequence is drawn from, and what could call out of the database (functions with side effects) is not
    called.

    Args:
        connection: of a role that bypasses row-level security and may `SET ROLE` to `role`: it looks for
            the rows to attack.
        role: the application role.
        bind: binds a tenant in the current transaction, as the application does. By default
            `tenantry.bind` where it is installed, else the setting itself.
        seconds: for one statement; a statement that takes longer counts as untried.
        progress: told each table's name.
    """
    facts = Facts(catalog, tenancy, role)
    binder = _AsRole(connection, role, bind or _binder(facts), seconds)
    return await battery(await _scene(facts, binder), progress=progress)


def _binder(facts: Facts) -> Bind:
    names = {f.name for f in facts.catalog.functions.values() if f.schema == "tenantry"}

    async def bind(connection: Connection, tenant: str) -> None:
        if "bind" in names:
            await connection.execute("SELECT tenantry.bind($1)", tenant)
        else:
            await connection.execute("SELECT set_config($1, $2, true)", facts.tenancy.setting, tenant)

    return bind


@dataclass(frozen=True)
class _AsRole:
    """Becomes the application role by SET ROLE, on the administrator's one connection."""

    connection: Connection
    role: str
    bind: Bind
    seconds: float
    calls_volatile: bool = False

    @asynccontextmanager
    async def bound(self, tenant: str) -> AsyncIterator[Connection]:
        async with self.unbound() as connection:
            try:
                await self.bind(connection, tenant)
            except asyncpg.PostgresError as error:
                raise NotBound(f"the tenant {tenant} can't be bound here: {error}") from error
            yield connection

    @asynccontextmanager
    async def unbound(self) -> AsyncIterator[Connection]:
        async with undone(self.connection):
            await self.connection.execute(
                f"{self._patience}; SET LOCAL row_security = on; SET LOCAL ROLE {identifier(self.role)}"
            )
            yield self.connection

    @asynccontextmanager
    async def seeing(self, tenant: str) -> AsyncIterator[Connection]:
        async with undone(self.connection):
            await self.connection.execute(f"{self._patience}; RESET ROLE; SET LOCAL row_security = off")
            yield self.connection

    @property
    def _patience(self) -> str:
        statement = int(self.seconds * 1000)
        return f"SET LOCAL statement_timeout = {statement}; SET LOCAL lock_timeout = {_LOCK_MILLISECONDS}"


async def _scene(facts: Facts, binder: _AsRole) -> Scene:
    """Rows to attack, and whom to attack them as, of every tenant table."""
    rights = await rights_of(binder.connection, facts)
    targets: dict[int, AttackTarget] = {}
    missing: dict[int, str] = {}
    pairs: list[tuple[str, str]] = []
    for relation, _ in facts.tenant_tables:
        try:
            async with binder.seeing("") as connection:
                found = await _target(connection, facts, relation, rights[relation.oid], pairs)
        except (asyncpg.InsufficientPrivilegeError, asyncpg.QueryCanceledError) as error:
            found = f"no row to attack could be looked for: {error}"
        if isinstance(found, str):
            missing[relation.oid] = found
        else:
            targets[relation.oid] = found
            pairs.append((found.attacker, found.victim))
    problems = [
        f"{facts.catalog.relations[oid].key}: {why}"
        for oid, why in missing.items()
        if rights[oid].any and not facts.catalog.relations[oid].partition
    ]
    if not rights:
        problems = ["there are no tenant tables: is this the right database, and the right tenant column?"]
    return Scene(facts, binder, rights, targets, missing, (*problems, *undecided(facts)))


async def _target(
    connection: Connection, facts: Facts, relation: Relation, rights: Rights, pairs: list[tuple[str, str]]
) -> AttackTarget | str:
    """Two tenants with rows in a table: if they can be, the same as in the tables before it."""
    if not rights.any:
        return "the role has no right on it"
    column = facts.tables.tenants[relation.oid]
    name = identifier(column.name)
    some = f"SELECT {name}::text FROM {relation.sql} WHERE {name} IS NOT NULL"
    for attacker, victim in [*dict.fromkeys(pairs)][:_PAIRS]:
        own, count = await rows_of(connection, facts, relation, attacker)
        theirs, _ = await rows_of(connection, facts, relation, victim)
        if theirs is not None and own is not None:
            return AttackTarget(relation, column, rights, attacker, victim, theirs, own, count, facts)
    first = await connection.fetchval(f"{some} LIMIT 1")
    other = await connection.fetchval(f"{some} AND {name}::text <> $1 LIMIT 1", first)
    other = other or next((tenant for pair in pairs for tenant in pair if tenant != first), None)
    if first is None or other is None:
        return "it has no rows of a tenant to attack" if first is None else "no second tenant has any row"
    theirs, _ = await rows_of(connection, facts, relation, first)
    own, count = await rows_of(connection, facts, relation, other)
    if theirs is None:
        return "its rows went away while they were looked for"
    return AttackTarget(relation, column, rights, other, first, theirs, own, count, facts)
