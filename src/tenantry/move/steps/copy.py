"""The copy: the tenant's rows as of one snapshot, by a pipe of COPY, several tables at once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Literal

import asyncpg

from tenantry.ids import Kind
from tenantry.move import distribution, failpoints
from tenantry.move.context import REFERENCE_NAMES, MoveContext
from tenantry.move.errors import MoveError
from tenantry.move.plan import TablePlan
from tenantry.move.progress import CopyProgressed
from tenantry.move.session import Connection, Endpoint, blaming, session
from tenantry.runtime.sqltext import identifier

#: Pieces of COPY data that may wait between the two sides: bounds the mover's memory. asyncpg's pieces are at
#: most some 64 KiB.
_PIECES = 16


async def clear(context: MoveContext, place: Endpoint, tables: Sequence[TablePlan]) -> None:
    """Take the tenant's rows of these tables away at `place`, where the tenant does not live; from a dedicated
    database those of reference tables too.

    Raises:
        MoveError: the tenant lives there; or reference rows have to stay, for somebody else needs them.
    """
    if not await delete_rows(context, place, tables):
        raise MoveError(f"somebody else uses {place.name}: the rows of its reference tables stay")


async def delete_rows(context: MoveContext, place: Endpoint, tables: Sequence[TablePlan]) -> bool:
    """The same, as far as it harms nobody. False: reference rows stay."""
    dedicated = place.kind is Kind.DEDICATED
    common = [table for table in tables if dedicated and not table.column]
    async with session(place, f"clear {context.plan.id}", session_replication_role="replica") as target:
        if dedicated and await _truncate(context, place, target, tables):
            return True
        for table in tables:
            if table.column:
                async with deletion_allowed(context, place, target):
                    await target.execute(f"DELETE FROM {table.quoted} WHERE {table.where(context.plan.tenant)}")  # noqa: S608  quoted
        if not common:
            return True
        async with deletion_allowed(context, place, target):
            others = await _others(context, place, target)
            if others["living"] or others["fed"]:
                return False
            for table in common:
                await target.execute(f"DELETE FROM {table.quoted}")  # noqa: S608  quoted
    return True


async def _truncate(
    context: MoveContext, place: Endpoint, target: Connection, tables: Sequence[TablePlan]
) -> bool:
    """Empty the tables at once, if the tenant is the only one that the dedicated database has ever known, and no
    other database gets what happens to them."""
    names = ", ".join(table.quoted for table in tables)
    async with deletion_allowed(context, place, target):
        others = await _others(context, place, target)
        if not names or others["living"] or others["known"] or others["fed"]:
            return False
        # Refused where a table that is not carried references one of these.
        with contextlib.suppress(asyncpg.FeatureNotSupportedError):
            async with target.transaction():
                await target.execute(f"TRUNCATE {names}")
            return True
    return False


async def _others(context: MoveContext, place: Endpoint, target: Connection) -> asyncpg.Record:
    """What else a dedicated database is used for.

    living: another tenant lives there, or will: the database is stamped for it, which nobody does until the
    transaction ends. known: it knows another one. fed: the reference tables of other databases hang on its own.
    """
    await target.execute(
        "SELECT FROM tenantry.database_identity FOR SHARE"
    )  # a move stamps the database before it fills it
    row = await target.fetchrow(
        "SELECT EXISTS (SELECT FROM tenantry.database_identity WHERE tenant <> $1) "
        "OR EXISTS (SELECT FROM tenantry.placement WHERE tenant <> $1 AND database = $2) AS living, "
        "EXISTS (SELECT FROM tenantry.placement WHERE tenant <> $1) AS known, "
        "EXISTS (SELECT FROM pg_publication WHERE pubname ~ $4 AND pubname <> $3) AS fed",
        context.plan.tenant,
        place.name,
        context.reference_name,
        REFERENCE_NAMES,
    )
    assert row is not None
    return row


@contextlib.asynccontextmanager
async def deletion_allowed(context: MoveContext, place: Endpoint, target: Connection) -> AsyncIterator[None]:
    """A transaction during which the tenant does not live at `place`, nor comes there: its rows may be deleted.

    The lease is lost with its session, and this mover may learn of it late: its move may be over and a newer one
    may have brought the tenant here.

    Raises:
        MoveError: the tenant lives there.
    """
    tenant = context.plan.tenant
    async with target.transaction():
        home = await target.fetchval("SELECT database FROM tenantry.placement WHERE tenant = $1 FOR SHARE", tenant)
        if home == place.name:
            raise MoveError(f"tenant {tenant} is at home in {place.name}: its rows stay")
        if await distribution.has_citus(target):
            await distribution.quiet_workers(target)
        yield


async def copy_all(context: MoveContext, snapshot: str) -> int:
    """Copy every table as of `snapshot`, the largest first. Returns the rows."""
    todo: asyncio.Queue[TablePlan] = asyncio.Queue()
    tables = sorted((*context.plan.tables, *context.plan.references), key=lambda table: -table.bytes)
    for table in tables:
        todo.put_nowait(table)
    pipe = _Copying(context, snapshot, len(tables))
    failpoints.reach("copy.started")
    async with asyncio.TaskGroup() as group:
        jobs = [group.create_task(pipe.work_off(todo)) for _ in range(min(context.limits.jobs, len(tables)))]
    return sum(job.result() for job in jobs)


class _Copying:
    # Mutable state: how many tables are complete.

    def __init__(self, context: MoveContext, snapshot: str, tables: int) -> None:
        self._context = context
        self._snapshot = snapshot
        self._tables = tables
        self._complete = 0

    async def work_off(self, todo: asyncio.Queue[TablePlan]) -> int:
        rows = 0
        context = self._context
        purpose = f"copy {context.plan.id}"
        async with (
            session(context.source, purpose) as source,
            # No triggers and no foreign keys while rows arrive: the source has checked them.
            session(context.target, purpose, session_replication_role="replica") as target,
        ):
            await source.execute(
                f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '{self._snapshot}'"
            )
            while not todo.empty():
                table = todo.get_nowait()
                async with distribution.writing(target):
                    rows += await copy_table(context, table, source, target)
                self._complete += 1
                if self._complete * 2 >= self._tables > (self._complete - 1) * 2:
                    failpoints.reach("copy.half")
                if self._complete == self._tables:
                    failpoints.reach("copy.last_table")
            await source.execute("COMMIT")
        return rows


async def copy_table(context: MoveContext, table: TablePlan, source: Connection, target: Connection) -> int:
    """Copy one table's share. Returns its rows."""
    columns = ", ".join(identifier(name) for name in table.columns)
    form: Literal["binary", "text"] = "binary" if table.binary else "text"
    query = f"SELECT {columns} FROM {table.quoted} WHERE {table.where(context.plan.tenant)}"  # noqa: S608  quoted
    pipe = _Pipe(context, table)
    async with asyncio.TaskGroup() as group:
        writing = group.create_task(_write(context, table, target, pipe, form))
        async with pipe.filling():
            with blaming(context.source):
                await source.copy_from_query(query, output=pipe.put, format=form)
    rows = int(writing.result().split()[-1])
    pipe.tell(rows)
    return rows


