"""A command on every database: a canary first, a journal, and a stop that names who is behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

import pytest

from tenantry.errors import ConfigError, DatabaseUnavailable, OperationRefused, UnknownDatabase
from tenantry.operations import MigrationStopped, Operations
from tenantry.operations.migrate import journal
from tenantry.operations.migrate import run as running
from tenantry.operations.migrate.values import MigrateOptions, RunState, TurnState
from tests.support.herd import CANARY, Herd, appears
from tests.support.until import until

SLEEPING = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'SELECT pg_sleep%'"
)
ALL = {"shared1", "tenant1", "tenant2", "tenant3"}


def states(run: object) -> dict[str, str]:
    return {one.database: one.state.value for one in run.databases}  # type: ignore[attr-defined]


async def test_every_database_is_migrated_and_a_second_run_begins_anew(herd: Herd) -> None:
    command = (
        "psql",
        "-v",
        "ON_ERROR_STOP=1",
        "-qc",
        "CREATE TABLE IF NOT EXISTS t (i int); INSERT INTO t VALUES (1)",
    )
    done = await herd.migrate(*command)
    assert done.state is RunState.DONE
    assert done.behind == ()
    assert {one.database for one in done.databases} == ALL
    assert len({one.fingerprint for one in done.databases}) == 1
    assert [one.rls_steps for one in done.databases] == [0] * 4
    again = await herd.migrate(*command)
    assert again.id != done.id
    assert {herd.psql(name, "SELECT count(*) FROM t") for name in ALL} == {"2"}
    kinds = herd.psql("control", "SELECT string_agg(kind, ' ') FROM tenantry.event WHERE kind LIKE 'migrate%'")
    assert kinds == "migrate.done migrate.done"


async def test_the_canary_runs_alone_and_its_failure_touches_nobody_else(herd: Herd) -> None:
    herd.psql(
        "control", "INSERT INTO tenantry.database (name, kind, dsn) VALUES ('tenant1', 'dedicated', 'config')"
    )
    herd.psql(
        "control",
        "INSERT INTO tenantry.tenant (id, database) VALUES ('8d0c5a0e-6a1f-4a6e-9d3f-2f0f0d1c2b3a', 'tenant1')",
    )
    script = herd.script(f"{herd.note}; exit 3")
    with pytest.raises(MigrationStopped, match=r"shared1: the command ended with 3.*Behind: shared1, tenant2"):
        await herd.migrate(script, canary=None)
    assert herd.visits() == ["shared1"]
    with pytest.raises(MigrationStopped):
        await herd.migrate(script, canary="tenant3", again=True)
    assert herd.visits() == ["shared1", "tenant3"]


async def test_a_failure_lets_what_has_begun_end_and_the_same_command_goes_on_with_who_is_behind(
    herd: Herd,
) -> None:
    broken = herd.folder / "broken"
    broken.touch()
    script = herd.script(
        f"{herd.note}; if [ -e {broken} ] && [ $TENANTRY_MIGRATE_DATABASE = tenant2 ]; then echo no; exit 9; fi"
    )
    with pytest.raises(MigrationStopped) as stopped:
        await herd.migrate(script, jobs=1)
    assert states(stopped.value.run) == {
        "shared1": "done",
        "tenant1": "done",
        "tenant2": "failed",
        "tenant3": "waiting",
    }
    assert stopped.value.run.behind == ("tenant2", "tenant3")
    failed = stopped.value.run.databases[2]
    assert (failed.exit, failed.output, failed.attempts) == (9, "no", 1)
    assert (await herd.status()).state is RunState.STOPPED
    broken.unlink()
    done = await herd.migrate(script, jobs=2)
    assert done.id == stopped.value.run.id
    assert done.state is RunState.DONE
    assert sorted(herd.visits()) == ["shared1", "tenant1", "tenant2", "tenant2", "tenant3"]
    assert herd.visits()[3] == "tenant2", "what has failed is tried first, alone"


async def test_again_runs_on_those_too_that_the_unfinished_run_has_done(herd: Herd) -> None:
    script = herd.script(f"{herd.note}; [ $TENANTRY_MIGRATE_DATABASE != tenant1 ]")
    for again in (False, True):
        with pytest.raises(MigrationStopped):
            await herd.migrate(script, jobs=1, again=again)
    assert herd.visits() == ["shared1", "tenant1", "shared1", "tenant1"]
    assert (
        herd.psql("control", "SELECT string_agg(state, ' ' ORDER BY started_at) FROM tenantry.migrate_run")
        == "abandoned stopped"
    )


async def test_one_database_of_an_unfinished_run_leaves_the_others_behind(herd: Herd) -> None:
    script = herd.script(f"{herd.note}; [ $(grep -c . {herd.folder}/visits) != 1 ]")
    with pytest.raises(MigrationStopped):
        await herd.migrate(script)
    part = await herd.migrate(script, databases=("tenant3",))
    assert part.behind == ("shared1", "tenant1", "tenant2")
    assert part.state is RunState.STOPPED
    assert (await herd.migrate(script)).state is RunState.DONE
    assert sorted(herd.visits()) == ["shared1", "shared1", "tenant1", "tenant2", "tenant3"]


async def test_a_killed_migration_leaves_no_command_at_work_and_the_next_one_goes_on(
    herd: Herd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "ORPHANS", 0.5)
    begun, script = herd.folder / "begun", herd.folder / "pid"
    command = herd.script(
        f"{herd.note}\nif [ ! -e {begun} ] && [ $TENANTRY_MIGRATE_DATABASE = tenant1 ]; then\n"
        f"echo $$ > {script}; touch {begun}; exec psql -qc 'SELECT pg_sleep(600)'\nfi"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tenantry", "-c", str(herd.path), "migrate", "--jobs", "1", "--", command,
        env=os.environ, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    await until(lambda: herd.psql("tenant1", SLEEPING) == "1")
    process.send_signal(signal.SIGKILL)
    await process.wait()
    seen = await herd.status()
    assert states(seen) == {
        "shared1": "done",
        "tenant1": "interrupted",
        "tenant2": "waiting",
        "tenant3": "waiting",
    }
    assert seen.state is RunState.STOPPED
    done = await herd.migrate(command, jobs=1)
    assert (done.id, done.state) == (seen.id, RunState.DONE)
    assert herd.visits() == ["shared1", "tenant1", "tenant1", "tenant2", "tenant3"]
    with pytest.raises(ProcessLookupError):
        os.kill(int(script.read_text()), 0)


async def test_two_migrations_at_once_one_is_refused_by_name_or_waits(herd: Herd) -> None:
    begun, go = herd.folder / "begun", herd.folder / "go"
    script = herd.script(f"{herd.note}; touch {begun}; while [ ! -e {go} ]; do sleep 0.02; done")
    first = asyncio.create_task(herd.migrate(script))
    await appears(begun)
    with pytest.raises(OperationRefused, match=r"a migration is running already: run r.* of tests"):
        await herd.migrate(script)
    waiting = asyncio.create_task(herd.migrate(script, wait=60))
    go.touch()
    assert (await first).id != (await waiting).id
    assert len(herd.visits()) == 8


async def test_what_was_interrupted_has_ended_its_commands_and_says_so(herd: Herd) -> None:
    pid = herd.folder / "pid"
    script = herd.script(f"trap '' INT; echo $$ > {pid}; exec psql -qc 'SELECT pg_sleep(600)'")
    task = asyncio.create_task(herd.migrate(script))
    await until(lambda: herd.psql("shared1", SLEEPING) == "1")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    found = await herd.status()
    assert found.state is RunState.STOPPED
    assert states(found)["shared1"] == "interrupted"
    assert herd.psql("control", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == "0"
    await until(lambda: herd.psql("shared1", SLEEPING) == "0")


async def test_a_command_that_takes_too_long_is_ended_and_so_is_its_statement(herd: Herd) -> None:
    pid = herd.folder / "pid"
    with pytest.raises(MigrationStopped, match="the command was ended after"):
        await herd.migrate(herd.script(f"echo $$ > {pid}; exec psql -qc 'SELECT pg_sleep(600)'"), timeout=1.0)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    await until(lambda: herd.psql("shared1", SLEEPING) == "0")


async def test_a_command_that_wants_a_terminal_or_an_answer_fails_and_does_not_hang(herd: Herd) -> None:
    with pytest.raises(MigrationStopped) as stopped:
        await herd.migrate(
            herd.script("read answer || { echo nobody answers; exit 4; }; : < /dev/tty"), timeout=60
        )
    assert stopped.value.run.databases[0].output == "nobody answers"
    with pytest.raises(MigrationStopped, match="the command ended with"):
        await herd.migrate(herd.script(": < /dev/tty || exit 5"), timeout=60)


async def test_huge_and_garbled_output_is_read_to_its_end_and_only_its_end_is_kept(herd: Herd) -> None:
    script = herd.script(
        "head -c 3000000 /dev/zero | tr '\\0' a; yes 'a line of some length' | head -n 10000\n"
        "printf '\\377\\376 caf\\351 \\033[31m\\n'; printf 'the end, without a line end'; exit 1"
    )
    with pytest.raises(MigrationStopped) as stopped:
        await herd.migrate(script, databases=("tenant1",))
    output = stopped.value.run.databases[0].output
    assert output is not None
    assert output.endswith("\ufffd\ufffd caf\ufffd \ufffd[31m\nthe end, without a line end")
    assert len(output) < 10_000
    assert max(len(event.text) for event in herd.events) < 2_100


async def test_secrets_stand_in_the_environment_and_in_nothing_that_is_told_or_kept(herd: Herd) -> None:
    script = herd.script('env; echo "$TENANTRY_MIGRATE_URL"; echo "$PGPASSWORD"; echo "$MINE"; exit 1')
    with pytest.raises(MigrationStopped) as stopped:
        await herd.migrate(script, f"--password={CANARY}", variables={"MINE": "postgresql+psycopg://{rest}"})
    run = stopped.value.run
    assert "MINE=postgresql+psycopg://postgres:***@" in (run.databases[0].output or "")
    told = [str(run), str(stopped.value), *map(str, herd.events)]
    kept = herd.psql(
        "control",
        "SELECT jsonb_agg(r)::text || jsonb_agg(d) FROM tenantry.migrate_run r, tenantry.migrate_database d",
    )
    assert not [text for text in (*told, kept) if CANARY in text]


async def test_the_command_finds_its_database_and_no_other_one(
    herd: Herd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://someone@elsewhere/prod")
    monkeypatch.setenv("OTHER_SECRET", herd.server.dsn(herd.names["tenant1"], password=CANARY))
    monkeypatch.setenv("KEPT", "yes")
    script = herd.script(
        f'[ -z "$DATABASE_URL$OTHER_SECRET" ] && [ "$KEPT" = yes ] || exit 6\n'
        f'[ "$(psql -Atc "SELECT current_database()")" = "$PGDATABASE" ] || exit 7\n'
        f'[ "$(psql -Atc "SHOW lock_timeout")" = 2500ms ] || exit 8\n'
        f'by_url=$(psql -At "$TENANTRY_MIGRATE_URL" -c "SELECT current_database()")\n'
        f'echo "$TENANTRY_MIGRATE_DATABASE=$by_url" >> {herd.folder}/found'
    )
    await herd.migrate(script, lock_timeout=2.5)
    found = dict(line.split("=") for line in (herd.folder / "found").read_text().split())
    assert found == herd.names
    async with Operations.open(herd.config) as ops:
        plan = await ops.migrations.plan([script])
    assert plan.withheld == ("DATABASE_URL", "OTHER_SECRET")


async def test_a_command_that_goes_to_an_address_of_its_own_is_told(
    herd: Herd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "COUNTED", 1.0)
    elsewhere = herd.server.dsn(herd.names["tenant1"])
    done = await herd.migrate("psql", elsewhere, "-qc", "SELECT 1")
    told = {one.database: one.error for one in done.databases}
    assert told == {**dict.fromkeys(ALL, running.UNVISITED), "tenant1": None}


async def test_a_lock_that_is_not_to_be_had_is_tried_again(herd: Herd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "LOCK_PAUSE", 0.01)
    tried = herd.folder / "tried"
    script = herd.script(
        f"echo x >> {tried}; [ $(grep -c . {tried}) -ge 3 ] || "
        "{ echo 'ERROR:  canceling statement due to lock timeout'; exit 3; }"
    )
    done = await herd.migrate(script, databases=("tenant1",))
    assert done.databases[0].attempts == 3
    with pytest.raises(MigrationStopped, match="ended with 3, 2 times, for want of a lock"):
        await herd.migrate(herd.script("echo 55P03; exit 3", "busy"), lock_retries=1)


async def test_a_real_lock_timeout_of_psql_is_told_from_other_failures(
    herd: Herd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "LOCK_PAUSE", 0.01)
    herd.psql("tenant1", "CREATE TABLE t (i int)")
    holding = await asyncio.create_subprocess_exec(
        "psql",
        "-qAtX",
        herd.server.dsn(herd.names["tenant1"]),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert holding.stdin is not None
    assert holding.stdout is not None
    holding.stdin.write(b"BEGIN; LOCK t; SELECT 1;\n")
    assert await holding.stdout.readline() == b"1\n"
    try:
        with pytest.raises(MigrationStopped, match="for want of a lock"):
            await herd.migrate(
                "psql", "-c", "ALTER TABLE t ADD j int", databases=("tenant1",), lock_timeout=0.05, lock_retries=1
            )
    finally:
        holding.stdin.close()
        await holding.wait()
    assert (
        await herd.migrate("psql", "-c", "ALTER TABLE t ADD j int", databases=("tenant1",))
    ).state is RunState.DONE


@pytest.mark.parametrize(
    ("argv", "options", "said"),
    [
        ([], {}, "say what to run"),
        (["no-such-program-here"], {}, "no such program"),
        (["true\0"], {}, "NUL"),
        (["true"], {"jobs": 0}, "jobs"),
        (["true"], {"timeout": 0.0}, "timeout"),
        (["true"], {"wait": float("nan")}, "wait"),
        (["true"], {"variables": {"A": "{nonsense}"}}, "there is no {nonsense}"),
        (["true"], {"variables": {"A": "{url"}}, "brace"),
        (["true"], {"variables": {"A B": "x"}}, "no name"),
        (["true"], {"variables": {"A": "{url.__class__}"}}, "there is no"),
    ],
)
async def test_what_can_not_be_run_is_refused_before_anything_is_asked(
    herd: Herd, argv: list[str], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        await herd.migrate(*argv, **options)
    assert herd.psql("control", "SELECT count(*) FROM tenantry.migrate_run") == "0"


async def test_a_database_that_is_away_or_leads_where_another_does_stops_all_before_anything(herd: Herd) -> None:
    herd.written["databases"]["tenant2"] = herd.section("tenant1")
    herd.written["databases"]["gone"] = {"kind": "dedicated", "dsn": herd.server.dsn("not_there_at_all")}
    herd.written["databases"]["dead"] = {
        "kind": "dedicated", "dsn": "postgresql://a@127.0.0.1:1/x", "operator_dsn": "postgresql://a@127.0.0.1:1/x",
    }  # fmt: skip
    with pytest.raises(OperationRefused) as refused:
        await herd.migrate(herd.script(herd.note))
    for said in ("nothing was touched", "tenant1 and tenant2 lead to the same database", "dead: ", "gone: "):
        assert said in str(refused.value)
    assert herd.visits() == []
    with pytest.raises(UnknownDatabase):
        await herd.migrate(herd.script(herd.note), databases=("nonsense",))


async def test_a_database_that_a_move_has_yet_to_make_is_left_out(herd: Herd) -> None:
    herd.written["servers"] = {
        "big": {"dsn": herd.server.dsn("{database}"), "operator_dsn": herd.server.dsn("{database}")}
    }
    herd.psql(
        "control", "INSERT INTO tenantry.database (name, kind, dsn) VALUES ('later', 'dedicated', 'server:big')"
    )
    async with Operations.open(herd.config) as ops:
        plan = await ops.migrations.plan(["true"])
    assert (plan.absent, set(plan.todo)) == (("later",), ALL)
    assert (await herd.migrate("true")).state is RunState.DONE
    assert [event.text for event in herd.events if event.kind == "absent"] == ["later"]


async def test_a_lost_control_session_lets_the_command_end_and_begins_no_other(herd: Herd) -> None:
    go, ended = herd.folder / "go", herd.folder / "ended"
    script = herd.script(
        f"{herd.note}; touch {herd.folder}/begun; while [ ! -e {go} ]; do sleep 0.02; done; touch {ended}"
    )
    task = asyncio.create_task(herd.migrate(script))
    await appears(herd.folder / "begun")
    herd.psql(
        "control",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    go.touch()
    with pytest.raises(DatabaseUnavailable, match="control"):
        await task
    assert ended.exists()
    assert herd.visits() == ["shared1"]
    assert states(await herd.status())["shared1"] == TurnState.INTERRUPTED


async def test_a_command_that_the_system_does_not_begin_is_a_failure_by_name(herd: Herd) -> None:
    with pytest.raises(MigrationStopped, match=r"can't be begun: Argument list too long.*Behind: shared1"):
        await herd.migrate("true", variables={"A": "x" * 3_000_000})
    assert (await herd.status()).databases[0].state is TurnState.FAILED


async def test_the_session_that_holds_the_locks_outlives_a_long_command(
    herd: Herd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "HEARTBEAT", 0.01)
    herd.psql("control", f'ALTER DATABASE "{herd.control}" SET idle_session_timeout = 100')
    done = await herd.migrate("sleep", "0.5", databases=("tenant1",))
    assert done.state is RunState.DONE


async def test_a_listener_that_fails_harms_no_migration(herd: Herd) -> None:
    def fail(event: object) -> None:
        raise BrokenPipeError

    async with Operations.open(herd.config) as ops:
        with pytest.raises(BrokenPipeError):
            await ops.migrations.run(["seq", "10"], (), MigrateOptions(), tell=fail)
    assert (await herd.status()).state is RunState.DONE


async def test_the_plan_touches_nothing_and_says_what_would_be_done(herd: Herd) -> None:
    script = herd.script(f"{herd.note}; [ $TENANTRY_MIGRATE_DATABASE != tenant2 ]")
    async with Operations.open(herd.config) as ops:
        plan = await ops.migrations.plan([script])
        assert (plan.todo[0], set(plan.todo), plan.resumes) == ("shared1", ALL, None)
        assert set(plan.fingerprints) == ALL
        assert herd.visits() == []
        with pytest.raises(MigrationStopped) as stopped:
            await ops.migrations.run([script], (), MigrateOptions(jobs=1))
        plan = await ops.migrations.plan([script])
    assert (plan.resumes, plan.todo, plan.done) == (
        stopped.value.run.id,
        ("tenant2", "tenant3"),
        ("shared1", "tenant1"),
    )


async def test_giving_a_run_up_ends_who_is_behind_by_it(herd: Herd) -> None:
    with pytest.raises(MigrationStopped) as stopped:
        await herd.migrate("false")
    async with Operations.open(herd.config) as ops:
        assert await ops.migrations.abandon() == (stopped.value.run.id,)
        assert await ops.migrations.abandon() == ()
        found = await ops.migrations.status()
    assert found is not None
    assert found.state is RunState.ABANDONED
