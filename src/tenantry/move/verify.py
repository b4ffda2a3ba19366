"""Verification: all the tenant's rows on both sides, by chunk of the key, down to the differing row.

Both sides are read under snapshots that show the same state (`fence.aligned`), so the comparison runs at leisure
while the tenant works. A chunk is compared by count and sum of its rows' hashes, each side computing its own at
the same time; one that differs is halved until its rows can be listed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

from tenantry.move.catalog import identifier, read_shape
from tenantry.move.endpoint import Connection
from tenantry.move.errors import DataDiffers, SchemaChanged
from tenantry.move.fence import aligned
from tenantry.move.plan import TablePlan
from tenantry.move.progress import Compared
from tenantry.move.work import Way, Work
from tenantry.tenant import literal

#: So few rows of a differing chunk are listed instead of halved again.
_LISTED: Final = 50
#: Differences named before the comparison stops looking.
_ENOUGH: Final = 20


class Digest(NamedTuple):
    """Rows of a chunk."""

    rows: int
    sum: int


class Chunk(NamedTuple):
    """Rows with lower < key <= upper; None: open. Bounds are text, in the key's order."""

    lower: tuple[str, ...] | None
    upper: tuple[str, ...] | None


async def verify(work: Work, way: Way) -> int:
    """Compare every table of the tenant. Returns the rows compared, of one side.

    Raises:
        DataDiffers: the sides differ.
        SchemaChanged: their tables differ in shape.
    """
    names = [table.quoted for table in work.plan.tables]
    async with aligned(work, way) as (here, there):
        ours, theirs = await asyncio.gather(read_shape(here, names), read_shape(there, names))
        if odd := sorted(set(ours) ^ set(theirs)):
            raise SchemaChanged(work.plan.id, f"the two sides' tables differ: {'; '.join(odd[:5])}")
        total = 0
        differences: list[str] = []
        for table in work.plan.tables:
            rows, found = await compare_table(work, table, here, there)
            total += rows
            differences += found
            if len(differences) >= _ENOUGH:
                break
    if differences:
        raise DataDiffers(work.plan.id, differences)
    return total


async def compare_table(
    work: Work, table: TablePlan, here: Connection, there: Connection
) -> tuple[int, list[str]]:
    """Compare one table. Returns its rows on this side, and what differs."""
    comparison = _Comparison(work.plan.tenant, table, here, there)
    rows = 0
    differences: list[str] = []
    async for chunk, ours, theirs in comparison.chunks(work.limits.chunk):
        rows += ours.rows
        if ours != theirs and len(differences) < _ENOUGH:
            differences += await comparison.narrow(chunk, ours, theirs)
        work.tell(Compared(work.plan.id, table.quoted, rows))
    return rows, differences


class _Comparison:
    def __init__(self, tenant: str, table: TablePlan, here: Connection, there: Connection) -> None:
        self._tenant = tenant
        self._table = table
        self._here = here
        self._there = there
        self._key = [identifier(name) for name in table.key]
        row = ", ".join(f"t.{identifier(name)}" for name in sorted(table.columns))
        self._hash = f"hashtextextended(ROW({row})::text, 0)"

    async def chunks(self, size: int) -> AsyncIterator[tuple[Chunk, Digest, Digest]]:
        """Each chunk with both sides' digests. The next bound is looked up while they are computed."""
        lower: tuple[str, ...] | None = None
        upper = await self._bound(lower, size)
        while True:
            chunk = Chunk(lower, upper)
            ours, theirs = await asyncio.gather(self._digest(self._here, chunk), self._digest(self._there, chunk))
            yield chunk, ours, theirs
            if upper is None:
                return
            lower, upper = upper, await self._bound(upper, size)

    async def narrow(self, chunk: Chunk, ours: Digest, theirs: Digest) -> list[str]:
        """Find the rows that differ in a chunk whose digests do."""
        if not self._key:
            return [f"{self._table.quoted}: {ours.rows} rows here, {theirs.rows} there, contents differ"]
        middle = None
        if max(ours.rows, theirs.rows) > _LISTED:
            side = self._here if ours.rows >= theirs.rows else self._there
            middle = await self._bound(chunk.lower, max(ours.rows, theirs.rows) // 2, side)
        if middle is None or middle == chunk.upper:
            return await self._list(chunk)
        found: list[str] = []
        for half in (Chunk(chunk.lower, middle), Chunk(middle, chunk.upper)):
            a, b = await asyncio.gather(self._digest(self._here, half), self._digest(self._there, half))
            if a != b and len(found) < _ENOUGH:
                found += await self.narrow(half, a, b)
        return found

    async def _list(self, chunk: Chunk) -> list[str]:
        key = f"ROW({', '.join(f't.{name}' for name in self._key)})::text"
        query = f"SELECT {key} AS key, {self._hash} AS hash FROM {self._from(chunk)}"  # noqa: S608  quoted
        ours, theirs = await asyncio.gather(self._here.fetch(query), self._there.fetch(query))
        a = sorted((r["key"], r["hash"]) for r in ours)
        b = sorted((r["key"], r["hash"]) for r in theirs)
        found = []
        for one in sorted({key for key, _ in set(a) ^ set(b)}):
            where = "differs"
            if all(key != one for key, _ in b):
                where = "is missing there"
            elif all(key != one for key, _ in a):
                where = "is only there"
            found.append(f"{self._table.quoted} row {one} {where}")
        return found or [f"{self._table.quoted}: the same rows in another number"]

    async def _bound(
        self, lower: tuple[str, ...] | None, size: int, side: Connection | None = None
    ) -> tuple[str, ...] | None:
        """The key of the `size`-th row after `lower`; None: there are not so many."""
        if not self._key:
            return None
        listed = ", ".join(f"{name}::text" for name in self._key)
        order = ", ".join(f"t.{name}" for name in self._key)
        row = await (side or self._here).fetchrow(
            f"SELECT {listed} FROM {self._from(Chunk(lower, None))} ORDER BY {order} "  # noqa: S608  quoted
            f"OFFSET {max(size - 1, 0)} LIMIT 1"
        )
        return None if row is None else tuple(row.values())

    async def _digest(self, side: Connection, chunk: Chunk) -> Digest:
        row = await side.fetchrow(
            f"SELECT count(*) AS rows, coalesce(sum({self._hash}), 0)::text AS sum FROM {self._from(chunk)}"  # noqa: S608  quoted
        )
        return Digest(row["rows"], int(row["sum"])) if row else Digest(0, 0)

    def _from(self, chunk: Chunk) -> str:
        table = self._table
        parts = [f"{table.quoted} AS t WHERE t.{identifier(table.column)} = {literal(self._tenant)}"]
        parts += self._range(">", chunk.lower) + self._range("<=", chunk.upper)
        return " AND ".join(parts)

    def _range(self, operator: str, bound: Sequence[str] | None) -> list[str]:
        if bound is None:
            return []
        # Bare literals take each column's own type.
        names = ", ".join(f"t.{name}" for name in self._key)
        return [f"({names}) {operator} ({', '.join(literal(value) for value in bound)})"]
