"""Refuses to serve through a role that row-level security would not hold (guarantee G4)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from tenantry import sql
from tenantry.catalog import guards
from tenantry.catalog.read import bare_tables
from tenantry.catalog.tables import tenant_tables
from tenantry.catalog.tenancy import Tenancy
from tenantry.catalog.values import Way
from tenantry.catalog.ways import PAST, counts, of_kinds, problem
from tenantry.errors import DatabaseUnavailable, UnsafeRole
from tenantry.router.driver import Connection


def problems(facts: Mapping[str, Any], tenancy: Tenancy) -> list[tuple[str, str]]:
    """Every way past row-level security in `facts` (a row of `query`), with the SQL that closes it."""
    ways = [way for way in map(Way._make, json.loads(facts["ways"])) if counts(way, tenancy.setting)]
    found = [(f"it {problem(way)}", statement) for statement, way in of_kinds(ways, *PAST).items()]
    for table in _owned(facts["unforced"], tenancy):
        found.append(
            (
                f"it owns {table}, whose row-level security is not forced",
                f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
            )
        )
    return found


def control_access(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """What the role may do with control tables in this database: no way to rows, but to the directory."""
    ways = map(Way._make, json.loads(facts["ways"]))
    return tuple(problem(way) for way in ways if way.way == "directory")


def _owned(unforced: str, tenancy: Tenancy) -> list[str]:
    """The tables of roles.sql's `unforced` that hold, or may hold, tenants' rows; quoted."""
    rows = json.loads(unforced)
    suspects = tenant_tables(bare_tables(rows), tenancy).suspects
    return [row["owned"] for row in rows if row["owned"] and row["oid"] in suspects]


def query() -> str:
    """The statement whose row `problems` takes."""
    whole = sql.query("roles").replace(":surroundings", sql.query("router/surroundings"))
    return whole.replace(":ways", sql.query("catalog/ways"))


class SessionFacts(NamedTuple):
    """What a new connection says of itself."""

    pooled: bool
    """A pooler stands between us and PostgreSQL."""
    backend: int
    """Process id of the server process."""
    hardened: bool
    """The database wants proofs."""
    surroundings: str
    """What the meaning of a statement hangs on beside its text; see `surroundings`."""
    control_access: tuple[str, ...] = ()
    """What the role may do with control tables."""


async def inspect(connection: Connection, database: str, tenancy: Tenancy, *, timeout: float) -> SessionFacts:
    """Check the role of a new connection.

    Raises:
        UnsafeRole: when the role could bypass row-level security.
        DatabaseUnavailable: when the database has no `tenantry` schema yet.
    """
    facts = await connection.fetchrow(query(), True, tenancy.setting, timeout=timeout)
    assert facts is not None
    # A pooler makes up backend ids of its own, and may hand out what somebody else has set.
    pooled = facts["backend"] != connection.get_server_pid()
    found = problems(dict(facts), tenancy)
    if facts["hardened"]:
        found += await guards.unproven(connection, tenancy, timeout=timeout)
    if not found and facts["bound"] and not pooled:
        found = [
            (
                f"its connections begin with {tenancy.setting} set, without any tenant bound",
                "take it out of postgresql.conf, of the DSN's options, or of server_settings",
            )
        ]
    if found:
        raise UnsafeRole(
            database,
            facts["role"],
            [problem for problem, _ in found],
            [fix for _, fix in found],
        )
    if not facts["installed"]:
        raise DatabaseUnavailable(
            database, "the tenantry schema is not installed, or older than this router; run `tenantry init`"
        )
    return SessionFacts(
        pooled, facts["backend"], facts["hardened"], facts["surroundings"], control_access(dict(facts))
    )
