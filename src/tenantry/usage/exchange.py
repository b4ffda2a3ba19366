"""History in and out as CSV: to judge a past from elsewhere by the rule, and to bill from ours.

One row is one tenant's day in one database. Exported rows can be imported again.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from datetime import date
from typing import Any, Final, NamedTuple, TextIO

import asyncpg

from tenantry.ids import IdType
from tenantry.runtime import locks
from tenantry.sql import query
from tenantry.usage.shares import LEAST_COVERED, LONG
from tenantry.usage.values import MEASURED

_REQUIRED: Final = ("day", "database", "tenant", "busy_seconds", "total_seconds")
#: Tenant of a row that states the total of a day on which nobody used anything.
NOBODY: Final = ""


class HistoryRow(NamedTuple):
    """One line of the file."""

    day: date
    """UTC."""
    database: str
    tenant: str
    busy_seconds: float
    """Seconds that the tenant's statements were running."""
    total_seconds: float | None
    """Seconds that the whole database was executing, alike in each row of a day and database. None: not known."""
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
    excess_seconds: float = 0.0
    """Of the total, what the tenants have above the server's figure, alike in each row: see `shares.Total`."""
    excess_statements: int = 0
    """Over which that is spread; likewise."""


class ImportedUsage(NamedTuple):
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


def parse(file: TextIO, ids: IdType) -> Iterator[HistoryRow]:
    """Read rows from CSV with a header. A line that is cut off or has too many fields is refused.

    Args:
        file: opened with newline="".
        ids: the configured type of the tenant ids.

    Raises:
        BadHistory: names the line and what is wrong with it.
    """
    reader = csv.DictReader(file, strict=True)
    try:
        _check_header(reader.fieldnames or ())
        for values in reader:
            yield _row(values, ids)
    except csv.Error as error:  # the line that could not be read is the inner reader's
        raise BadHistory(reader.reader.line_num, str(error)) from None
    except ValueError as error:
        raise BadHistory(max(1, reader.line_num), str(error)) from None


def _check_header(names: Sequence[str]) -> None:
    missing = [name for name in _REQUIRED if name not in names]
    if missing:
        raise ValueError(f"the header lacks {', '.join(missing)}")
    twice = sorted(name for name in HistoryRow._fields if names.count(name) > 1)
    if twice:
        raise ValueError(f"the header has {', '.join(twice)} twice")


def _row(values: dict[Any, Any], ids: IdType) -> HistoryRow:
    def number(name: str, most: float = 1e12) -> float:
        text = values.get(name) or "0"
        value = float(text)
        if not 0 <= value <= most:
            raise ValueError(f"{name} must be between 0 and {most:g}, not {text}")
        return value

    def count(name: str) -> int:
        value = number(name)
        if not value.is_integer():
            raise ValueError(f"{name} must be a whole number, not {values[name]}")
        return int(value)

    if None in values or None in values.values():
        raise ValueError(f"{'more' if None in values else 'fewer'} fields than the header has")
    empty = [name for name in ("day", "database", "busy_seconds") if not values[name]]
    if empty:
        raise ValueError(f"{', '.join(empty)} is empty")
    if "\0" in values["database"]:
        raise ValueError("database has a NUL character")
    busy, total = number("busy_seconds"), number("total_seconds") if values["total_seconds"] else None
    if total is not None and busy > total * (1 + 1e-9):
        raise ValueError(f"busy_seconds ({busy:g}) exceed total_seconds ({total:g})")
    alone = not values["tenant"] and busy == 0
    return HistoryRow(
        day=date.fromisoformat(values["day"]),
        database=values["database"],
        tenant=NOBODY if alone else str(ids.parse(values["tenant"])),
        busy_seconds=busy,
        total_seconds=total,
        coverage=number("coverage", 1.0) if values.get("coverage") else float(total is not None),
        held_seconds=number("held_seconds"),
        waited_seconds=number("waited_seconds"),
        commits=count("commits"),
        rollbacks=count("rollbacks"),
        errors=count("errors"),
        statements=count("statements"),
        excess_seconds=number("excess_seconds"),
        excess_statements=count("excess_statements"),
    )


async def put(control: asyncpg.Pool[asyncpg.Record], rows: Iterable[HistoryRow], label: str) -> ImportedUsage:
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
    if label in ("", MEASURED) or "\0" in label:
        raise ValueError(f"the label says where the history comes from; it can't be {label!r}")
    listed = list(rows)
    if not listed:
        return ImportedUsage(0, 0, 0)
    totals = _totals(listed)
    days, databases = zip(*totals, strict=True)
    used = [row for row in listed if row.tenant != NOBODY]
    columns: list[Any] = [list(column) for column in zip(*used, strict=True)] or [[]] * len(HistoryRow._fields)
    async with control.acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", locks.IMPORTING_USAGE, timeout=LONG)
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
    return ImportedUsage(len(listed), len({row.day for row in listed}), len({row.tenant for row in used}))


class _Total(NamedTuple):
    """What `usage/import_totals` wants of a day and database, after its key."""

    busy: float
    covered: float
    reported: float
    attributed: float
    excess: float
    statements: int


def _totals(rows: list[HistoryRow]) -> dict[tuple[date, str], _Total]:
    """By day and database. Raises ValueError."""
    stated: dict[tuple[date, str], HistoryRow] = {}
    sums: dict[tuple[date, str], float] = defaultdict(float)
    for row in rows:
        said = stated.setdefault((row.day, row.database), row)
        if _of_the_day(said) != _of_the_day(row):
            raise ValueError(f"{row.day} of {row.database} has two different totals or coverages")
        if row.total_seconds is None and row.coverage >= LEAST_COVERED:
            raise ValueError(f"{row.day} of {row.database} has a coverage of {row.coverage:g} and no total")
        sums[row.day, row.database] += row.busy_seconds
    if len({row[:3] for row in rows}) < len(rows):
        raise ValueError("a tenant has two rows for the same day and database")
    return {
        key: _Total(
            sums[key] if row.total_seconds is None else row.total_seconds,
            row.coverage if row.total_seconds is None else 1.0,
            row.coverage,
            sums[key],
            row.excess_seconds,
            row.excess_statements,
        )
        for key, row in stated.items()
    }


def _of_the_day(row: HistoryRow) -> tuple[float | int | None, ...]:
    """What each row of a day and database has to say alike."""
    return row.total_seconds, row.coverage, row.excess_seconds, row.excess_statements


async def get(control: asyncpg.Pool[asyncpg.Record], first: date, until: date) -> AsyncIterator[HistoryRow]:
    """The ledger from day `first` to before `until`, a day at a time, sorted.

    `total_seconds` is None for days of which too little is known.
    """
    async with control.acquire() as connection, connection.transaction(readonly=True):
        async for row in connection.cursor(query("usage/export"), first, until, prefetch=5000):
            yield HistoryRow(*row.values())


class CsvWriter:
    """Writes rows as CSV, with a header."""

    def __init__(self, file: TextIO) -> None:
        self._writer = csv.writer(file, lineterminator="\n")
        self._writer.writerow(HistoryRow._fields)

    def row(self, row: HistoryRow) -> None:
        """Write one row; what is not known stays empty."""
        self._writer.writerow(["" if value is None else value for value in row])
