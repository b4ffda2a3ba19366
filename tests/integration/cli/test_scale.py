"""What the command line asks of a large fleet: counted, so that it stays so. The seconds are a benchmark's."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
import yaml

from tenantry import Operations
from tenantry.operations import CheckFinding
from tenantry.operations.check import facts
from tenantry.operations.check.gate import ON_ONE_SERVER, Gate, address
from tests.integration.cli.conftest import Fleet

#: Commands that have an answer of a bounded size, however many tenants there are.
BOUNDED = (
    ("check",),
    ("databases", "list"),
    ("placements", "check"),
    ("candidates",),
    ("balance", "--plan"),
    ("moves", "list"),
    ("apply", "--plan"),
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many statements were sent, and connections opened, by this process."""
    seen: Counter[str] = Counter()
    connection: Any = asyncpg.connection.Connection

    def counted(name: str) -> None:
        original = getattr(connection, name)

        async def call(self: Any, *arguments: Any, **options: Any) -> Any:
            seen["statements"] += 1
            return await original(self, *arguments, **options)

        monkeypatch.setattr(connection, name, call)

    for name in ("_execute", "execute"):
        counted(name)
    utilities: Any = asyncpg.connect_utils
    connect = utilities._connect_addr

    async def dialled(*arguments: Any, **options: Any) -> Any:
        seen["connections"] += 1
        return await connect(*arguments, **options)

    monkeypatch.setattr(utilities, "_connect_addr", dialled)
    return seen


def cost(fleet: Fleet, asked: Counter[str], *command: str) -> Counter[str]:
    asked.clear()
    assert fleet.run(*command, "--json").code in (0, 1)
    return Counter(asked)


def fill(fleet: Fleet, first: int, last: int) -> None:
    fleet.server.psql(
        "INSERT INTO tenantry.tenant (id, database, region) SELECT 't' || i, 'shared', 'r' || i % 3 "
        f"FROM generate_series({first}, {last}) AS i",
        fleet.control,
    )


def test_no_answer_of_a_bounded_size_costs_more_statements_for_more_tenants(
    installed: Fleet, asked: Counter[str]
) -> None:
    fill(installed, 1, 10)
    few = {command: cost(installed, asked, *command) for command in BOUNDED}
    listed = cost(installed, asked, "tenants", "list")
    fill(installed, 11, 4010)
    for command in BOUNDED:
        assert cost(installed, asked, *command) == few[command], command
        assert few[command]["statements"] > 0, "something was counted"
    pages = 4  # of 1,000; each is a statement, and the pool's reset behind it
    assert cost(installed, asked, "tenants", "list")["statements"] == listed["statements"] + 2 * pages


def test_check_opens_two_sessions_a_database_and_tries_each_server_once(
    installed: Fleet, asked: Counter[str]
) -> None:
    base = cost(installed, asked, "check")["connections"]
    written = yaml.safe_load(installed.path.read_text())
    for number in range(5):
        written["databases"][f"more{number}"] = written["databases"]["shared"]
    installed.write(yaml.safe_dump(written))
    assert cost(installed, asked, "check")["connections"] == base + 2 * 5


@contextlib.contextmanager
def silent() -> Iterator[int]:
    """A server that takes connections and never says a word; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        kept: list[socket.socket] = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    kept.append(listening.accept()[0])

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(30)
        for one in kept:
            one.close()


def test_a_server_that_does_not_answer_is_a_finding_for_its_own_databases(
    installed: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "LOOK", 1.0)
    written = yaml.safe_load(installed.path.read_text())
    written["router"] = {"connect_timeout": "200ms"}
    with silent() as port:
        for number in range(ON_ONE_SERVER):
            dsn = f"postgresql://app@127.0.0.1:{port}/dead{number}"
            written["databases"][f"dead{number}"] = {"kind": "dedicated", "dsn": dsn, "operator_dsn": dsn}
        installed.write(yaml.safe_dump(written))
        told = installed.run("check", "--json").json
    away = {one["database"] for one in told["findings"] if one["code"] == "unreachable"}
    assert away == {f"dead{number}" for number in range(ON_ONE_SERVER)}
    reached = {row["database"]: row["reachable"] for row in told["databases"]}
    assert reached["shared"] is reached["acme"] is reached["control"] is True


def test_a_session_that_waits_for_a_lock_is_given_up_and_named(
    installed: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "LOOK", 1.0)

    async def look() -> list[CheckFinding]:
        holder = await asyncpg.connect(installed.server.dsn(installed.shared))
        try:
            await holder.execute("BEGIN; LOCK TABLE tenantry.migration, tenantry.database_identity")
            async with Operations.open(installed.path) as ops:
                return [one for one in (await ops.check()).findings if one.database == "shared"]
        finally:
            await holder.close()

    found = {one.code: one.problem for one in asyncio.run(look())}
    assert "did not answer within 1 s" in found["operator-unreachable"]


async def test_no_more_than_so_many_sessions_stand_on_one_server_and_a_full_one_holds_up_no_other() -> None:
    gate, held, most = Gate(), Counter[str](), Counter[str]()
    go = asyncio.Event()

    async def session(dsn: str) -> None:
        async with gate.of(dsn):
            held[address(dsn)] += 1
            most[address(dsn)] = max(most[address(dsn)], held[address(dsn)])
            if "dead" in dsn:
                await go.wait()
            held[address(dsn)] -= 1

    dead = [asyncio.create_task(session(f"postgresql://a:b@dead:5432/d{n}")) for n in range(100)]
    async with asyncio.timeout(30):
        await asyncio.gather(*(session(f"postgresql://a@other:5432/d{n}?x=1") for n in range(20)))
        assert not any(one.done() for one in dead)
        go.set()
        await asyncio.gather(*dead)
    assert set(most) == {"dead:5432  ", "other:5432  "}
    assert most["dead:5432  "] == ON_ONE_SERVER
