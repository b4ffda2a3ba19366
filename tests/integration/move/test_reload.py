"""Reference tables that are reloaded at the shared database arrive whole in the dedicated ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import asyncpg
import pytest

from tenantry import sql
from tenantry.catalog.tenancy import Tenancy
from tenantry.move import Mover, State
from tests.integration.move.rated import at
from tests.support.estate import Estate

PRICES = """
CREATE TABLE price (id int PRIMARY KEY, cents int NOT NULL);
CREATE TABLE discount (price int PRIMARY KEY REFERENCES price, percent int NOT NULL);
INSERT INTO price SELECT i, i FROM generate_series(1, 9) AS i;
INSERT INTO discount SELECT i, 5 FROM generate_series(1, 9) AS i;
"""
RELOAD = """
BEGIN; TRUNCATE price, discount; INSERT INTO price SELECT i, 10 * i FROM generate_series(1, 9) AS i; COMMIT
"""
STATE = "SELECT sum(cents) AS cents, (SELECT count(*) FROM discount) AS discounts FROM price"


@pytest.fixture
def priced(estate18: Estate) -> Estate:
    estate18.near.psql(PRICES, estate18.shared)
    return estate18


def _mover(estate: Estate) -> Mover:
    return estate.mover(tenancy=Tenancy(tables={"public.price": "reference", "public.discount": "reference"}))


async def _arrived(estate: Estate, query: str, right: Callable[[Sequence[asyncpg.Record]], bool]) -> None:
    async with asyncio.timeout(30):
        while not right(await estate.fetch("acme", query)):  # noqa: ASYNC110  nothing tells of what was applied
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    "step",
    [
        "build_indexes",
        pytest.param("catch_up", marks=pytest.mark.faults),
        "verify",
        pytest.param("finalize", marks=pytest.mark.faults),
    ],
)
async def test_a_reload_during_a_move_arrives(priced: Estate, step: str) -> None:
    mover = _mover(priced)
    reload = at(step, lambda: priced.near.psql(RELOAD, priced.shared))
    record = await mover.run(await mover.plan(priced.tenant, "acme"), reload)
    assert record.state is State.FLIPPED
    await _arrived(priced, STATE, lambda rows: tuple(rows[0]) == (450, 0))


async def test_a_reload_after_the_release_arrives_and_so_does_what_is_changed_later(priced: Estate) -> None:
    mover = _mover(priced)
    record = await mover.run(await mover.plan(priced.tenant, "acme"))
    await mover.release(record.id)
    priced.near.psql(RELOAD, priced.shared)
    priced.near.psql("INSERT INTO currency VALUES ('CHF', 'Franc')", priced.shared)
    await _arrived(priced, "SELECT count(*) FROM currency", lambda rows: rows[0][0] == 3)
    await _arrived(priced, STATE, lambda rows: tuple(rows[0]) == (450, 0))


async def test_what_rows_of_tenants_reference_can_not_be_truncated_at_the_source_either(priced: Estate) -> None:
    """So the link is never told to do what the target would refuse."""
    with pytest.raises(asyncpg.FeatureNotSupportedError, match="foreign key"):
        await priced.fetch("shared", "TRUNCATE currency")


async def test_a_link_that_can_not_apply_a_change_is_named_by_check_until_it_can(priced: Estate) -> None:
    mover = _mover(priced)
    record = await mover.run(await mover.plan(priced.tenant, "acme"))
    stuck = sql.query("check/links")
    assert await priced.fetch("acme", stuck) == []
    await priced.fetch("acme", "INSERT INTO price VALUES (77, 1)")  # somebody's own, at the wrong place
    await priced.fetch("shared", "INSERT INTO price VALUES (77, 2)")
    await _arrived(priced, stuck, lambda rows: [row["name"] for row in rows] == [f"tenantry_{record.id}_ref"])
    await priced.fetch("acme", "DELETE FROM price WHERE id = 77")
    await _arrived(priced, "SELECT cents FROM price WHERE id = 77", lambda rows: [row[0] for row in rows] == [2])
    await _arrived(priced, stuck, lambda rows: not rows)