async def _write(
    context: MoveContext, table: TablePlan, target: Connection, pipe: _Pipe, form: Literal["binary", "text"]
) -> str:
    with blaming(context.target):
        return await target.copy_to_table(
            table.name, schema_name=table.schema, columns=table.columns, source=pipe.pieces(), format=form
        )


class _Pipe:
    """COPY's bytes between the sides: bounded, throttled, and broken off when they stand still."""

    # Mutable state: _queue, what is under way; _bytes, what has passed.

    def __init__(self, context: MoveContext, table: TablePlan) -> None:
        self._context = context
        self._table = table
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(_PIECES)
        self._bytes = 0
        self._started = time.monotonic()
        self._told = self._started

    @contextlib.asynccontextmanager
    async def filling(self) -> AsyncIterator[None]:
        yield
        await self._queue.put(None)

    async def put(self, data: bytes) -> None:
        async with asyncio.timeout(self._context.limits.stall):
            await self._queue.put(data)
        self._bytes += len(data)
        await self._context.throttle.passed(len(data))
        if time.monotonic() - self._told >= 0.2:
            self.tell(None)

    async def pieces(self) -> AsyncIterator[bytes]:
        while True:
            try:
                async with asyncio.timeout(self._context.limits.stall):
                    piece = await self._queue.get()
            except TimeoutError:
                raise TimeoutError(f"copying {self._table.quoted} stood still") from None
            if piece is None:
                return
            yield piece

    def tell(self, rows: int | None) -> None:
        self._told = time.monotonic()
        self._context.tell(
            CopyProgressed(
                self._context.plan.id,
                self._table.quoted,
                self._bytes,
                self._table.bytes,
                rows,
                self._told - self._started,
                self._table.rows,
                rows is not None,
            )
        )
