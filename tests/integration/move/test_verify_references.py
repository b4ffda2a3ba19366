"""Reference tables are compared before the flip too, whole and row for row, though nobody fences their writers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.move import Compared, DataDiffers, Progress, State
from tenantry.move.steps import copy
from tests.integration.move.rated import CORRUPTIONS, CURRENCY, QUIET, RATE, at, at_home, carrier
from tests.support.estate import Estate
from tests.support.process import MoverProcess


@pytest.fixture(scope="module")
def plain() -> Iterator[EmbeddedServer]:
    """A server without logical replication."""
    with EmbeddedServer.start(16, settings={"wal_level": "replica"}) as server:
        yield server


@pytest.mark.parametrize(
    "corruption",
    [pytest.param(one, marks=() if one in ("missing", "altered") else pytest.mark.faults) for one in CORRUPTIONS],
)
async def test_every_corruption_of_a_reference_row_is_found_before_the_flip_and_fixed_it_passes(
    rated: Estate, corruption: str
) -> None:
    harm, said, fix = CORRUPTIONS[corruption]
    mover = carrier(rated)
    plan = await mover.plan(rated.tenant, "acme")
    assert {table.quoted for table in plan.references} == {RATE, CURRENCY}
    with pytest.raises(DataDiffers) as caught:
        await mover.run(plan, at("verify", lambda: rated.far.psql(QUIET + harm, rated.dedicated)))
    assert caught.value.differences == (said,)
    record = await mover.show(plan.id)
    assert said in str(record.error)
    await at_home(rated, record)
    with pytest.raises(DataDiffers):
        await mover.resume(plan.id)
    rated.far.psql(QUIET + fix, rated.dedicated)
    told: list[Progress] = []
    record = await mover.resume(plan.id, told.append)
    assert record.state is State.FLIPPED
    compared = {event.table: event.rows for event in told if isinstance(event, Compared)}
    assert compared[RATE] == 1601
    assert compared[CURRENCY] == 2
    assert record.result.found()["verified_rows"] == record.result.found()["audited_rows"] + 1603


async def test_changes_that_the_link_has_not_carried_are_found_before_the_flip(rated: Estate) -> None:
    """An update of a row that the target has lost is passed over there, and a TRUNCATE is never sent."""
    mover = carrier(rated)
    plan = await mover.plan(rated.tenant, "acme")

    def lose() -> None:
        rated.far.psql(QUIET + "DELETE FROM currency WHERE code = 'USD'", rated.dedicated)
        rated.near.psql("UPDATE currency SET name = 'US Dollar' WHERE code = 'USD'", rated.shared)

    with pytest.raises(DataDiffers) as caught:
        await mover.run(plan, at("verify", lose))
    assert caught.value.differences == (f"{CURRENCY} row (USD) is missing in acme",)
    rated.far.psql(QUIET + "INSERT INTO currency VALUES ('USD', 'US Dollar')", rated.dedicated)
    rated.near.psql("TRUNCATE rate_old", rated.shared)
    with pytest.raises(DataDiffers) as caught:
        await mover.resume(plan.id)
    assert len(caught.value.differences) == 20
    assert all(line.startswith(f"{RATE} row (") for line in caught.value.differences)
    assert all(line.endswith(" is only in acme") for line in caught.value.differences)
    await at_home(rated, await mover.show(plan.id))


async def test_a_resumed_mover_compares_reference_rows_too(rated: Estate) -> None:
    """Killed at `verify.started`; the row is altered while no mover is there."""
    process = MoverProcess(rated, "move", str(rated.tenant), failpoints="verify.started=kill")
    try:
        await process.killed()
    finally:
        process.end()
    mover = rated.mover()
    (record,) = await mover.list()
    harm, said, fix = CORRUPTIONS["altered"]
    rated.far.psql(QUIET + harm, rated.dedicated)
    with pytest.raises(DataDiffers) as caught:
        await mover.resume(record.id)
    assert caught.value.differences == (said,)
    await at_home(rated, await mover.show(record.id))
    rated.far.psql(QUIET + fix, rated.dedicated)
    assert (await mover.resume(record.id)).state is State.FLIPPED


async def test_a_copy_under_the_fence_compares_reference_rows_too(
    plain: EmbeddedServer, far16: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    estate = await Estate.make(plain, far16)
    try:
        mover, harm = estate.mover(), CORRUPTIONS["altered"][0]
        real = copy.copy_all

        async def copied(*args: Any) -> int:
            rows = await real(*args)
            await asyncio.to_thread(estate.far.psql, QUIET + harm, estate.dedicated)
            return rows

        with monkeypatch.context() as patched:
            patched.setattr(copy, "copy_all", copied)
            plan = await mover.plan(estate.tenant, "acme", consent=8.0)
            with pytest.raises(DataDiffers) as caught:
                await mover.run(plan)
        assert caught.value.differences == (CORRUPTIONS["altered"][1],)
        await at_home(estate, await mover.show(plan.id))
        assert (await mover.resume(plan.id)).state is State.FLIPPED
    finally:
        estate.drop()


async def test_the_audit_leaves_reference_tables_alone(rated: Estate) -> None:
    """After the flip the target is in use, and a row that somebody changes there is no reason to take the tenant
    back."""
    mover = carrier(rated)
    harm = CORRUPTIONS["altered"][0]
    record = await mover.run(
        await mover.plan(rated.tenant, "acme"), at("audit", lambda: rated.far.psql(QUIET + harm, rated.dedicated))
    )
    assert record.state is State.FLIPPED
    assert record.step == "audit"
