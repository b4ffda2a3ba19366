"""Estimates how much of each database is whose, from a sample of the pages, at a bounded cost."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from heapq import nlargest
from typing import Any, Final, NamedTuple

import asyncpg

from tenantry.catalog.read import read_tables
from tenantry.catalog.tables import tenant_tables
from tenantry.catalog.tenancy import Tenancy
from tenantry.runtime.sqltext import identifier
from tenantry.sql import query

#: Pages of each table that are read at most.
PAGES: Final = 2000
#: Seconds that all tables of a database take at most.
SECONDS: Final = 5.0
#: Tenants of one database of which the estimate is kept; the rest is added up in ''.
KEPT: Final = 1000
#: Seconds that a lock on a table is waited for.
PATIENCE: Final = 0.5
_HEADER: Final = 28  # bytes of a row beside its columns: tuple header and line pointer


class SampledTable(NamedTuple):
    """A table with rows of tenants."""

    schema: str
    name: str
    column: str
    """The tenant column."""


@dataclass
class Storage:
    """An estimate of one database, and what it cost."""

    bytes: dict[str, int] = field(default_factory=dict)
    """By tenant, indexes and TOAST included."""
    pages: int = 0
    """Pages that were read."""
    seconds: float = 0.0
    skipped: tuple[SampledTable, ...] = ()
    """Tables for which no time was left, or that somebody held locked, or that are gone."""

    @property
    def total(self) -> int:
        """Bytes of all tenants."""
        return sum(self.bytes.values())

    def share(self, tenant: str) -> float | None:
        """The tenant's part, 0 to 1; None when there is nothing."""
        return self.bytes.get(tenant, 0) / self.total if self.total else None


async def tables(connection: asyncpg.Connection[asyncpg.Record], tenancy: Tenancy) -> list[SampledTable]:
    """The tenant tables of this database that hold rows themselves; partitions are among them."""
    found = await read_tables(connection)
    placed = ((found.relations[oid], column) for oid, column in tenant_tables(found, tenancy).tenants.items())
    return [SampledTable(one.schema, one.name, column.name) for one, column in placed if one.kind == "r"]


_SKIPPED: Final = (
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
    asyncpg.UndefinedTableError,
    asyncpg.InvalidSchemaNameError,
    TimeoutError,
)


async def estimate(
    connection: asyncpg.Connection[asyncpg.Record],
    of: Sequence[SampledTable],
    *,
    pages: int = PAGES,
    seconds: float = SECONDS,
    patience: float = PATIENCE,
    seed: int = 0,
    monotonic: Callable[[], float] = time.monotonic,
) -> Storage:
    """Estimate each tenant's bytes. Reads `pages` pages of each table and takes `seconds` at most.

    A table of up to `pages` pages is read whole, so its figures are exact in rows. Every table's
    bytes, with indexes and TOAST, are shared out in proportion to the rows' sizes.

    Args:
        connection: on the database, as a role that bypasses RLS; any other is refused by PostgreSQL.
        of: the tables.
        pages: most pages of each table.
        seconds: for all of them; what is over that is skipped, and named.
        patience: seconds that a lock on a table is waited for; one that is locked for longer is skipped.
        seed: of the sample; the same seed reads the same pages.
        monotonic: seconds.
    """
    began = monotonic()
    found: Counter[str] = Counter()
    read, skipped = 0, []
    for table in of:
        left = seconds - (monotonic() - began)
        try:
            sizes, looked = await _one(connection, table, pages, left, patience, seed)
        except _SKIPPED:
            skipped.append(table)
            continue
        found.update(sizes)
        read += looked
    return Storage(dict(found), read, monotonic() - began, tuple(skipped))


async def _one(
    connection: asyncpg.Connection[asyncpg.Record],
    table: SampledTable,
    pages: int,
    seconds: float,
    patience: float,
    seed: int,
) -> tuple[Mapping[str, int], int]:
    if seconds <= 0:
        raise TimeoutError
    async with connection.transaction(readonly=True):
        # Off means: fail if the policies would hide rows, instead of estimating from a part.
        await connection.execute(
            f"SET LOCAL row_security = off; SET LOCAL statement_timeout = {max(1, int(seconds * 1000))}; "
            f"SET LOCAL lock_timeout = {max(1, int(patience * 1000))}"
        )
        size = await connection.fetchrow(query("usage/table_size"), table.name, table.schema)
        if size is None or not size["pages"]:
            return {}, 0
        percent = min(100.0, 100.0 * pages / size["pages"])
        rows = await connection.fetch(_sample(table, size["row_size"], percent, seed))
    whole = sum(row["bytes"] for row in rows)
    if not whole:
        return {}, min(pages, size["pages"])
    sizes = {row["tenant"]: round(size["bytes"] * row["bytes"] / whole) for row in rows}
    return sizes, min(pages, size["pages"])


def _sample(table: SampledTable, row_size: str, percent: float, seed: int) -> str:
    # Names are quoted, row_size was quoted by the server, the rest are numbers.
    return (
        f"SELECT {identifier(table.column)}::text AS tenant, sum({row_size} + {_HEADER})::bigint AS bytes "  # noqa: S608
        f"FROM ONLY {identifier(table.schema)}.{identifier(table.name)} "
        f"TABLESAMPLE SYSTEM ({percent:.6f}) REPEATABLE ({int(seed)}) "
        f"WHERE {identifier(table.column)} IS NOT NULL GROUP BY 1"
    )


async def keep(
    control: asyncpg.Pool[asyncpg.Record],
    database: str,
    day: date,
    storage: Storage,
    *,
    kept: int = KEPT,
) -> None:
    """Write an estimate down as the day's; an earlier one of that day is replaced."""
    largest = dict(nlargest(kept, storage.bytes.items(), key=lambda item: (item[1], item[0])))
    rest = storage.total - sum(largest.values())
    rows = [*largest.items(), ("", rest)] if rest else list(largest.items())
    async with control.acquire() as connection, connection.transaction():
        await connection.execute("DELETE FROM tenantry.storage WHERE day = $1 AND database = $2", day, database)
        await connection.execute(
            "INSERT INTO tenantry.storage (day, database, tenant, bytes) "
            "SELECT $1, $2, tenant, bytes FROM unnest($3::text[], $4::bigint[]) AS s (tenant, bytes)",
            day,
            database,
            [tenant for tenant, _ in rows],
            [size for _, size in rows],
        )


async def latest(control: asyncpg.Pool[asyncpg.Record]) -> dict[str, tuple[date, Storage]]:
    """The newest estimate of each database, and of which day it is."""
    rows: list[Any] = await control.fetch(
        "SELECT s.database, s.day, s.tenant, s.bytes FROM tenantry.storage AS s JOIN "
        "(SELECT database, max(day) AS day FROM tenantry.storage GROUP BY database) AS newest "
        "USING (database, day)"
    )
    found: dict[str, tuple[date, Storage]] = {}
    for row in rows:
        _, there = found.setdefault(row["database"], (row["day"], Storage()))
        there.bytes[row["tenant"]] = row["bytes"]
    return found
