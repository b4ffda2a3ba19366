"""Runs a plan on a living database: short lock timeouts, retries, one step at a time.

Every step is complete in itself, and a plan holds only what is missing. So a run that was broken
off is resumed by planning and applying again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from tenantry.catalog.read import read
from tenantry.catalog.tables import tenant_tables
from tenantry.catalog.tenancy import Tenancy
from tenantry.catalog.values import Catalog, Column, Relation
from tenantry.errors import TenantryError
from tenantry.isolation.plan import Plan, PlanStep, PolicyMode, plan
from tenantry.runtime import locks
from tenantry.runtime.sqltext import identifier
from tenantry.sql import query

# Beside the space of the tenants' advisory locks, so that it can't meet one of them.
_LOCK = f"{locks.APPLYING[0]}, {locks.APPLYING[1]}"
_BUSY = (
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
)


class StepFailed(TenantryError):
    """A step of the plan could not be done; everything before it is done, nothing of it is.

    Attributes:
        step: the step.
        done: how many steps of the plan were done before it.
    """

    def __init__(self, step: PlanStep, done: int, total: int, why: str) -> None:
        self.step = step
        self.done = done
        super().__init__(
            f"step {done + 1} of {total} failed on {step.object} ({step.why}): {why}. "
            "The steps before it are done; fix this and apply again, which goes on from here"
        )


class ApplyBusy(TenantryError):
    """Another apply is running on this database; wait for it, then apply again."""

    def __init__(self) -> None:
        super().__init__("another `rls apply` is running on this database; wait until it is over")


class Pace(NamedTuple):
    """How patient an apply is."""

    lock_timeout: float = 1.0
    """Seconds that a step may wait for a lock: as long may the application wait behind it."""
    attempts: int = 20
    """How often a step is tried when it does not get its locks."""
    pause: float = 0.5
    """Seconds before the second attempt; each further pause is half as long again, up to ten."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Progress(NamedTuple):
    """Where an apply stands."""

    step: PlanStep
    number: int
    """Starts at 1."""
    total: int
    state: str
    """"starting", "waiting" (it did not get its locks and tries again) or "done"."""
    attempt: int
    """Starts at 1."""


class Observation(NamedTuple):
    """What row-level security would have refused."""

    relation: str
    kind: str
    """"read" or "write"."""
    problem: str
    """"no tenant bound" or "a row of another tenant"."""
    statement: str
    """With its literals taken out."""
    role: str
    client: str
    """The session's application_name."""
    first_at: datetime


Report = Callable[[Progress], None]


async def apply(
    connection: asyncpg.Connection[Any],
    wanted: Plan,
    *,
    pace: Pace | None = None,
    progress: Report | None = None,
) -> int:
    """Run the plan's steps in their order and return how many there were.

    Raises:
        StepFailed: a step failed, or did not get its locks within all its attempts.
        ApplyBusy: another apply is running on this database.
    """
    pace = pace or Pace()
    if not await connection.fetchval(f"SELECT pg_try_advisory_lock({_LOCK})"):
        raise ApplyBusy
    before = await connection.fetchval("SELECT current_setting('lock_timeout')")
    total = len(wanted.steps)
    try:
        for number, step in enumerate(wanted.steps, 1):

            def tell(state: str, attempt: int, step: PlanStep = step, number: int = number) -> None:
                if progress is not None:
                    progress(Progress(step, number, total, state, attempt))

            await _persist(connection, step, pace, tell, number - 1, total)
        return total
    finally:
        if not connection.is_closed():
            await connection.execute(f"SELECT pg_advisory_unlock({_LOCK})")
            await connection.execute("SELECT set_config('lock_timeout', $1, false)", before)


