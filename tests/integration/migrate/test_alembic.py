"""Alembic, really run on shared and dedicated databases, one of them broken in the middle."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.operations import MigrationStopped, Operations
from tenantry.operations.migrate.values import RunState
from tests.support.alembic_project import add_revision, make_project
from tests.support.herd import Herd


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def fleet(pg18: EmbeddedServer, tmp_path: Path, program: None) -> Iterator[Herd]:
    names = [f"shared{n}" for n in range(1, 4)] + [f"tenant{n}" for n in range(1, 21)]
    made = Herd(pg18, tmp_path, names)
    yield made
    made.drop()


@pytest.fixture
def few(pg18: EmbeddedServer, tmp_path: Path, program: None) -> Iterator[Herd]:
    made = Herd(pg18, tmp_path, ["shared1", "tenant1", "tenant2"])
    yield made
    made.drop()


async def upgrade(herd: Herd, broken: str, jobs: int) -> None:
    folder = herd.folder / "product"
    command = make_project(folder)
    first = await herd.migrate(*command, jobs=jobs)
    assert (first.state, first.drifted, first.unplanned) == (RunState.DONE, (), ())
    add_revision(folder)
    herd.psql(broken, "ALTER TABLE lessons ADD colour int")  # by hand, on a bad day
    with pytest.raises(MigrationStopped, match=f"{broken}: the command ended with 1") as stopped:
        await herd.migrate(*command, jobs=jobs)
    behind = stopped.value.run.behind
    assert broken in behind
    (failed,) = (one for one in stopped.value.run.databases if one.database == broken)
    assert 'column "colour" of relation "lessons" already exists' in (failed.output or "")
    revisions = {name: herd.psql(name, "SELECT version_num FROM alembic_version") for name in herd.names}
    assert revisions == {name: "r1" if name in behind else "r2" for name in herd.names}
    async with Operations.open(herd.config) as ops:
        found = {(one.code, one.database) for one in (await ops.check()).findings}
    assert {("schema-behind", name) for name in behind} <= found
    herd.psql(broken, "ALTER TABLE lessons DROP colour")
    done = await herd.migrate(*command, jobs=jobs)
    assert (done.id, done.state, done.drifted) == (stopped.value.run.id, RunState.DONE, ())
    assert {herd.psql(name, "SELECT version_num FROM alembic_version") for name in herd.names} == {"r2"}
    assert {herd.psql(name, "SELECT count(colour) FROM lessons") for name in herd.names} == {"0"}
    async with Operations.open(herd.config) as ops:
        found = {(one.code, one.database) for one in (await ops.check()).findings}
    assert not [code for code, _ in found if code.startswith("schema-")]


async def test_a_few_databases_one_of_them_broken_in_the_middle(few: Herd) -> None:
    await upgrade(few, "tenant1", jobs=2)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_three_shared_and_twenty_dedicated_databases_one_of_them_broken_in_the_middle(fleet: Herd) -> None:
    await upgrade(fleet, "tenant15", jobs=4)
