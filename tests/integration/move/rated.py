"""Reference tables for the tests that compare them: what is in them, what harms them, who writes to them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import asyncpg

from tenantry.catalog.tenancy import Tenancy
from tenantry.move import Mover, MoveRecord, Progress, State, StepStarted
from tests.support.estate import LIMITS, Estate

#: Beside the estate's own `currency`: a name in two cases, partitions, and a column that may be NULL.
RATES = """
CREATE TABLE "Rate" ("Code" text, year int, factor numeric(12,6), note text, PRIMARY KEY ("Code", year))
    PARTITION BY RANGE (year);
CREATE TABLE rate_old PARTITION OF "Rate" FOR VALUES FROM (0) TO (2000);
CREATE TABLE rate_new PARTITION OF "Rate" FOR VALUES FROM (2000) TO (3000);
INSERT INTO "Rate" SELECT 'C' || i % 40, 1980 + i / 40, i / 7.0, 'note ' || i FROM generate_series(0, 1599) AS i;
INSERT INTO "Rate" VALUES ('moves', 1900);
"""
RATE, CURRENCY = '"public"."Rate"', '"public"."currency"'

#: Kind of corruption -> the SQL that makes it at the target, what is said, and the SQL that fixes it.
CORRUPTIONS = {
    "missing": (
        'DELETE FROM "Rate" WHERE "Code" = \'C1\' AND year = 1980',
        f"{RATE} row (C1,1980) is missing in acme",
        "INSERT INTO \"Rate\" VALUES ('C1', 1980, 1 / 7.0, 'note 1')",
    ),
    "extra": (
        "INSERT INTO currency VALUES ('XXX', 'None')",
        f"{CURRENCY} row (XXX) is only in acme",
        "DELETE FROM currency WHERE code = 'XXX'",
    ),
    "altered": (
        "UPDATE currency SET name = 'euro' WHERE code = 'EUR'",
        f"{CURRENCY} row (EUR) differs",
        "UPDATE currency SET name = 'Euro' WHERE code = 'EUR'",
    ),
    "numeric scale": (
        'UPDATE "Rate" SET factor = factor + 0.000001 WHERE "Code" = \'C3\' AND year = 2010',
        f"{RATE} row (C3,2010) differs",
        'UPDATE "Rate" SET factor = factor - 0.000001 WHERE "Code" = \'C3\' AND year = 2010',
    ),
    "NULL for a value": (
        'UPDATE "Rate" SET note = NULL WHERE "Code" = \'C7\' AND year = 2000',
        f"{RATE} row (C7,2000) differs",
        "UPDATE \"Rate\" SET note = 'note 807' WHERE \"Code\" = 'C7' AND year = 2000",
    ),
}
QUIET = "SET session_replication_role = replica; "

#: Statements that a writer of reference tables repeats.
WRITERS = {
    "one row": ["UPDATE currency SET name = 'Euro at ' || clock_timestamp() WHERE code = 'EUR'"],
    "there and back": [f"UPDATE currency SET name = '{name}' WHERE code = 'EUR'" for name in ("Euro", "euro")],
    "come and go": ["INSERT INTO currency VALUES ('XXX', 'None')", "DELETE FROM currency WHERE code = 'XXX'"],
    "from partition to partition": ['UPDATE "Rate" SET year = 4000 - year WHERE "Code" = \'moves\''],
}
TOO_OFTEN = "too often to be compared"


def carrier(estate: Estate, **limits: Any) -> Mover:
    return estate.mover(tenancy=Tenancy(tables={"public.Rate": "reference"}), limits=replace(LIMITS, **limits))


def at(step: str, action: Callable[[], object]) -> Callable[[Progress], None]:
    """Do something when a step starts."""

    def tell(event: Progress) -> None:
        if isinstance(event, StepStarted) and event.step == step:
            action()

    return tell


async def at_home(estate: Estate, record: MoveRecord) -> None:
    """The move has stopped before its flip."""
    assert record.state is State.RUNNING
    assert (await estate.homes())["shared"] == ("shared", 1)


@contextlib.asynccontextmanager
async def writing(estate: Estate, statements: Sequence[str], pause: float) -> AsyncIterator[None]:
    """Somebody who changes reference tables at the shared database, with `pause` seconds after each change."""

    async def write() -> None:
        connection = await asyncpg.connect(estate.endpoints["shared"].dsn)
        try:
            while True:
                for statement in statements:
                    await connection.execute(statement)
                    await asyncio.sleep(pause)
        finally:
            connection.terminate()

    task = asyncio.create_task(write())
    try:
        yield
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.wait([task])