async def _persist(
    connection: asyncpg.Connection[Any],
    step: PlanStep,
    pace: Pace,
    tell: Callable[[str, int], None],
    done: int,
    total: int,
) -> None:
    pause = pace.pause
    for attempt in range(1, pace.attempts + 1):
        tell("starting", attempt)
        try:
            await _run(connection, step, pace, again=attempt > 1)
        except _BUSY as error:
            if attempt == pace.attempts:
                why = f"it did not get its locks in {attempt} attempts"
                raise StepFailed(step, done, total, why) from error
            tell("waiting", attempt)
            await pace.sleep(pause)
            pause = min(pause * 1.5, 10.0)
        except asyncpg.PostgresError as error:
            if step.sweep is not None:
                await connection.execute(step.sweep)
            raise StepFailed(step, done, total, str(error)) from error
        else:
            tell("done", attempt)
            return


async def _run(connection: asyncpg.Connection[Any], step: PlanStep, pace: Pace, *, again: bool) -> None:
    timeout = 0 if step.patient else max(1, int(pace.lock_timeout * 1000))  # 0 would be no limit at all
    await connection.execute("SELECT set_config('lock_timeout', $1, false)", f"{timeout}ms")
    if again and step.sweep is not None:
        await connection.execute(step.sweep)
    if step.alone:
        for statement in step.statements:
            await connection.execute(statement)
        return
    async with connection.transaction():
        for statement in step.statements:
            await connection.execute(statement)


async def compute(
    connection: asyncpg.Connection[Any],
    tenancy: Tenancy,
    *,
    role: str | None = None,
    foreign_keys: bool = False,
    not_null: bool = True,
    mode: PolicyMode = PolicyMode.ENFORCE,
) -> Plan:
    """Read the catalogs and plan. Looks for rows without a tenant where the column allows them."""
    catalog = await read(connection)
    tenants = tenant_tables(catalog, tenancy).tenants
    nulls = await null_tenants(connection, tenants, catalog)
    return plan(catalog, tenancy, role=role, nulls=nulls, foreign_keys=foreign_keys, not_null=not_null, mode=mode)


async def null_tenants(
    connection: asyncpg.Connection[Any],
    columns: Mapping[int, Column],
    catalog: Catalog,
    *,
    seconds: float = 10.0,
) -> frozenset[int]:
    """The tables of `columns` that hold rows without a tenant; only nullable columns are looked at.

    A table that can't be read in that time, or whose policies would hide such rows from this role, is
    taken to have none: the step that makes the column NOT NULL finds out, before anything is changed.

    Args:
        seconds: for each table.
    """
    found = set()
    async with connection.transaction():
        await connection.execute(
            f"SET LOCAL row_security = off; SET LOCAL statement_timeout = {int(seconds * 1000)}"
        )
        for oid, column in columns.items():
            if not column.not_null and await _has_null(connection, catalog.relations[oid], column):
                found.add(oid)
    return frozenset(found)


async def _has_null(connection: asyncpg.Connection[Any], relation: Relation, column: Column) -> bool:
    name = identifier(column.name)
    statement = f"SELECT EXISTS (SELECT FROM ONLY {relation.sql} WHERE {name} IS NULL)"  # noqa: S608  every part is quoted
    try:
        async with connection.transaction():
            return bool(await connection.fetchval(statement))
    except (asyncpg.InsufficientPrivilegeError, asyncpg.QueryCanceledError):
        return False


async def adopt(
    connection: asyncpg.Connection[Any],
    tenancy: Tenancy,
    *,
    role: str | None = None,
    foreign_keys: bool = False,
    not_null: bool = True,
    mode: PolicyMode = PolicyMode.ENFORCE,
    pace: Pace | None = None,
    progress: Report | None = None,
) -> Plan:
    """Plan and apply; returns what was applied, with what is left to decide."""
    if mode is PolicyMode.OBSERVE:
        await connection.execute(query("isolation/observe"))
    wanted = await compute(connection, tenancy, role=role, foreign_keys=foreign_keys, not_null=not_null, mode=mode)
    await apply(connection, wanted, pace=pace, progress=progress)
    return wanted


async def observations(connection: asyncpg.Connection[Any]) -> tuple[Observation, ...]:
    """What observe mode has recorded, the newest first."""
    return tuple(Observation(**dict(row)) for row in await connection.fetch(query("isolation/observations")))
