"""The mover's sessions, and its programs': no operator's timeout ends them, and every login is tried first."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.ids import Kind
from tenantry.move import Endpoint, State
from tenantry.move.session import connect, password_of, publisher_options
from tests.support.databases import drop_database, new_database
from tests.support.estate import Estate
from tests.support.until import until

#: Timeouts that end no work of a move's.
HARMLESS = {
    "archive_timeout",  # when to begin another file of the log
    "authentication_timeout",  # of a log-in
    "checkpoint_timeout",  # when to write pages
    "deadlock_timeout",  # when to look for a deadlock
    "wal_receiver_timeout",  # of a publisher that does not answer: the worker asks, and connects again
}
#: Of the server's, for no session to override: preflight tells them.
TOLD = {"idle_replication_slot_timeout"}
#: What each becomes that is not switched off, at the mover and at the publisher.
KEPT = {"lock_timeout": ("2min", "0"), "wal_sender_timeout": ("1min", "1min")}
TIMEOUTS = "SELECT name FROM pg_settings WHERE unit IN ('ms', 's', 'min') AND name LIKE '%timeout%'"


@pytest.mark.parametrize("version", [15, 16, 18])
async def test_every_timeout_that_the_server_knows_is_overridden_in_sessions_and_at_publishers(
    version: int, request: pytest.FixtureRequest
) -> None:
    """A timeout that a newer PostgreSQL brings fails this test: override it, or say above why it does no harm."""
    server: EmbeddedServer = request.getfixturevalue(f"pg{version}")
    database = new_database(server, "timeouts")
    try:
        names = set(server.psql(TIMEOUTS, database).split()) - HARMLESS - TOLD
        assert "statement_timeout" in names
        assert ("transaction_timeout" in names) == (version >= 17)
        for name in names:
            server.psql(f"ALTER DATABASE {database} SET {name} = '59s'", database)
        mover = await connect(server.dsn(database), "test")
        publisher = await asyncpg.connect(
            server.dsn(database), server_settings={"options": publisher_options(version)}
        )
        try:
            for end, session in enumerate((mover, publisher)):
                shown = {name: await session.fetchval(f"SHOW {name}") for name in names}
                # For a lock the mover waits, but not without an end.
                kept = {name: values[end] for name, values in KEPT.items()}
                assert shown == {**dict.fromkeys(names, "0"), **kept}
        finally:
            await mover.close()
            await publisher.close()
    finally:
        drop_database(server, database)


async def test_a_timeout_that_would_end_the_subscriptions_worker_is_told(looked_at: Estate) -> None:
    looked_at.far.psql(
        f"ALTER DATABASE {looked_at.dedicated} SET transaction_timeout = '2s'; "
        "ALTER ROLE postgres SET lock_timeout = 300"
    )
    try:
        plan = await looked_at.mover().plan(looked_at.tenant, "acme")
        found = [finding for finding in plan.findings if finding.code == "worker-timeout"]
        assert [finding.problem.partition(" for ")[0] for finding in found] == [
            "transaction_timeout is 2000 ms",
            "lock_timeout is 300 ms",
        ]
        assert not any(finding.refuses for finding in found)
        for finding in found:
            looked_at.far.psql(finding.fix)
        plan = await looked_at.mover().plan(looked_at.tenant, "acme")
        assert "worker-timeout" not in [finding.code for finding in plan.findings]
    finally:
        looked_at.far.psql(
            f"ALTER DATABASE {looked_at.dedicated} RESET ALL; ALTER ROLE postgres RESET lock_timeout; "
            f"ALTER ROLE postgres IN DATABASE {looked_at.dedicated} RESET ALL"
        )


async def test_a_server_that_takes_idle_slots_away_is_told_and_the_fix_ends_it(looked_at: Estate) -> None:
    looked_at.near.psql("ALTER SYSTEM SET idle_replication_slot_timeout = '90min'")
    looked_at.near.psql("SELECT pg_reload_conf()")

    async def told() -> list[str]:
        plan = await looked_at.mover().plan(looked_at.tenant, "acme")
        return [finding.fix for finding in plan.findings if finding.code == "slot-timeout"]

    async def asked() -> bool:
        return await told() != []

    try:
        await until(asked)
        (fix,) = await told()
        for statement in fix.split("; "):
            looked_at.near.psql(statement)

        async def ended() -> bool:
            return await told() == []

        await until(ended)
    finally:
        looked_at.near.psql("ALTER SYSTEM RESET idle_replication_slot_timeout")
        looked_at.near.psql("SELECT pg_reload_conf()")


@pytest.mark.parametrize(
    ("line", "password"),
    [
        ("db.example:5433:acme:mover:secret", "secret"),
        ("*:*:*:mover:se\\\\cr\\:et", "se\\cr:et"),
        ("# a word\n*:5432:*:*:other\n*:5433:*:*:secret", "secret"),
        ("db.example:5433:acme:somebody:secret", None),
    ],
)
def test_the_password_file_is_read_as_libpq_reads_it(
    line: str, password: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "passfile"
    file.write_text(f"{line}\n")
    file.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(file))
    assert password_of("postgresql://mover@db.example:5433/acme") == password
    assert password_of("postgresql://mover:own@db.example:5433/acme") == "own"
    file.chmod(0o644)
    assert password_of("postgresql://mover@db.example:5433/acme") is None


@pytest.fixture
async def asking(pg18: EmbeddedServer, far18: EmbeddedServer) -> AsyncIterator[Estate]:
    """An estate whose servers ask the role "mover" for a password."""
    estate = await Estate.make(pg18, far18)
    files = [Path(server.psql("SHOW hba_file").strip()) for server in (pg18, far18)]
    kept = [_ask(file) for file in files]
    for server in (pg18, far18):
        server.psql("CREATE ROLE mover LOGIN SUPERUSER PASSWORD 's3cret'; SELECT pg_reload_conf()")
        await until(functools.partial(_asks, server))
    yield estate
    estate.drop()
    _restore(files, kept)
    for server in (pg18, far18):
        server.psql("SELECT pg_reload_conf()")
        server.psql("DROP ROLE mover")


def _ask(file: Path) -> str:
    """Let a server ask for the mover's password. Returns what its rules were."""
    kept = file.read_text()
    file.write_text("host all mover 127.0.0.1/32 scram-sha-256\n" + kept)
    return kept


