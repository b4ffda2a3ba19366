"""Digests of a table's rows: what one side of a comparison computes, where the rows are.

A row's hash is the server's 64-bit hash (Bob Jenkins' lookup3) over the binary form of all the columns that a move
carries; what differs in a byte, in a number's scale or in NULL against empty differs in it. Generated columns are
left out: each side computes its own. Columns whose binary form holds object ids go in by their text. The hash is
taken over the whole row at once, not composed of its columns' hashes: a sum of composed ones would not see a value
that two rows have swapped.

Rows are added up, exactly (in `numeric`), together with their number. A sum does not depend on order, so neither
collations nor the rows' places on disk matter, and a table without a key is compared like any other. Two different
sets of rows have the same number and sum with a probability of 2**-64, one in 1.8e19, for differences that come of
faults. The hash is not a cryptographic one: it proves nothing against somebody who writes to the target on purpose
and computes what to write.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import NamedTuple

from tenantry import sql
from tenantry.move.plan import TablePlan
from tenantry.move.session import Connection
from tenantry.runtime.sqltext import identifier, literal

#: From this part of a table on it is read page by page; below, through an index, in one statement.
_PAGEWISE = 1 / 8


class Digest(NamedTuple):
    """Some rows."""

    rows: int = 0
    sum: int = 0
    """Of their hashes."""

    def plus(self, other: Digest) -> Digest:
        """Both together."""
        return Digest(self.rows + other.rows, self.sum + other.sum)


class ShownRow(NamedTuple):
    """A row, as it is told to people."""

    name: str
    """Rows of one name are compared with each other: the label, or the hash where there is no key."""
    label: str
    """Its key, or its place if there is none; and whose it is if it is not the tenant's."""
    hash: int


class Chunks(NamedTuple):
    """How many pages a table has, and how many of them are read at once."""

    pages: int
    step: int

    def conditions(self) -> Iterator[list[str]]:
        """Conditions that each row fulfils one of. The first and the last are open: however many pages the table
        has meanwhile, all are read."""
        bounds = [None, *range(self.step, self.pages, self.step), None]
        for first, after in itertools.pairwise(bounds):
            pairs = ((">=", first), ("<", after))
            yield [f"t.ctid {sign} '({page},0)'::tid" for sign, page in pairs if page is not None]


class TableSide:
    """One table on one side, in the snapshot of a session."""

    def __init__(
        self,
        connection: Connection,
        tenant: str,
        table: TablePlan,
        exact: Sequence[str],
        chunks: Chunks,
        *,
        whole: bool,
    ) -> None:
        self._connection = connection
        self._tenant = literal(tenant)
        self._table = table
        self._exact = frozenset(exact)
        self._chunks = chunks
        self._column = f"t.{identifier(table.column)}"
        self._where = ["true" if whole else f"{self._column} = {self._tenant}"]

    @classmethod
    async def open(
        cls, connection: Connection, tenant: str, table: TablePlan, size: int, *, whole: bool
    ) -> TableSide:
        """Look at the table.

        Args:
            size: bytes of the table that one statement reads, about.
            whole: True if all rows are read, not the tenant's only.
        """
        row = (await connection.fetch(sql.query("move/digest"), table.quoted))[0]
        pages, part = row["pages"], 1.0
        if row["rows"] and not whole:
            part = table.rows / row["rows"]
        step = max(1, pages * size // max(row["bytes"], 1))
        chunks = Chunks(pages, step if part >= _PAGEWISE else max(1, pages))
        return cls(connection, tenant, table, row["exact"], chunks, whole=whole)

    async def digests(self) -> AsyncIterator[Digest]:
        """Digests that together cover each row once."""
        for where in self._chunks.conditions():
            yield await self._digest(where)

    async def _digest(self, where: Sequence[str]) -> Digest:
        rows = await self._connection.fetch(
            f"SELECT count(*) AS rows, coalesce(sum({self._hash}), 0) AS sum FROM {self._from(*where)}"  # noqa: S608  quoted
        )
        return Digest(rows[0]["rows"], int(rows[0]["sum"]))

    async def buckets(self, number: int) -> dict[int, Digest]:
        """Digests of the rows thrown into buckets by their names; `number` is a power of two."""
        rows = await self._connection.fetch(
            f"SELECT {self._bucket(number)} AS bucket, count(*) AS rows, sum({self._hash}) AS sum "  # noqa: S608  quoted
            f"FROM {self._from()} GROUP BY 1"
        )
        return {row["bucket"]: Digest(row["rows"], int(row["sum"])) for row in rows}

    async def list(self, number: int, buckets: Sequence[int]) -> list[ShownRow]:
        """The rows of some buckets."""
        rows = await self._connection.fetch(
            f"SELECT {self._label if self._table.key else self._key} AS name, {self._label}, {self._hash} "  # noqa: S608  quoted
            f"FROM {self._from()} AND {self._bucket(number)} = ANY($1::bigint[])",
            list(buckets),
        )
        return [ShownRow(*row.values()) for row in rows]

    @property
    def _hash(self) -> str:
        # ROW(…)::text is the type's own output; a cast of the value itself may be somebody's lossy function.
        columns = [
            f"t.{identifier(name)}" if name in self._exact else f"ROW(t.{identifier(name)})::text"
            for name in sorted(self._table.columns)
        ]
        return f"hash_record_extended(ROW(record_send(ROW({', '.join(columns)}))), 0)"

    @property
    def _key(self) -> str:
        if not self._table.key:
            return f"{self._hash}::text"
        return f"ROW({', '.join(f't.{identifier(name)}' for name in self._table.key)})::text"

    @property
    def _label(self) -> str:
        name = self._key if self._table.key else "'at ' || t.ctid::text || ' of ' || t.tableoid::regclass::text"
        if not self._table.column:
            return name
        other = f"' of another tenant (' || coalesce({self._column}::text, 'NULL') || ')'"
        return f"{name} || CASE WHEN {self._column} = {self._tenant} THEN '' ELSE {other} END"

    def _bucket(self, number: int) -> str:
        return f'(hashtextextended({self._key} COLLATE "C", 0) & {number - 1})'

    def _from(self, *where: str) -> str:
        return f"{self._table.quoted} AS t WHERE {' AND '.join([*self._where, *where])}"
