"""Plans that another release has journalled. `journal/` keeps a plan of each: a new release adds its own, and
changes none. `0.1.0-dev` is of the development versions before plans carried a version, `0.1.0-dev1` of those that
called the directions "out" and "back".
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tenantry.cli import summary
from tenantry.ids import IdType, Kind
from tenantry.move import MovePlan, PlanUnreadable, State
from tenantry.move.plan_format import VERSION
from tenantry.schema import install_data
from tests.support.estate import Estate
from tests.support.installing import SETTING
from tests.support.process import MoverProcess

JOURNAL = Path(__file__).with_name("journal")
RELEASES = sorted(path.stem for path in JOURNAL.glob("*.json"))
MOVE = "m0123456789"

Change = Callable[[dict[str, Any]], dict[str, Any]]


def another(raw: dict[str, Any]) -> dict[str, Any]:
    """A plan with what a later release may have added to it, and without what an earlier one may not have had."""
    lacks = ("room", "estimate", "creation", "findings", "pause")
    tables = [{k: v for k, v in table.items() if k not in ("rows", "bytes")} for table in raw["tables"]]
    return {
        **{name: value for name, value in raw.items() if name not in lacks},
        "tables": [{**table, "hint": 1} for table in tables],
        "hint": {"a": [1]},
    }


async def journalled(estate: Estate, release: str, change: Change = lambda raw: raw) -> dict[str, Any]:
    """Put a release's plan of moving the estate's tenant into the journal."""
    plan = await estate.mover().plan(estate.tenant, "acme")
    text = (JOURNAL / f"{release}.json").read_text()
    for name, value in (
        ("id", MOVE), ("tenant", plan.tenant), ("shape", plan.shape), ("storage", plan.storage)
    ):  # fmt: skip
        text = text.replace(f'"@{name}@"', json.dumps(value))
    raw = change(json.loads(text))
    await estate.fetch(
        "control",
        "INSERT INTO tenantry.move (id, tenant, source, target, plan) VALUES ($1, $2, 'shared', 'acme', $3)",
        MOVE,
        plan.tenant,
        json.dumps(raw),
    )
    return raw


def test_a_plan_of_this_release_is_kept() -> None:
    versions = {json.loads((JOURNAL / f"{release}.json").read_text()).get("version", 0) for release in RELEASES}
    assert versions == set(range(VERSION + 1))


@pytest.mark.parametrize(
    "release",
    [
        pytest.param(release, marks=[] if release in (RELEASES[0], RELEASES[-1]) else [pytest.mark.faults])
        for release in RELEASES
    ],
)
async def test_a_move_planned_by_another_release_is_resumed_and_released(estate18: Estate, release: str) -> None:
    await journalled(estate18, release, another)
    mover = estate18.mover()
    assert [move.id for move in await mover.list()] == [MOVE]
    assert (await mover.show(MOVE)).plan.mechanism.value == "replication"
    assert (await mover.resume(MOVE)).state is State.FLIPPED
    assert (await mover.release(MOVE)).state is State.RELEASED
    assert await mover.leftovers() == []


@pytest.mark.parametrize(
    ("release", "point"),
    [("0.1.0-dev", "identities.set"), ("0.1.0-dev", "reverse.prepared"), ("0.1.0", "copy.half")],
)
async def test_a_move_planned_by_another_release_is_aborted_wherever_it_was(
    estate18: Estate, release: str, point: str
) -> None:
    await journalled(estate18, release)
    process = MoverProcess(estate18, "resume", MOVE, failpoints=f"{point}=kill")
    try:
        await process.killed()
    finally:
        process.end()
    mover = estate18.mover()
    assert (await mover.abort(MOVE)).state is State.ABORTED
    assert await mover.leftovers() == []
    assert (await mover.run(await mover.plan(estate18.tenant, "acme"))).state is State.FLIPPED


async def test_a_move_planned_by_another_release_is_rolled_back(estate18: Estate) -> None:
    await journalled(estate18, "0.1.0-dev", another)
    mover = estate18.mover()
    assert (await mover.resume(MOVE)).state is State.FLIPPED
    assert (await mover.rollback(MOVE)).state is State.ROLLED_BACK
    assert await mover.leftovers() == []


#: As the development versions made the schema.
EARLIER = "".join(
    f"ALTER TABLE tenantry.{table} DROP CONSTRAINT {table}_direction_check;"
    f"ALTER TABLE tenantry.{table} ADD CONSTRAINT {table}_direction_check CHECK (direction IN ('out', 'back'));"
    for table in ("move_gate", "move_marker")
)
GATES = "SELECT direction FROM tenantry.move_gate WHERE move = $1"


async def upgrade(estate: Estate, database: str) -> None:
    """What `tenantry init` does with it."""
    await estate.fetch(database, "DELETE FROM tenantry.migration WHERE side = 'data' AND number >= 4 RETURNING 1")
    connection = await asyncpg.connect(estate.endpoints[database].dsn)
    try:
        await install_data(
            connection,
            name=database,
            kind=Kind.SHARED,
            setting=SETTING,
            id_type=IdType.UUID,
            application_role="app",
        )
    finally:
        await connection.close()


@pytest.mark.parametrize(
    "point",
    ["identities.set", pytest.param("reverse.prepared", marks=pytest.mark.faults), "fence.placement_updated"],
)
async def test_a_move_under_way_by_an_earlier_version_is_finished_in_its_own_words(
    estate18: Estate, point: str
) -> None:
    """Before the upgrade of its databases, and after it; and the next move uses ours."""
    estate18.near.psql(EARLIER, estate18.shared)
    await journalled(estate18, "0.1.0-dev1")
    process = MoverProcess(estate18, "resume", MOVE, failpoints=f"{point}=kill")
    try:
        await process.killed()
    finally:
        process.end()
    assert [row["direction"] for row in await estate18.fetch("shared", GATES, MOVE)] == ["out"]
    await upgrade(estate18, "shared")
    mover = estate18.mover()
    assert (await mover.resume(MOVE)).state is State.FLIPPED
    assert [row["direction"] for row in await estate18.fetch("acme", GATES, MOVE)] == ["back"]
    assert (await mover.rollback(MOVE)).state is State.ROLLED_BACK
    assert await mover.leftovers() == []
    record = await mover.run(await mover.plan(estate18.tenant, "acme"))
    assert [row["direction"] for row in await estate18.fetch("shared", GATES, record.id)] == ["forward"]
    assert (await mover.release(record.id)).state is State.RELEASED


async def test_a_move_under_way_by_an_earlier_version_is_aborted_before_its_databases_are_upgraded(
    estate18: Estate,
) -> None:
    estate18.near.psql(EARLIER, estate18.shared)
    await journalled(estate18, "0.1.0-dev1")
    process = MoverProcess(estate18, "resume", MOVE, failpoints="copy.half=kill")
    try:
        await process.killed()
    finally:
        process.end()
    mover = estate18.mover()
    assert (await mover.abort(MOVE)).state is State.ABORTED
    assert await mover.leftovers() == []


async def test_a_schema_of_an_earlier_version_refuses_new_moves_with_the_command_that_upgrades_it(
    estate18: Estate,
) -> None:
    estate18.near.psql(EARLIER, estate18.shared)
    (finding,) = (await estate18.mover().plan(estate18.tenant, "acme")).refusals
    assert (finding.code, finding.fix) == ("schema-old", "run `tenantry init`")
    await upgrade(estate18, "shared")
    assert (await estate18.mover().plan(estate18.tenant, "acme")).refusals == ()


async def test_a_plan_without_the_tables_shape_does_not_flip_and_is_aborted(estate18: Estate) -> None:
    await journalled(estate18, "0.1.0", lambda raw: {k: v for k, v in raw.items() if k != "storage"})
    mover = estate18.mover()
    with pytest.raises(Exception, match="does not say how the tables looked"):
        await mover.resume(MOVE)
    assert (await mover.abort(MOVE)).state is State.ABORTED


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda raw: {**raw, "version": VERSION + 1}, f"format {VERSION + 1}"),
        (lambda raw: {k: v for k, v in raw.items() if k != "tables"}, "tables"),
        (lambda raw: {**raw, "mechanism": "by pigeon"}, "by pigeon"),
        (lambda raw: {**raw, "version": "one"}, "version"),
    ],
    ids=["a later format", "no tables", "an unknown mechanism", "an odd version"],
)
async def test_a_plan_that_cannot_be_read_is_listed_and_refused_by_name(
    looked_at: Estate, change: Change, said: str
) -> None:
    await journalled(looked_at, "0.1.0", change)
    mover = looked_at.mover()
    try:
        assert [(move.id, move.state) for move in await mover.list()] == [(MOVE, State.RUNNING)]
        record = await mover.show(MOVE)
        with pytest.raises(PlanUnreadable, match=said):
            _ = record.plan
        assert summary.facts(record)["mechanism"] is None
        assert said in summary.text(record)["plan"]
        for command in (mover.resume, mover.abort, mover.rollback, mover.release):
            with pytest.raises(PlanUnreadable, match=f"move {MOVE}.*{said}"):
                await command(MOVE)
        assert (await mover.show(MOVE)).state is State.RUNNING
    finally:
        await looked_at.fetch("control", "DELETE FROM tenantry.move WHERE id = $1", MOVE)


@pytest.mark.parametrize("release", RELEASES)
def test_every_field_with_a_default_may_be_missing(release: str) -> None:
    raw = json.loads((JOURNAL / f"{release}.json").read_text())
    needed = {
        "id", "tenant", "source", "target", "source_kind", "target_kind", "mechanism", "epoch", "setting",
        "id_type", "tables",
    }  # fmt: skip
    for name in raw:
        less = json.dumps({key: value for key, value in raw.items() if key != name})
        if name in needed:
            with pytest.raises(ValueError, match=name):
                MovePlan.from_json(less)
        else:
            assert MovePlan.from_json(less).id == raw["id"]