def _restore(files: list[Path], kept: list[str]) -> None:
    for file, text in zip(files, kept, strict=True):
        file.write_text(text)


async def _asks(server: EmbeddedServer) -> bool:
    """Whether the server has taken its new rule over."""
    try:
        connection = await asyncpg.connect(f"postgresql://mover:wrong@127.0.0.1:{server.port}/postgres")
    except asyncpg.InvalidPasswordError:
        return True
    await connection.close()
    return False


def _as_mover(estate: Estate, far_password: str = "") -> dict[str, Endpoint]:
    ends = {}
    for name, server, database in (
        ("shared", estate.near, estate.shared), ("acme", estate.far, estate.dedicated)
    ):  # fmt: skip
        login = f"mover:{far_password}" if name == "acme" and far_password else "mover"
        dsn = f"postgresql://{login}@127.0.0.1:{server.port}/{database}"
        ends[name] = Endpoint(name, Kind(estate.endpoints[name].kind), dsn)
    return ends


async def test_a_move_whose_password_stands_in_a_password_file_goes_through(
    asking: Estate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "passfile"
    file.write_text("127.0.0.1:*:*:mover:s3cret\n")
    file.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(file))
    mover = asking.mover(endpoints=_as_mover(asking))
    record = await mover.run(await mover.plan(asking.tenant, "acme"))
    assert record.state is State.FLIPPED
    assert (await mover.rollback(record.id)).state is State.ROLLED_BACK


async def test_a_subscription_that_cannot_log_in_is_refused_before_anything_is_touched(
    asking: Estate,
) -> None:
    """The other server reaches this one by a DSN of its own, whose password is wrong."""
    ends = asking.endpoints
    wrong = f"postgresql://mover:wrong@127.0.0.1:{asking.near.port}/{asking.shared}"
    ends["shared"] = replace(ends["shared"], peer_dsn=wrong)
    plan = await asking.mover(endpoints=ends).plan(asking.tenant, "acme")
    (refusal,) = plan.refusals
    assert refusal.code == "login-fails"
    assert "a subscription can't log in at shared" in refusal.problem
    assert "wrong" not in refusal.problem.replace("wrong password", "")
    assert await asking.fetch("acme", "SELECT 1 FROM pg_subscription") == []
