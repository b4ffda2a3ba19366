"""A move between hardened databases: each has a key of its own, and routers with the secret notice nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from tenantry import Config
from tenantry.cli import main
from tenantry.embedded import EmbeddedServer
from tenantry.ids import Kind
from tenantry.move import Endpoint, MoveRefused, State
from tenantry.proof import database_key
from tests.integration.move.operators import operator_file
from tests.support import installing
from tests.support.estate import Estate
from tests.support.installing import HARDENED, SECRET, SETTING, make_data
from tests.support.load import check, load


class HardenedEstate(Estate):
    """An estate whose shared database is hardened, and whose services and mover have the secret."""

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        found = super().endpoints
        return {name: replace(end, key=database_key(SECRET, name)) for name, end in found.items()}

    def config(self, *, connections: int = 10) -> Config:
        return Config.parse(
            {
                "tenancy": {"type": "uuid", "setting": SETTING, **HARDENED},
                "control": {"dsn": self.control_dsn},
                "databases": {
                    name: {"kind": self.endpoints[name].kind.value, "dsn": dsn, "pool": {"max": connections}}
                    for name, dsn in self.application_dsns().items()
                },
                "usage": {"record": False},
            }
        )

    async def harden(self) -> None:
        """Bring the shared database to hardened mode, as `tenantry init` and `rls apply` do."""
        connection = await asyncpg.connect(self.near.dsn(self.shared))
        try:
            await installing.harden(connection, ("account", "entry", "Blob"), "app")
        finally:
            await connection.close()


@pytest.fixture
async def hardened(pg18: EmbeddedServer, far18: EmbeddedServer) -> AsyncIterator[Estate]:
    made = await HardenedEstate.make(pg18, far18)
    assert isinstance(made, HardenedEstate)
    await made.harden()
    yield made
    made.drop()


async def test_hardened_clients_notice_nothing_of_promotion_and_rollback(hardened: Estate) -> None:
    mover = hardened.mover()
    async with load(hardened) as running:
        plan = await mover.plan(hardened.tenant, "acme")
        assert plan.refusals == ()
        record = await mover.run(plan)
        await running.reach(hardened.tenant, 30)
        (local,) = await hardened.fetch("acme", "SELECT hardened FROM tenantry.database_identity")
        assert local["hardened"], "the target does not ask for proofs"
        keys = {
            (await hardened.fetch(name, "SELECT inner_pad FROM tenantry.secret"))[0]["inner_pad"]
            for name in ("shared", "acme")
        }
        assert len(keys) == 2, "one key opens both databases"
        record = await mover.rollback(record.id)
        assert record.state is State.ROLLED_BACK
        await running.reach(hardened.tenant, 30)
    await check(hardened, running)


async def test_a_target_that_is_not_hardened_is_refused_by_name(hardened: Estate) -> None:
    connection = await asyncpg.connect(hardened.endpoints["acme"].dsn)
    await make_data(connection, "app", name="acme", kind=Kind.DEDICATED)
    await connection.close()
    plan = await hardened.mover().plan(hardened.tenant, "acme")
    assert [(f.code, "acme" in f.problem, "tenantry init" in f.fix) for f in plan.refusals] == [
        ("not-hardened", True, True)
    ]
    with pytest.raises(MoveRefused, match="nothing was touched"):
        await hardened.mover().run(plan)


async def test_a_mover_without_the_secret_or_with_another_is_refused(hardened: Estate) -> None:
    keyless = {name: replace(end, key=None) for name, end in hardened.endpoints.items()}
    plan = await hardened.mover(endpoints=keyless).plan(hardened.tenant, "acme")
    assert [finding.code for finding in plan.refusals] == ["no-key"]
    other = {name: replace(end, key=database_key(SECRET[::-1], name)) for name, end in keyless.items()}
    plan = await hardened.mover(endpoints=other).plan(hardened.tenant, "acme")
    assert [finding.code for finding in plan.refusals] == ["wrong-key"]
    assert SECRET not in str(plan)
    assert database_key(SECRET, "shared").hex() not in repr(hardened.endpoints)


async def test_the_command_line_gives_the_mover_the_configured_keys(
    hardened: Estate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = operator_file(hardened, tmp_path, f'tenancy: {{hardened: true, secret: "{SECRET}"}}\n')
    monkeypatch.setenv("TENANTRY_CONFIG", str(path))
    assert await asyncio.to_thread(main, ["promote", str(hardened.tenant), "--to", "acme", "--plan"]) == 0, (
        capsys.readouterr()
    )
    path.write_text(path.read_text().replace(SECRET, SECRET[::-1]))
    assert await asyncio.to_thread(main, ["promote", str(hardened.tenant), "--to", "acme", "--plan"]) == 4
    seen = capsys.readouterr()
    assert "wrong-key" in seen.out
    assert SECRET not in seen.out + seen.err
