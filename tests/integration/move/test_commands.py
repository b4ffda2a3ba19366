"""The commands of moves, run twice, with what isn't there, in the wrong state, beside another mover."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tenantry.cli import main
from tenantry.errors import UnknownTenant
from tenantry.move import AlreadyThere, UnknownDatabase
from tenantry.move.journal import Journal
from tenantry.move.lease import lease
from tests.integration.move.operators import operator_file
from tests.support.estate import Estate
from tests.support.process import MoverProcess


class Ran(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Awaitable[Ran]]


@pytest.fixture
def run(
    estate18: Estate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs `tenantry …` on the estate."""
    monkeypatch.setenv("TENANTRY_CONFIG", str(operator_file(estate18, tmp_path)))

    async def run(*arguments: object) -> Ran:
        code = await asyncio.to_thread(main, [str(one) for one in arguments])
        seen = capsys.readouterr()
        assert "Traceback" not in seen.err
        return Ran(code, seen.out, seen.err)

    return run


async def test_a_move_that_is_under_way_is_named_and_not_what_it_has_made(estate18: Estate, run: Run) -> None:
    mover, journal = estate18.mover(), Journal(estate18.control_dsn)
    plan = await mover.plan(estate18.tenant, "acme")
    await journal.open(plan)
    estate18.far.psql(
        "CREATE TABLE account (tenant_id uuid); INSERT INTO account VALUES (NULL)", estate18.dedicated
    )
    ran = await run("promote", estate18.tenant, "--to", "acme", "--yes")
    assert (ran.code, ran.out) == (1, "")
    assert f"move {plan.id} is in the way: tenant {estate18.tenant} is being moved already" in ran.err
    ran = await run("promote", estate18.tenant, "--to", "acme", "--plan", "--json")
    assert ran.code == 4
    assert json.loads(ran.out)["findings"][0]["code"] == "being-moved"


async def test_the_moves_of_one_tenant_are_found_however_its_id_is_written(estate18: Estate, run: Run) -> None:
    tenant, other = estate18.tenants[:2]
    assert (await run("promote", tenant, "--to", "acme", "--yes")).code == 0
    for written in (str(tenant), str(tenant).upper(), tenant.hex):
        (move,) = json.loads((await run("moves", "list", "--tenant", written, "--json")).out)
        assert move["tenant"] == str(tenant)
    assert f"tenant {other} was never moved" in (await run("moves", "list", "--tenant", other)).err
    assert (await run("moves", "list", "--tenant", "no uuid")).code == 1


async def test_what_is_not_there_is_named_with_the_next_step(estate18: Estate, run: Run) -> None:
    for command in ("show", "resume", "abort", "rollback", "release"):
        yes = [] if command in ("show", "resume") else ["--yes"]
        ran = await run("moves", command, "m0", *yes)
        assert (ran.code, ran.out) == (1, "")
        assert "no move m0 in the journal; see `tenantry moves list`" in ran.err
    stranger = "00000000-0000-0000-0000-000000000000"
    ran = await run("promote", stranger, "--to", "acme", "--yes")
    assert ran.code == 1
    assert f"tenant {stranger} is not in the directory" in ran.err
    assert (await run("promote", "no uuid", "--to", "acme", "--yes")).code == 1
    ran = await run("move", estate18.tenant, "--to", "nowhere", "--yes")
    assert ran.code == 2
    assert "there are: acme, shared" in ran.err
    assert (await run("promote", estate18.tenant, "--to", "nowhere", "--yes")).code == 2
    ran = await run("demote", estate18.tenant, "--yes")
    assert ran.code == 1
    assert "lives in shared already" in ran.err
    for option, value in (("--rate", "fast"), ("--rate", "10kB"), ("--pause", "soon"), ("--jobs", "0")):
        ran = await run("promote", estate18.tenant, "--to", "acme", option, value, "--yes")
        assert ran.code == 2, ran.err
        assert option in ran.err
    assert (await run("promote", estate18.tenant, "--to", "acme")).code == 2  # nobody to ask, no --yes
    assert (await run("--json", "moves", "list")).out.strip() == "[]"


async def test_the_mover_says_which_tenant_or_database_it_does_not_know(estate18: Estate) -> None:
    mover = estate18.mover()
    with pytest.raises(UnknownTenant, match="tenantry tenants add"):
        await mover.plan("00000000-0000-0000-0000-000000000000", "acme")
    with pytest.raises(UnknownDatabase, match=r"there are: acme, shared.*operator_dsn") as raised:
        await mover.plan(estate18.tenant, "nowhere")
    assert raised.value.database == "nowhere"
    with pytest.raises(AlreadyThere, match="nothing to do"):
        await mover.plan(estate18.tenant, "shared")


