"""Refuses to serve through a role that row-level security would not hold (guarantee G4)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from tenantry import sql
from tenantry.catalog.read import bare_tables
from tenantry.catalog.tables import tenant_tables
from tenantry.catalog.tenancy import Tenancy
from tenantry.errors import DatabaseUnavailable, UnsafeRole
from tenantry.router.driver import Connection
from tenantry.runtime.sqltext import identifier


def problems(facts: Mapping[str, Any], tenancy: Tenancy) -> list[tuple[str, str]]:
    """Every way past row-level security in `facts` (a row of roles.sql), with the SQL that fixes it."""
    role = identifier(str(facts["role"]))
    found = []
    if facts["superuser"]:
        found.append(("it is a superuser", f"ALTER ROLE {role} NOSUPERUSER"))
    if facts["bypasses"]:
        found.append(("it has BYPASSRLS", f"ALTER ROLE {role} NOBYPASSRLS"))
    for group, through in zip(facts["member_of"], facts["member_through"], strict=True):
        quoted = identifier(str(through))  # the membership of its own that leads there
        found.append((f"it is a member of {group}, which bypasses", f"REVOKE {quoted} FROM {role}"))
    for table in _owned(facts["unforced"], tenancy):
        found.append(
            (
                f"it owns {table}, whose row-level security is not forced",
                f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
            )
        )
    return found


def _owned(unforced: str, tenancy: Tenancy) -> list[str]:
    """The tables of roles.sql's `unforced` that hold, or may hold, tenants' rows; quoted."""
    rows = json.loads(unforced)
    suspects = tenant_tables(bare_tables(rows), tenancy).suspects
    return [row["owned"] for row in rows if row["owned"] and row["oid"] in suspects]


class Session(NamedTuple):
    """What a new connection says of itself."""

    pooled: bool
    """A pooler stands between us and PostgreSQL."""
    backend: int
    """Process id of the server process."""
    hardened: bool
    """The database wants proofs."""
    activity_size: int
    """Bytes of a statement that `pg_stat_activity` shows."""


async def inspect(connection: Connection, database: str, tenancy: Tenancy, *, timeout: float) -> Session:
    """Check the role of a new connection.

    Raises:
        UnsafeRole: when the role could bypass row-level security.
        DatabaseUnavailable: when the database has no `tenantry` schema yet.
    """
    facts = await connection.fetchrow(sql.query("roles"), timeout=timeout)
    assert facts is not None
    found = problems(dict(facts), tenancy)
    if found:
        raise UnsafeRole(
            database,
            facts["role"],
            [problem for problem, _ in found],
            [fix for _, fix in found],
        )
    if not facts["installed"]:
        raise DatabaseUnavailable(database, "the tenantry schema is not installed; run `tenantry init`")
    # A pooler makes up backend ids of its own.
    pooled = facts["backend"] != connection.get_server_pid()
    return Session(pooled, facts["backend"], facts["hardened"], facts["activity_size"])
