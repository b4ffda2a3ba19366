"""Adopts the ids of a product that exists: from a table or a file into the directory, in batches.

Memory stays bounded whatever the number of ids: they are read, checked and written a batch at a time. Each batch
is written to the control database first and to the data database then; both skip what is there, so the whole can
be repeated after any crash.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TextIO

import asyncpg

from tenantry.directory import placements
from tenantry.errors import ConfigError, InvalidTenantId, OperationRefused
from tenantry.ids import Kind
from tenantry.operations.context import Context
from tenantry.residence import Residence
from tenantry.router.driver import Connection
from tenantry.runtime.sqltext import identifier

#: Told how many more were read.
Told = Callable[[int], None]


class Imported(NamedTuple):
    """What an import did."""

    ids: int
    """Read."""
    new: int
    """Written to the directory."""
    known: int
    """Lived in this database already."""
    elsewhere: int
    """Live in another database; left there."""
    removed: int
    """Were removed; left so."""


class ImportTerms(NamedTuple):
    """What is said of ids that are new."""

    home: str
    """The database where they live."""
    plan: str | None
    residence: Residence
    """What they ask of their home; it may be theirs."""


def untold(_: int) -> None:
    """Tell nobody."""


async def place(
    context: Context, terms: ImportTerms, ids: AsyncIterator[str], batch: int, progress: Told
) -> Imported:
    """Place the ids in their home. Ids that have one already keep it."""
    home = terms.home
    database = await context.database(home)
    if database.kind is Kind.DEDICATED:
        raise OperationRefused(
            f"database {home} holds one tenant only: `tenantry tenants add ID --database {home}`"
        )
    total = Imported(0, 0, 0, 0, 0)
    async with context.operator(home) as connection:
        await _check_name(connection, home)
        async for texts in _batches(ids, batch):
            one = await _write(context, connection, terms, texts)
            total = Imported(*(a + b for a, b in zip(total, one, strict=True)))
            progress(len(texts))
    said = {name: word for name, word in terms.residence._asdict().items() if word is not None}
    detail = {**total._asdict(), "plan": terms.plan, **said}
    await context.store.record("tenant.imported", context.actor, database=home, detail=detail)
    return total


async def _write(context: Context, connection: Connection, terms: ImportTerms, texts: list[str]) -> Imported:
    home = terms.home
    unique = sorted(set(texts))
    try:
        new = await context.store.import_tenants(unique, home, plan=terms.plan, residence=terms.residence)
    except LookupError:
        raise ConfigError(f"no database {home} in the directory; `tenantry apply` writes it there") from None
    rows = await context.store.tenants(unique)
    here = [row for row in rows.values() if row.database == home]
    await placements.import_(connection, [(row.id, row.epoch, row.state == "suspended") for row in here])
    return Imported(len(texts), new, len(here) - new, len(rows) - len(here), len(unique) - len(rows))


async def _check_name(connection: Connection, home: str) -> None:
    """A DSN that points at another database must not fill it with the wrong tenants."""
    name = await connection.fetchval("SELECT name FROM tenantry.database_identity")
    if name != home:
        raise OperationRefused(f"the database behind the DSN of {home} is called {name}; check the DSN")


async def _batches(ids: AsyncIterator[str], size: int) -> AsyncIterator[list[str]]:
    batch: list[str] = []
    async for one in ids:
        batch.append(one)
        if len(batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch


# -- where the ids come from -----------------------------------------------------------------------


async def checked(context: Context, ids: Iterable[str] | AsyncIterable[str]) -> AsyncIterator[str]:
    """The ids as the directory stores them."""
    if isinstance(ids, AsyncIterable):
        async for one in ids:
            yield context.id_of(one)
    else:
        for one in ids:
            yield context.id_of(one)


async def from_table(context: Context, database: str, source: str) -> AsyncIterator[str]:
    """The distinct values of `schema.table.column` of a database, NULL left out.

    Read by a cursor, and with row security off: a role that does not bypass it fails, it does not read a part. All
    are looked at before the first is given, so that one that is no id, or is spelt otherwise, changes nothing.

    Raises:
        ConfigError: there is no such column, or not all of its values are ids in their normal form.
    """
    table, column = _names(source)
    async with context.operator(database) as connection, connection.transaction(readonly=True):
        await connection.execute("SET LOCAL row_security = off; SET LOCAL statement_timeout = 0")
        query = f"SELECT DISTINCT {column}::text AS id FROM {table} WHERE {column} IS NOT NULL"  # noqa: S608  quoted
        try:
            await _check_spelling(context, connection, query, source)
            async for row in connection.cursor(query, prefetch=2000):
                yield row["id"]
        except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError) as error:
            raise ConfigError(f"{source}: {error}", key="source") from None


async def _check_spelling(context: Context, connection: Connection, query: str, source: str) -> None:
    """Rows whose tenant column spells an id otherwise are nobody's: policies compare the column with the id."""
    stored = context.config.tenancy.type.stored
    bad, first, why = 0, list[str](), ""
    async for row in connection.cursor(query, prefetch=2000):
        try:
            stored(row["id"])
        except InvalidTenantId as error:
            bad += 1
            first, why = [*first, repr(row["id"][:60])][:5], str(error)
    if bad:
        raise ConfigError(
            f"{bad} values are no ids as tenants would see them, {', '.join(first)} among them ({why}). "
            "Nothing was imported; bring the column into the ids' normal form, or make it of their type",
            key=source,
        )


def _names(source: str) -> tuple[str, str]:
    parts = source.split(".")
    if len(parts) not in (2, 3) or not all(parts):
        raise ConfigError("write schema.table.column", key="source")
    *table, column = (identifier(part) for part in parts)
    return ".".join(table), column


async def from_file(context: Context, path: Path, column: str | None) -> AsyncIterator[str]:
    """The ids of a file, or of standard input. A file is read to its end before the first id is given, so that
    one with a mistake changes nothing.

    Raises:
        ConfigError: the file can't be read, or a line is not an id: it says which.
    """
    if str(path) != "-":
        for _ in _read(context, path, column):
            pass
    for one in _read(context, path, column):
        yield one


def _read(context: Context, path: Path, column: str | None) -> Iterator[str]:
    parse = context.config.tenancy.type.parse
    try:
        with _opened(path) as file:
            for line, text in _fields(file, column, path):
                if text:
                    try:
                        yield str(parse(text))
                    except InvalidTenantId as error:
                        raise ConfigError(f"line {line}: {error}", source=str(path)) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"can't be read: {type(error).__name__}: {error}", source=str(path)) from None


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    if str(path) == "-":
        yield sys.stdin
        return
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield file


def _fields(file: TextIO, column: str | None, path: Path) -> Iterator[tuple[int, str]]:
    """Line number and id."""
    if column is None:
        for number, line in enumerate(file, 1):
            yield number, line.strip()
        return
    reader = csv.DictReader(file)
    if column not in (reader.fieldnames or ()):
        raise ConfigError(f"no column {column}; there are: {', '.join(reader.fieldnames or ())}", source=str(path))
    for row in reader:
        yield reader.line_num, (row[column] or "").strip()