async def test_commands_in_the_wrong_state_are_refused_beside_another_mover_and_twice(
    estate18: Estate, run: Run
) -> None:
    dead = MoverProcess(estate18, "move", str(estate18.tenant), failpoints="identities.set=kill")
    await dead.killed()
    (move,) = [one["id"] for one in json.loads((await run("--json", "moves", "list")).out)]
    for command, word in (("rollback", "rolled back"), ("release", "released")):
        ran = await run("moves", command, move, "--yes")
        assert ran.code == 1
        assert f"move {move} is running, so it can't be {word}; resume or abort it first" in ran.err
    ran = await run("promote", estate18.tenant, "--to", "acme", "--yes")
    assert ran.code in (1, 4)  # 4: preflight saw what the dead one has left
    assert "nothing was touched" in ran.err or f"tenantry moves show {move}" in ran.err
    async with lease(estate18.control_dsn, move):
        for arguments in (["resume", move], ["abort", move, "--yes"]):
            ran = await run("moves", *arguments)
            assert ran.code == 1
            assert f"move {move} is in the way: another mover is running it" in ran.err
    for _ in range(2):
        ran = await run("moves", "abort", move, "--yes")
        assert ran.code == 0, ran.err
        assert "aborted" in ran.out
    assert (await run("moves", "resume", move)).code == 0  # nothing is left to do
    ran = await run("moves", "rollback", move, "--yes")
    assert (ran.code, "is aborted, so it can't be rolled back; plan a new move" in ran.err) == (1, True)


async def test_rollback_and_release_can_be_repeated_and_refuse_each_others_end(estate18: Estate, run: Run) -> None:
    ran = await run("promote", estate18.tenant, "--to", "acme", "--yes")
    assert ran.code == 0, ran.err
    move = json.loads((await run("--json", "moves", "list")).out)[0]["id"]
    ran = await run("promote", estate18.tenant, "--to", "acme", "--yes")
    assert (ran.code, "lives in acme already" in ran.err) == (1, True)
    for _ in range(2):
        ran = await run("moves", "rollback", move, "--yes")
        assert ran.code == 0, ran.err
        assert "rolled back" in ran.out
    ran = await run("moves", "list")
    assert "rolled back" in ran.out
    assert json.loads((await run("--json", "moves", "list")).out)[0]["state"] == "rolled_back"
    ran = await run("moves", "release", move, "--yes")
    assert (ran.code, "is rolled back, so it can't be released" in ran.err) == (1, True)
    ran = await run("moves", "abort", move, "--yes")
    assert (ran.code, "so it can't be aborted" in ran.err) == (1, True)


async def test_what_preflight_only_warns_of_is_said_before_the_move_begins(estate18: Estate, run: Run) -> None:
    estate18.near.psql("CREATE TABLE holiday (day date PRIMARY KEY)", estate18.shared)
    ran = await run("--json", "promote", estate18.tenant, "--to", "acme", "--yes")
    assert ran.code == 0, ran.err
    assert all(json.loads(line)["event"] for line in ran.out.splitlines())
    (said,) = [line for line in ran.err.splitlines() if "holiday" in line]
    assert said.startswith('warning: "public"."holiday" has no tenant column')
    assert "(not-carried); list it as a reference table" in said


async def test_json_is_an_event_a_line_with_stable_keys(estate18: Estate, run: Run) -> None:
    ran = await run("--json", "promote", estate18.tenant, "--to", "acme", "--yes")
    assert ran.code == 0, ran.err
    events = [json.loads(line) for line in ran.out.splitlines()]
    by_name = {event["event"]: event for event in events}
    move = events[0]["move"]
    assert all(event.get("move", event.get("id")) == move for event in events)
    assert {name: [*event] for name, event in by_name.items() if name != "move.summary"} == {
        "step.started": ["event", "at", "move", "step"],
        "step.ended": ["event", "at", "move", "step", "seconds"],
        "rows.copied": [
            "event", "at", "move", "table", "bytes", "expected", "rows", "seconds", "expected_rows", "complete",
        ],
        "lag.measured": ["event", "at", "move", "lag", "latency"],
        "rows.compared": ["event", "at", "move", "table", "rows"],
        "fence.tried": ["event", "at", "move", "attempt", "flipped", "pause", "why"],
    }  # fmt: skip
    done = {event["table"]: event["rows"] for event in events if event["event"] == "rows.copied"}
    assert done['"public"."entry"'] == 200
    summary = events[-1]
    assert summary["event"] == "move.summary"
    assert {"id", "tenant", "source", "target", "state", "copied_rows", "copied_bytes", "verified_rows",
            "audited_rows", "pause_seconds", "seconds", "next"} <= set(summary)  # fmt: skip
    assert summary["copied_rows"] == sum(done.values())
    assert set(summary["seconds"]) == {event["step"] for event in events if event["event"] == "step.ended"}
    assert summary["next"] == [f"tenantry moves rollback {move}", f"tenantry moves release {move}"]
    shown = json.loads((await run("--json", "moves", "show", move)).out)
    assert shown == {key: value for key, value in summary.items() if key != "event"}
    ran = await run("--json", "moves", "release", move, "--yes")
    events = [json.loads(line) for line in ran.out.splitlines()]
    assert [event["event"] for event in events if event["event"] != "rows.deleted"] == [
        "step.started", "step.ended", "move.summary"
    ]  # fmt: skip
    assert events[-1]["next"] == []
    assert events[-1]["deleted_rows"] == sum(
        {event["table"]: event["rows"] for event in events if event["event"] == "rows.deleted"}.values()
    )
