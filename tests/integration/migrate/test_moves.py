"""No schema is changed under a move, and no tenant is moved under a migration, or to a home that is behind."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tenantry.config import Config
from tenantry.errors import OperationRefused
from tenantry.move import MoveBusy, MoveRefused, State
from tenantry.operations import MigrateOptions, MigrateRun, MigrationStopped, Operations
from tenantry.operations.migrate.values import RunState
from tests.support.alembic_project import add_revision, make_project
from tests.support.estate import Estate
from tests.support.estate_fixtures import estate18
from tests.support.herd import appears
from tests.support.process import MoverProcess

__all__ = ["estate18"]


class World:
    """An estate, and operations on it."""

    def __init__(self, estate: Estate, ops: Operations) -> None:
        self.estate = estate
        self.ops = ops

    async def migrate(self, *argv: str, **options: object) -> MigrateRun:
        return await self.ops.migrations.run(argv, (), MigrateOptions(**options))  # type: ignore[arg-type]


@pytest.fixture
async def world(estate18: Estate) -> AsyncIterator[World]:
    near, far = estate18.near.dsn(estate18.shared), estate18.far.dsn(estate18.dedicated)
    config = Config.parse(
        {
            "control": {"dsn": estate18.control_dsn},
            "databases": {
                "shared": {"kind": "shared", "dsn": near, "operator_dsn": near},
                "acme": {"kind": "dedicated", "dsn": far, "operator_dsn": far},
            },
        },
        environment={},
    )
    async with Operations.open(config) as ops:
        yield World(estate18, ops)


def codes(refused: pytest.ExceptionInfo[MoveRefused]) -> set[str]:
    return {one.code for one in refused.value.findings}


async def test_a_migration_is_refused_by_name_or_waits_while_a_tenant_moves_and_the_other_way_round(
    world: World, tmp_path: Path
) -> None:
    process = MoverProcess(world.estate, "move", str(world.estate.tenant), failpoints="copy.half=stop")
    try:
        await process.stopped()
        with pytest.raises(OperationRefused, match=r"no schema is changed under a move: move m\w+ of tenant"):
            await world.migrate("true")
        waiting = asyncio.create_task(world.migrate("true", wait=90, with_way_back=True))
        process.go_on()
        code, output = await process.ended()
    finally:
        process.end()
    assert code == 0, output
    assert (await waiting).state is RunState.DONE
    # The way back is open now: it replicates into the old home.
    with pytest.raises(OperationRefused, match="has its way back open"):
        await world.migrate("true", wait=90)
    (move,) = await world.ops.moves.list()
    begun, go = tmp_path / "begun", tmp_path / "go"
    script = f"touch {begun}; while [ ! -e {go} ]; do sleep 0.02; done"
    migrating = asyncio.create_task(world.migrate("sh", "-c", script, with_way_back=True))
    await appears(begun)
    with pytest.raises(MoveBusy, match="`tenantry migrate` is at work in"):
        await world.ops.moves.release(move.id)
    go.touch()
    assert (await migrating).state is RunState.DONE
    assert (await world.ops.moves.release(move.id)).state is State.RELEASED
    assert (await world.migrate("true")).state is RunState.DONE


async def test_a_move_is_refused_while_a_database_of_it_is_migrated_and_leaves_no_trace(
    world: World, tmp_path: Path
) -> None:
    plan = await world.ops.moves.plan(world.estate.tenant, "acme")
    assert plan.refusals == ()
    begun, go = tmp_path / "begun", tmp_path / "go"
    script = f"touch {begun}; while [ ! -e {go} ]; do sleep 0.02; done"
    migrating = asyncio.create_task(world.migrate("sh", "-c", script, canary="shared"))
    await appears(begun)
    with pytest.raises(MoveRefused, match="`tenantry migrate` is at work in shared") as refused:
        await world.ops.moves.run(plan)
    assert codes(refused) == {"being-migrated"}
    planned = await world.ops.moves.plan(world.estate.tenant, "acme")
    assert [(one.code, one.problem.split()[-1]) for one in planned.refusals][:2] == [
        ("schema-behind", "(waiting)"),
        ("being-migrated", "shared"),
    ]
    assert await world.ops.moves.list() == []
    go.touch()
    assert (await migrating).state is RunState.DONE
    assert (await world.ops.moves.run(plan)).state is State.FLIPPED


async def test_a_move_to_or_from_a_database_that_is_behind_is_refused_by_name_until_it_is_not(
    world: World,
) -> None:
    with pytest.raises(MigrationStopped):
        await world.migrate("sh", "-c", "[ $TENANTRY_MIGRATE_DATABASE = shared ]", canary="shared")
    with pytest.raises(
        MoveRefused, match=r"acme is behind: run r\w+ of `tenantry migrate` is not done there"
    ) as refused:
        await world.ops.moves.promote(world.estate.tenant, to="acme")
    assert codes(refused) == {"schema-behind"}
    await world.ops.migrations.abandon()
    assert (await world.ops.moves.promote(world.estate.tenant, to="acme")).state is State.FLIPPED


async def test_a_promoted_tenants_database_goes_on_with_alembic_where_the_shared_one_stands(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    folder = tmp_path / "product"
    command = make_project(folder)
    await world.ops.migrations.run(command, ["shared"])
    record = await world.ops.moves.promote(world.estate.tenant, to="acme")
    await world.ops.moves.release(record.id)
    add_revision(folder)
    done = await world.migrate(*command)
    assert [(one.database, one.state.value) for one in done.databases] == [("acme", "done"), ("shared", "done")]
    assert done.drifted == ()
    for server, database in (
        (world.estate.near, world.estate.shared),
        (world.estate.far, world.estate.dedicated),
    ):
        assert server.psql("TABLE alembic_version", database) == "r2"
        assert server.psql("SELECT count(colour) FROM lessons", database) == "0"
    assert not [one for one in (await world.ops.check()).findings if one.code.startswith("schema-")]
