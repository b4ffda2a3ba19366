"""The reader of the system catalogs: a few set-based queries, frozen values out.

What the plan, the audit and the mover decide about tables, they decide on these values. Reading needs no right
beyond CONNECT: PostgreSQL shows its catalogs to everybody.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from tenantry.catalog.fingerprint import Fingerprint
from tenantry.catalog.values import (
    Catalog,
    Column,
    Constraint,
    Function,
    Grant,
    Index,
    Policy,
    Relation,
    Role,
    TableDetails,
    Tables,
    Trigger,
    Way,
)
from tenantry.sql import query


async def read(connection: asyncpg.Connection[Any]) -> Catalog:
    """Read the catalogs of the connection's database, in one snapshot."""
    async with _snapshot(connection):
        server = (await _rows(connection, "server"))[0]
        schemas = dict(entry.rsplit("=", 1) for entry in server.pop("schemas"))
        reads: dict[int, list[int]] = {}
        for row in await _rows(connection, "reads"):
            reads.setdefault(row["view"], []).append(row["relation"])
        distributed = await read_distributed(connection)
        policies = (_in_force(Policy(**row), distributed) for row in await _rows(connection, "policies"))
        return Catalog(
            **server,
            **await _details(connection),
            schemas={name: int(oid) for name, oid in schemas.items()},
            policies=_grouped(policies),
            grants=tuple(Grant(**row) for row in await _rows(connection, "grants")),
            reads={view: tuple(sorted(found)) for view, found in reads.items()},
            functions={row["oid"]: Function(**row) for row in await _rows(connection, "functions")},
            roles={row["name"]: Role(**row) for row in await _rows(connection, "roles")},
            ways=await _ways(connection),
            distributed=distributed,
        )


def _in_force(policy: Policy, distributed: Mapping[int, str]) -> Policy:
    """The policy as it is on the shards of a distributed table, where Citus leaves the word RESTRICTIVE away."""
    if policy.permissive or policy.relation not in distributed:
        return policy
    return policy._replace(permissive=True, widened=True)


async def read_distributed(connection: asyncpg.Connection[Any]) -> dict[int, str]:
    """The tables that Citus manages, by object id, each with the column that distributes it; "": it is whole."""
    if not await connection.fetchval("SELECT to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL"):
        return {}
    return {row["oid"]: row["column"] for row in await connection.fetch(query("catalog/distributed"))}


async def _ways(connection: asyncpg.Connection[Any]) -> dict[str, tuple[Way, ...]]:
    found: dict[str, list[Way]] = {}
    for row in await connection.fetch(query("catalog/ways"), None):
        found.setdefault(row["role"], []).append(Way(*row))
    return {role: tuple(ways) for role, ways in found.items()}


async def read_details(connection: asyncpg.Connection[Any]) -> TableDetails:
    """Read what it takes to carry the tables elsewhere, in one snapshot."""
    async with _snapshot(connection):
        return TableDetails(**await _details(connection))


async def read_tables(connection: asyncpg.Connection[Any]) -> Tables:
    """Read no more than it takes to place the tables: one flight, and no waiting for whoever has locked one."""
    return bare_tables(await connection.fetch(query("catalog/tables")))


async def read_fingerprint(connection: asyncpg.Connection[Any], *, patience: float = 30.0) -> Fingerprint:
    """Read what the product's schema is.

    Args:
        patience: seconds to wait for whoever has locked a table, whose expressions can't be printed meanwhile.

    Raises:
        asyncpg.LockNotAvailableError: it was not enough.
    """
    async with _snapshot(connection):
        await connection.execute("SELECT set_config('lock_timeout', $1, true)", str(round(patience * 1000)))
        rows = await connection.fetch(query("catalog/fingerprint"))
    objects = {(row["kind"], row["name"]): row["hash"] for row in rows}
    return Fingerprint(connection.get_server_version().major, objects)


def bare_tables(rows: Iterable[Mapping[str, Any]]) -> Tables:
    """Tables of which no more is known than it takes to place them.

    Args:
        rows: as sql/catalog/tables.sql has them.
    """
    relations, columns, constraints = {}, {}, {}
    for row in rows:
        oid = row["oid"]
        relations[oid] = Relation(
            oid=oid, schema=row["schema"], name=row["name"], kind=row["kind"], parents=tuple(row["parents"]),
            owner="", rls=False, forced=False, identity="", persistence="p", partition=False, rows=0.0, options=(),
            owned_by=None,
        )  # fmt: skip
        columns[oid] = tuple(
            Column(number, name, type_, False, "", "", None, deterministic)
            for number, name, type_, deterministic in json.loads(row["columns"])
        )
        constraints[oid] = tuple(
            Constraint(key, oid, name, "f", True, inherited, tuple(near), target, tuple(far), "")
            for key, name, near, target, far, inherited in json.loads(row["keys"])
        )
    return Tables(relations=relations, columns=columns, constraints=constraints)


@asynccontextmanager
async def _snapshot(connection: asyncpg.Connection[Any]) -> AsyncIterator[None]:
    if connection.is_in_transaction():
        transaction = connection.transaction()
    else:
        transaction = connection.transaction(isolation="repeatable_read", readonly=True)
    async with transaction:
        # Expressions are printed with schema-qualified names only for what the path doesn't hold.
        path = await connection.fetchval("SELECT current_setting('search_path')")
        await connection.execute("SELECT set_config('search_path', 'pg_catalog', true)")
        yield
        await connection.execute("SELECT set_config('search_path', $1, true)", path)


async def _details(connection: asyncpg.Connection[Any]) -> dict[str, Any]:
    """The fields of `TableDetails`."""
    columns: dict[int, list[Column]] = {}
    for row in await _rows(connection, "columns"):
        columns.setdefault(row.pop("relation"), []).append(Column(**row))
    return {
        "relations": {row["oid"]: Relation(**row) for row in await _rows(connection, "relations")},
        "columns": {oid: tuple(found) for oid, found in columns.items()},
        "constraints": _grouped(Constraint(**row) for row in await _rows(connection, "constraints")),
        "indexes": _grouped(Index(**row) for row in await _rows(connection, "indexes")),
        "triggers": _grouped(Trigger(**row) for row in await _rows(connection, "triggers")),
    }


async def _rows(connection: asyncpg.Connection[Any], name: str) -> list[dict[str, Any]]:
    found = await connection.fetch(query(f"catalog/{name}"))
    return [{key: tuple(v) if isinstance(v, list) else v for key, v in row.items()} for row in found]


def _grouped(values: Iterable[Any]) -> dict[int, tuple[Any, ...]]:
    found: dict[int, list[Any]] = {}
    for value in values:
        found.setdefault(value.relation, []).append(value)
    return {oid: tuple(group) for oid, group in found.items()}
