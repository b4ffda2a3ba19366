"""History in and out as CSV: to judge a past from elsewhere by the rule, and to bill from ours.

One row is one tenant's day in one database. Exported rows can be imported again.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import date
from typing import Any, Final, NamedTuple, TextIO

import asyncpg

from tenantry.sql import query
from tenantry.tenant import IdType
from tenantry.usage.shares import LONG
from tenantry.usage.values import MEASURED

_REQUIRED: Final = ("day", "database", "tenant", "busy_seconds", "total_seconds")


class Row(NamedTuple):
    """One line of the file."""

    day: date
    """UTC."""
    database: str
    tenant: str
    busy_seconds: float
    """Seconds that the tenant's statements were running."""
    total_seconds: float | None
    """Seconds that the whole database was executing; the same in each row of a day and database."""
    coverage: float = 1.0
    """How much of the day is known, 0 to 1."""
    held_seconds: float = 0.0
    waited_seconds: float = 0.0
    commits: int = 0
    rollbacks: int = 0
    errors: int = 0
    statements: int = 0
    source: str = MEASURED
    """"measured", or the label of an import."""


class Imported(NamedTuple):
    """What an import did."""

    rows: int
    days: int
    tenants: int


class BadHistory(ValueError):
    """The file can't be imported. Nothing of it was.

    Attributes:
        line: number of the line at fault; the header is line 1.
    """

    def __init__(self, line: int, why: str) -> None:
        self.line = line
        super().__init__(f"line {line}: {why}")


def parse(file: TextIO, ids: IdType) -> Iterator[Row]:
    """Read rows from CSV with a header.

    Args:
        file: opened with newline="".
        ids: the configured type of the tenant ids.

    Raises:
        BadHistory: names the line and what is wrong with it.
    """
    reader = csv.DictReader(file)
    missing = [name for name in _REQUIRED if name not in (reader.fieldnames or ())]
    if missing:
        raise BadHistory(1, f"the header lacks {', '.join(missing)}")
    for values in reader:
        try:
            yield _row(values, ids)
        except ValueError as error:
            raise BadHistory(reader.line_num, str(error)) from None


def _row(values: dict[str, Any], ids: IdType) -> Row:
    def number(name: str, most: float = 1e12) -> float:
        text = values.get(name)
        value = float(text) if text not in (None, "") else 0.0
        if not 0 <= value <= most:
            raise ValueError(f"{name} must be between 0 and {most:g}, not {text}")
        return value

    if not values["database"]:
        raise ValueError("database is empty")
    tenant = ids.parse(values["tenant"] or "")
    busy, total = number("busy_seconds"), number("total_seconds")
    if busy > total * (1 + 1e-9):
        raise ValueError(f"busy_seconds ({busy:g}) exceed total_seconds ({total:g})")
    return Row(
        day=date.fromisoformat(values["day"] or ""),
        database=values["database"],
        tenant=str(tenant),
        busy_seconds=busy,
        total_seconds=total,
        coverage=number("coverage", 1.0) if values.get("coverage") else 1.0,
        held_seconds=number("held_seconds"),
        waited_seconds=number("waited_seconds"),
        commits=int(number("commits")),
        rollbacks=int(number("rollbacks")),
        errors=int(number("errors")),
        statements=int(number("statements")),
    )


async def put(control: asyncpg.Pool[asyncpg.Record], rows: Iterable[Row], label: str) -> Imported:
    """Import rows as history of that label: all of them, or none.

    The label's rows of the same days and databases are replaced, so importing again changes nothing.
    What was measured is never touched; where both know a day, the better covered one counts.

    Args:
        control: connections to the control database.
        rows: as `parse` returns them.
        label: where they come from, as every verdict will say: "simulated", "old billing".

    Raises:
        ValueError: the label is "measured" or empty, a row is there twice, or the totals or
            coverages of a day and database differ.
    """
    if label in ("", MEASURED):
        raise ValueError(f"the label says where the history comes from; it can't be {label!r}")
    listed = list(rows)
    if not listed:
        return Imported(0, 0, 0)
    totals = _totals(listed)
    days, databases = zip(*totals, strict=True)
    columns: list[Any] = [list(column) for column in zip(*listed, strict=True)]
    async with control.acquire() as connection, connection.transaction():
        await connection.execute(
            "DELETE FROM tenantry.usage_day AS u USING unnest($1::date[], $2::text[]) AS d (day, database) "
            "WHERE u.source = $3 AND u.day = d.day AND u.database = d.database",
            days,
            databases,
            label,
        )
        await connection.execute(query("usage/import_days"), label, *columns[:4], *columns[6:12], timeout=LONG)
        await connection.execute(
            query("usage/import_totals"), label, days, databases, *zip(*totals.values(), strict=True)
        )
    return Imported(len(listed), len({row.day for row in listed}), len({row[2] for row in listed}))


def _totals(rows: list[Row]) -> dict[tuple[date, str], tuple[float | None, float, float]]:
    """By day and database: the total, the coverage, and the sum of the tenants. Raises ValueError."""
    stated: dict[tuple[date, str], tuple[float | None, float]] = {}
    sums: dict[tuple[date, str], float] = defaultdict(float)
    for row in rows:
        said = (row.total_seconds, row.coverage)
        if stated.setdefault((row.day, row.database), said) != said:
            raise ValueError(f"{row.day} of {row.database} has two different totals or coverages")
        sums[row.day, row.database] += row.busy_seconds
    if len({row[:3] for row in rows}) < len(rows):
        raise ValueError("a tenant has two rows for the same day and database")
    return {key: (*said, sums[key]) for key, said in stated.items()}


async def get(control: asyncpg.Pool[asyncpg.Record], first: date, until: date) -> AsyncIterator[Row]:
    """The ledger from day `first` to before `until`, a day at a time, sorted.

    `total_seconds` is None for days of which too little is known.
    """
    async with control.acquire() as connection, connection.transaction(readonly=True):
        async for row in connection.cursor(query("usage/export"), first, until, prefetch=5000):
            yield Row(*row.values())


class CsvWriter:
    """Writes rows as CSV, with a header."""

    def __init__(self, file: TextIO) -> None:
        self._writer = csv.writer(file, lineterminator="\n")
        self._writer.writerow(Row._fields)

    def row(self, row: Row) -> None:
        """Write one row; what is not known stays empty."""
        self._writer.writerow(["" if value is None else value for value in row])
