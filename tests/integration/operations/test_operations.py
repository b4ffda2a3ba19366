"""`tenantry.operations`: what the command line does, for a product's own control plane."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tenantry import (
    Config,
    ConfigError,
    DatabaseExists,
    DatabaseUnavailable,
    DsnUnreadable,
    InvalidTenantId,
    Kind,
    OperationRefused,
    Operations,
    OperationsClosed,
    Router,
    TenantSuspended,
    UnknownDatabase,
    UnknownTenant,
)
from tenantry.usage.exchange import HistoryRow
from tests.support.estate import Estate

HISTORY = HistoryRow(date(2026, 1, 1), "shared", "a", 1.0, 2.0)


def config(estate: Estate, **shared: Any) -> Config:
    return Config.parse(
        {
            "control": {"dsn": estate.control_dsn},
            "databases": {
                "shared": {
                    "kind": "shared",
                    "dsn": estate.near.dsn(estate.shared, user="app"),
                    "operator_dsn": estate.near.dsn(estate.shared),
                    **shared,
                },
                "acme": {"kind": "dedicated", "dsn": estate.far.dsn(estate.dedicated, user="app")},
            },
        }
    )


@pytest.fixture
async def ops(estate18: Estate) -> AsyncIterator[Operations]:
    async with Operations.open(config(estate18), actor="a test") as ops:
        yield ops


async def test_what_is_not_open_is_refused_by_every_part(estate18: Estate) -> None:
    ops = Operations.open(config(estate18))

    async def refused() -> None:
        for call in (
            lambda: ops.check(),
            lambda: ops.init(),
            lambda: ops.apply(),
            lambda: ops.candidates(),
            lambda: ops.tenants.get(estate18.tenant),
            lambda: ops.tenants.suspend(estate18.tenant),
            lambda: ops.databases.list(),
            lambda: ops.moves.list(),
            lambda: ops.moves.plan(estate18.tenant, "acme"),
            lambda: ops.usage.load(),
            lambda: ops.rls.plan(),
            lambda: ops.backups.due(),
        ):
            with pytest.raises(OperationsClosed, match="async with"):
                await call()

    await refused()
    async with ops:
        assert (await ops.tenants.get(estate18.tenant)).database == "shared"
    await refused()
    await ops.close()


async def test_a_suspended_tenant_is_shut_out_of_a_running_router_and_who_did_it_is_recorded(
    estate18: Estate, ops: Operations
) -> None:
    async with Router.open(config(estate18), metrics=False) as router:
        assert await router.fetchval(estate18.tenant, "SELECT 1") == 1
        await ops.tenants.suspend(estate18.tenant, reason="unpaid")
        with pytest.raises(TenantSuspended):
            await router.fetchval(estate18.tenant, "SELECT 1")
        await ops.tenants.resume(estate18.tenant)
        assert await router.fetchval(estate18.tenant, "SELECT 1") == 1
    rows = await estate18.fetch("control", "SELECT kind, actor, reason FROM tenantry.event ORDER BY id")
    assert [row["kind"] for row in rows] == ["tenant.suspended", "tenant.resumed"]
    assert rows[0]["actor"].endswith(" / a test")
    assert rows[0]["reason"] == "unpaid"


async def test_what_is_no_id_is_told_before_any_io_and_what_is_not_there_after_it(estate18: Estate) -> None:
    away = Config.parse(
        {
            "control": {"dsn": "postgresql://nobody@127.0.0.1:1/nowhere"},
            "databases": {"shared": {"kind": "shared", "dsn": "postgresql://nobody@127.0.0.1:1/nowhere"}},
        }
    )
    async with Operations.open(away) as ops:
        for wrong in ("not a uuid", 7, None, "", b"x"):
            calls: list[Callable[[object], Awaitable[object]]] = [
                ops.tenants.get,
                ops.tenants.suspend,
                ops.tenants.add,
                ops.usage.tenant,
                lambda tenant: ops.moves.plan(tenant, "acme"),
            ]
            for call in calls:
                with pytest.raises(InvalidTenantId):
                    await call(wrong)
        with pytest.raises(DatabaseUnavailable) as down:
            await ops.tenants.get(uuid.uuid4())
        assert down.value.database == "control"
    async with Operations.open(config(estate18)) as ops:
        for unknown in (uuid.uuid4(), str(uuid.uuid4())):
            calls = [
                ops.tenants.get,
                ops.tenants.show,
                ops.tenants.resume,
                ops.tenants.remove,
                lambda tenant: ops.moves.plan(tenant, "acme"),
            ]
            for call in calls:
                with pytest.raises(UnknownTenant):
                    await call(unknown)


async def test_a_control_database_that_is_away_is_a_typed_error_of_every_part(estate18: Estate) -> None:
    away = {
        "control": {"dsn": "postgresql://nobody@127.0.0.1:1/nowhere"},
        "databases": {"shared": {"kind": "shared", "dsn": estate18.near.dsn(estate18.shared)}},
    }
    empty = {**away, "control": {"dsn": estate18.near.dsn(estate18.shared)}}  # no control schema
    calls: list[Callable[[Operations], Awaitable[object]]] = [
        lambda ops: anext(ops.tenants.list()),
        lambda ops: ops.tenants.get(estate18.tenant),
        lambda ops: ops.tenants.add(uuid.uuid4(), database="shared"),
        lambda ops: ops.databases.list(),
        lambda ops: ops.databases.remove("shared"),
        lambda ops: ops.apply(),
        lambda ops: ops.candidates(),
        lambda ops: ops.usage.overview(),
        lambda ops: ops.usage.tenant(estate18.tenant),
        lambda ops: ops.usage.load(),
        lambda ops: ops.usage.import_history([HISTORY], "elsewhere"),
        lambda ops: anext(ops.usage.export_history()),
        lambda ops: ops.backups.due(),
        lambda ops: ops.moves.list(),
        lambda ops: ops.moves.plan(estate18.tenant, "shared"),
    ]
    for wrong in (away, empty):
        async with Operations.open(Config.parse(wrong)) as ops:
            for call in calls:
                with pytest.raises(DatabaseUnavailable) as raised:
                    await call(ops)
                assert raised.value.database == "control"
            report = await ops.check()  # it is a finding
            assert "control" in {one.database for one in report.findings if one.severity == "error"}


async def test_a_database_that_is_not_there_is_named_with_those_that_are(
    estate18: Estate, ops: Operations
) -> None:
    for call in (
        lambda: ops.databases.show("nowhere"),
        lambda: ops.databases.set("nowhere", max=3),
        lambda: ops.databases.remove("nowhere"),
        lambda: ops.tenants.add(uuid.uuid4(), database="nowhere"),
        lambda: ops.moves.promote(estate18.tenant, "nowhere"),
        lambda: ops.moves.move(estate18.tenant, "nowhere"),
        lambda: ops.rls.audit("nowhere"),
        lambda: ops.backups.run(["nowhere"]).__anext__(),
    ):
        with pytest.raises(UnknownDatabase) as raised:
            await call()
        assert raised.value.database == "nowhere"
    assert raised.value.known == ()
    with pytest.raises(UnknownDatabase) as raised:
        await ops.databases.show("nowhere")
    assert raised.value.known == ("acme", "shared")


async def test_a_database_without_an_operators_role_takes_no_part_in_a_move_and_says_so(
    estate18: Estate, ops: Operations
) -> None:
    with pytest.raises(ConfigError, match=r"databases\.acme\.operator_dsn"):
        await ops.moves.plan(estate18.tenant, "acme")
    with pytest.raises(ConfigError, match="acme is not a shared database"):
        await ops.moves.demote(estate18.tenant, "acme")
    with pytest.raises(ConfigError, match=r"node:worker1.*two statements of Citus's own"):
        await ops.moves.promote(estate18.tenant, "node:worker1")
    with pytest.raises(ConfigError, match="shared is not a dedicated database"):
        await ops.moves.promote(estate18.tenant, "shared")


async def test_a_database_of_the_directory_is_added_by_reference_only(
    estate18: Estate, ops: Operations, tmp_path: Path
) -> None:
    for wrong in (
        "postgresql://u:secret@h/db",
        "env:postgresql://u:secret@h/db",
        "vault:x",
        "env:",
        "server:none",
    ):
        with pytest.raises(ConfigError) as refused:
            await ops.databases.add("eu2", Kind.DEDICATED, wrong)
        assert "secret" not in str(refused.value)
    for settings in ({"max": 0}, {"idle": 0.0}, {"idle": float("nan")}):
        with pytest.raises(ConfigError):
            await ops.databases.add("eu2", Kind.DEDICATED, "env:X", **settings)
    for name in ("", "a/b", "-x", "x" * 64):
        with pytest.raises(ConfigError, match="no database's name"):
            await ops.databases.add(name, Kind.DEDICATED, "env:X")
    path = tmp_path / "dsn"
    path.write_text(estate18.far.dsn(estate18.dedicated))
    await ops.databases.add("eu2", Kind.DEDICATED, f"file:{path}", operator=f"file:{path}", max=3)
    with pytest.raises(DatabaseExists):
        await ops.databases.add("eu2", Kind.DEDICATED, f"file:{path}")
    found = await ops.databases.show("eu2")
    assert (found.source, found.tenants, found.database.pool.max) == ("directory", 0, 3)
    # What another machine's configuration has is left as it is.
    await estate18.fetch("control", "UPDATE tenantry.database SET dsn = 'server:theirs' WHERE name = 'eu2'")
    await ops.databases.set("eu2", idle=7.5)
    assert (await ops.databases.show("eu2")).database.reference == "server:theirs"
    await ops.databases.set("eu2", dsn=f"file:{path}")
    path.unlink()
    with pytest.raises(DsnUnreadable, match="No such file"):
        await ops.tenants.add(uuid.uuid4(), database="eu2")
    path.write_bytes(b"\xff\xfe")
    report = await ops.check()
    assert [one.code for one in report.findings if one.database == "eu2" and "UTF-8" in one.problem] == [
        "operator-unreachable",
        "unreachable",
    ]


async def test_what_would_do_harm_is_refused_before_anything_is_touched(estate18: Estate, ops: Operations) -> None:
    with pytest.raises(OperationRefused, match="holds 3 tenants"):
        await ops.databases.set("shared", kind=Kind.DEDICATED)
    with pytest.raises(OperationRefused, match="tenants live in database shared"):
        await ops.databases.remove("shared")
    with pytest.raises(OperationRefused, match="holds one tenant only"):
        await ops.tenants.import_ids([], database="acme")
    with pytest.raises(ConfigError, match=r"databases\.acme\.operator_dsn"):
        await ops.init()
    assert await estate18.fetch("control", "SELECT FROM tenantry.event") == []


async def test_a_plan_to_a_new_database_leaves_no_trace_in_what_is_listed(estate18: Estate) -> None:
    servers = {
        "eu1": {"dsn": estate18.far.dsn("postgres", user="app"), "operator_dsn": estate18.far.dsn("postgres")}
    }
    whole = config(estate18)
    async with Operations.open(
        Config.parse(
            {
                "control": {"dsn": estate18.control_dsn},
                "servers": servers,
                "databases": {
                    "shared": {
                        "kind": "shared",
                        "dsn": whole.databases["shared"].dsn.get_secret_value(),
                        "operator_dsn": estate18.near.dsn(estate18.shared),
                    }
                },
            }
        )
    ) as ops:
        plan = await ops.moves.plan(estate18.tenant, "quite_new")
        assert plan.creation is not None
        assert "quite_new" not in [found.database.name for found in await ops.databases.list()]
        with pytest.raises(UnknownDatabase):
            await ops.databases.show("quite_new")


async def test_a_text_that_is_written_otherwise_names_the_same_tenant(estate18: Estate, ops: Operations) -> None:
    written = f"{{{str(estate18.tenant).upper()}}}"
    assert (await ops.tenants.get(written)).id == str(estate18.tenant)
    assert (await ops.usage.tenant(written)).tenant == str(estate18.tenant)
