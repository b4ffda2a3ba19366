"""Small optional parts that a product installs into its data databases: quotas, audit log, usage view.

Each is one SQL file of `sql/kits`, harmless to install again, and can be taken away. What they promise holds
against the application role: its rights are set here, and row-level security backs them.

Importing this module teaches asyncpg what SQLSTATE TN010 is: the limit of a plan arrives as `QuotaExceeded`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import date
from functools import cached_property
from typing import Any, Final

import asyncpg

from tenantry.errors import ConfigError, UnsafeRole
from tenantry.runtime import locks
from tenantry.runtime.sqlstates import QUOTA_EXCEEDED
from tenantry.sql import query

QUOTAS: Final = "quotas"
AUDIT: Final = "audit"
USAGE: Final = "usage"
#: Every kit, in the order in which they are installed.
KITS: Final[tuple[str, ...]] = (QUOTAS, AUDIT, USAGE)

#: What a tenant takes along when it moves: tables of the quotas kit with rows of its own.
_OWN: Final = {"quota_plan": "tenant, plan", "quota_exception": "tenant, resource, max_rows"}
#: Entries of the audit log that are carried at once: bounds the memory.
_PAGE: Final = 2000


class QuotaExceeded(asyncpg.PostgresError):
    """A plan's limit is reached: the insert, and with it the transaction, is undone. SQLSTATE TN010.

    Raised by asyncpg itself once `tenantry.kits` is imported.
    """

    sqlstate = QUOTA_EXCEEDED

    @cached_property
    def _facts(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(getattr(self, "detail", None) or "{}")
        return found

    @property
    def resource(self) -> str:
        """What is limited."""
        return str(self._facts.get("resource", ""))

    @property
    def limit(self) -> int:
        """How many rows the tenant may have."""
        return int(self._facts.get("limit", 0))

    @property
    def used(self) -> int:
        """How many it had before the statement that was refused."""
        return int(self._facts.get("used", 0))


def parse(names: str | Iterable[str]) -> tuple[str, ...]:
    """The kits of a list like "quotas,audit", in the order in which they are installed.

    Raises:
        ConfigError: for a name that is none.
    """
    words = names.split(",") if isinstance(names, str) else list(names)
    wanted = {word.strip() for word in words if word.strip()}
    unknown = sorted(wanted - set(KITS))
    if unknown:
        raise ConfigError(f"no kit {unknown[0]!r}; there are: {', '.join(KITS)}", key="--with")
    return tuple(kit for kit in KITS if kit in wanted)


async def installed(connection: Any) -> tuple[str, ...]:
    """The kits that a data database has."""
    rows = await connection.fetch(
        "SELECT kit FROM unnest($1::text[]) AS kit "
        "WHERE to_regprocedure(format('tenantry.%s_grant(text)', kit)) IS NOT NULL",
        list(KITS),
    )
    found = {row["kit"] for row in rows}
    return tuple(kit for kit in KITS if kit in found)


async def install(
    connection: Any,
    names: str | Iterable[str],
    *,
    application_role: str | Sequence[str] | None,
) -> tuple[str, ...]:
    """Bring kits to this version, and set what the application role may do with them; returns them in order.

    Idempotent: limits, entries and recorded tables stay. The connection is of the role that installed the
    `tenantry` schema of this data database.

    Raises:
        ConfigError: for a name that is no kit, or where the `tenantry` schema is missing.
        UnsafeRole: the application role owns the kits' tables, directly or as a member: nothing would hold.
    """
    wanted = parse(names)
    roles = [application_role] if isinstance(application_role, str) else list(application_role or ())
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", locks.INSTALLING)
        if await connection.fetchval("SELECT to_regclass('tenantry.database_identity') IS NULL"):
            raise ConfigError("kits need the tenantry schema first: run `tenantry init`", key="--with")
        for role in roles:
            await _refuse_owners(connection, role)
        for kit in wanted:
            await connection.execute(query(f"kits/{kit}"))
            for role in roles:
                await connection.execute(f"SELECT tenantry.{kit}_grant($1)", role)
    return wanted


async def remove(connection: Any, names: str | Iterable[str], *, keep_log: bool = True) -> tuple[str, ...]:
    """Take kits away, with their triggers on the product's tables; returns those that were there.

    Args:
        keep_log: False drops what the audit kit has recorded too.
    """
    wanted = parse(names)
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", locks.INSTALLING)
        there = tuple(kit for kit in await installed(connection) if kit in wanted)
        for kit in there:
            await connection.execute(query(f"kits/{kit}_remove"))
        if AUDIT in wanted and not keep_log:
            await connection.execute(
                "DROP TABLE IF EXISTS tenantry.audit_log; DROP FUNCTION IF EXISTS tenantry.audit_keep()"
            )
    return there


async def act_as(connection: Any, actor: str) -> None:
    """Name who acts, until the scope ends: the audit log keeps it beside the role that logged in."""
    await connection.execute("SELECT set_config('tenantry.actor', $1, true)", actor)


async def carry(source: Any, target: Any, tenant: object) -> int:
    """Bring a tenant's limits and audit entries to the database that it moves to; returns how many rows.

    For moves that are made by hand: the mover does this by itself. Run it before the tenant's first write there;
    what comes later, `carry_log` brings. Both connections are of the installing role; kits that the target doesn't
    have are left out.
    """
    return await carry_limits(source, target, tenant) + await carry_log(source, target, tenant)


async def carry_limits(source: Any, target: Any, tenant: object) -> int:
    """Give a tenant the limits at `target` that it has at `source`; returns how many rows changed.

    Its plan and its exceptions are made equal. Limits of plans are everybody's: a dedicated database, which has
    nobody else, gets those of the source; a shared one keeps its own. It gets those of the tenant's plan only if
    the plan means nothing there yet, and never those of the plan "default".
    """
    if not await _both(source, target, QUOTAS):
        return 0
    limits = [tuple(r) for r in await source.fetch("SELECT plan, resource, max_rows FROM tenantry.quota_limit")]
    async with target.transaction():
        changed = 0
        there = await limits_of(target, tenant)
        wanted = await limits_of(source, tenant)
        for table, columns in _OWN.items():
            if wanted[table] == there[table]:
                continue
            await target.execute(f"DELETE FROM tenantry.{table} WHERE tenant = $1", str(tenant))  # noqa: S608
            places = ", ".join(f"${number}" for number in range(1, columns.count(",") + 2))
            insert = f"INSERT INTO tenantry.{table} ({columns}) VALUES ({places})"  # noqa: S608
            await target.executemany(insert, wanted[table])
            changed += len(wanted[table])
        own = wanted["quota_plan"][0][1] if wanted["quota_plan"] else None
        if await target.fetchval("SELECT kind = 'dedicated' FROM tenantry.database_identity"):
            plans = sorted({plan for plan, _, _ in limits} | {own or "default", "default"})
            made = await target.fetchval(query("kits/equal_limits"), plans, *_columns(limits, 3))
        else:
            of_plan = _columns([(resource, rows) for plan, resource, rows in limits if plan == own], 2)
            made = await target.fetchval(query("kits/add_plan"), str(tenant), own, *of_plan)
    return changed + int(made)


async def limits_of(connection: Any, tenant: object) -> dict[str, list[list[Any]]]:
    """What a tenant's limits in one database come from, by table: its plan, its exceptions, its plans' limits."""
    if QUOTAS not in await installed(connection):
        return {}
    found = {}
    for table, columns in _OWN.items():
        read = f"SELECT {columns} FROM tenantry.{table} WHERE tenant = $1 ORDER BY 1, 2"  # noqa: S608  named above
        found[table] = [list(row) for row in await connection.fetch(read, str(tenant))]
    of_plans = await connection.fetch(query("kits/limits_of"), str(tenant))
    return {**found, "quota_limit": [list(row) for row in of_plans]}


def _columns(rows: Sequence[Sequence[Any]], width: int) -> list[list[Any]]:
    """Rows as arrays, one for each column."""
    return [[row[place] for row in rows] for place in range(width)]


async def carry_log(source: Any, target: Any, tenant: object, *, since: str | None = None) -> int:
    """Bring a tenant's audit entries that `target` doesn't have yet; returns how many those were.

    Args:
        since: from `log_position`, taken before an earlier run: what was written before it is not read again.
    """
    if not await _both(source, target, AUDIT):
        return 0
    brought = 0
    async with source.transaction(isolation="repeatable_read", readonly=True):
        page: list[Any] = []
        async for row in source.cursor(query("kits/read_log"), str(tenant), since or "0", prefetch=_PAGE):
            page.append(row)
            if len(page) == _PAGE:
                brought += await _store_log(target, page)
                page = []
        return brought + await _store_log(target, page)


async def _store_log(target: Any, page: Sequence[Any]) -> int:
    if not page:
        return 0
    found = _columns(page, len(page[0]))
    # First: entries of this database that come back must find no writer with the same number.
    await target.fetchval(query("kits/pass_ids"), found[0], found[1])
    return int(await target.fetchval(query("kits/store_log"), *found))


async def log_position(source: Any) -> str:
    """A place in the source's history: all that was written before it can be seen by now."""
    return str(await source.fetchval("SELECT pg_snapshot_xmin(pg_current_snapshot())::text"))


