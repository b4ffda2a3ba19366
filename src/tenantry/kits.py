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
from tenantry.sql import query

QUOTAS: Final = "quotas"
AUDIT: Final = "audit"
USAGE: Final = "usage"
#: Every kit, in the order in which they are installed.
KITS: Final[tuple[str, ...]] = (QUOTAS, AUDIT, USAGE)
#: Keeps two installers apart; the same as that of `directory.schema`.
_INSTALLING: Final = 1415071061

#: What a tenant takes along when it moves, by kit: table, columns, condition. Limits of plans are everybody's.
_CARRIED: Final[dict[str, tuple[tuple[str, str, str], ...]]] = {
    QUOTAS: (
        ("quota_limit", "plan, resource, max_rows", "$1 <> ''"),
        ("quota_plan", "tenant, plan", "tenant = $1"),
        ("quota_exception", "tenant, resource, max_rows", "tenant = $1"),
    ),
    AUDIT: (
        (
            "audit_log",
            "home, id, tenant, at, transaction, actor, session_role, relation, operation, key, old, new",
            "tenant = $1",
        ),
    ),
    USAGE: (),
}


class QuotaExceeded(asyncpg.PostgresError):
    """A plan's limit is reached: the insert, and with it the transaction, is undone. SQLSTATE TN010.

    Raised by asyncpg itself once `tenantry.kits` is imported.
    """

    sqlstate = "TN010"

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
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _INSTALLING)
        if await connection.fetchval("SELECT to_regclass('tenantry.local') IS NULL"):
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
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _INSTALLING)
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

    What the target has already is left alone, so it may be run before a move and again after it. Both
    connections are of the installing role; kits that the target doesn't have are left out.
    """
    there = await installed(target)
    brought = 0
    for kit in await installed(source):
        for table, columns, condition in _CARRIED[kit] if kit in there else ():
            rows = await source.fetch(
                f"SELECT {columns} FROM tenantry.{table} WHERE {condition}",  # noqa: S608  (all named above)
                str(tenant),
            )
            places = ", ".join(f"${number}" for number in range(1, columns.count(",") + 2))
            statement = (
                f"INSERT INTO tenantry.{table} ({columns}) OVERRIDING SYSTEM VALUE "  # noqa: S608
                f"VALUES ({places}) ON CONFLICT DO NOTHING RETURNING 1"
            )
            for row in rows:
                brought += await target.fetchval(statement, *row.values()) or 0
    return brought


async def copy_usage(control: Any, data: Any, *, since: date) -> int:
    """Copy days of the ledger for the tenants that live in a data database; returns how many days of tenants.

    For databases that are not the control database: there the view reads the ledger itself. A later copy
    replaces an earlier one, so it may run as often as wanted, and twice at once.

    Args:
        since: the first day, UTC.
    """
    tenants = await data.fetch(
        "SELECT p.tenant FROM tenantry.placement AS p JOIN tenantry.local AS l ON l.name = p.home"
    )
    rows = await control.fetch(query("kits/copy_usage"), since, [row["tenant"] for row in tenants])
    await data.executemany(query("kits/store_usage"), [tuple(row.values()) for row in rows])
    return len(rows)


async def _refuse_owners(connection: Any, role: str) -> None:
    owner = await connection.fetchval(
        "SELECT CASE WHEN pg_has_role($1::text, c.relowner, 'MEMBER') THEN c.relowner::regrole::text END "
        "FROM pg_class AS c WHERE c.oid = 'tenantry.local'::regclass",
        role,
    )
    if owner is not None:
        raise UnsafeRole(
            await connection.fetchval("SELECT name FROM tenantry.local") or "this one",
            role,
            [f"it owns the tenantry schema, or acts as its owner {owner}, so no kit holds against it"],
            ["install with another role, and serve through one that owns nothing"],
        )