async def forget(connection: Any, tenant: object) -> None:
    """Take a tenant's plan and exceptions away where it no longer lives. Entries of the audit log stay."""
    if QUOTAS in await installed(connection):
        for table in (*_OWN, "quota_turn"):
            await connection.execute(f"DELETE FROM tenantry.{table} WHERE tenant = $1", str(tenant))  # noqa: S608


async def _both(source: Any, target: Any, kit: str) -> bool:
    return kit in await installed(source) and kit in await installed(target)


async def copy_usage(control: Any, data: Any, *, since: date) -> int:
    """Copy days of the ledger for the tenants that live in a data database; returns how many days of tenants.

    For databases that are not the control database: there the view reads the ledger itself. A later copy
    replaces an earlier one, so it may run as often as wanted, and twice at once.

    Args:
        since: the first day, UTC.
    """
    tenants = await data.fetch(
        "SELECT p.tenant FROM tenantry.placement AS p JOIN tenantry.database_identity AS l ON l.name = p.database"
    )
    rows = await control.fetch(query("kits/copy_usage"), since, [row["tenant"] for row in tenants])
    await data.executemany(query("kits/store_usage"), [tuple(row.values()) for row in rows])
    return len(rows)


async def _refuse_owners(connection: Any, role: str) -> None:
    owner = await connection.fetchval(
        "SELECT CASE WHEN pg_has_role($1::text, c.relowner, 'MEMBER') THEN c.relowner::regrole::text END "
        "FROM pg_class AS c WHERE c.oid = 'tenantry.database_identity'::regclass",
        role,
    )
    if owner is not None:
        raise UnsafeRole(
            await connection.fetchval("SELECT name FROM tenantry.database_identity") or "this one",
            role,
            [f"it owns the tenantry schema, or acts as its owner {owner}, so no kit holds against it"],
            ["install with another role, and serve through one that owns nothing"],
        )
