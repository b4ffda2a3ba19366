"""PostgreSQL servers for every test: embedded, one of each version per worker, started when asked.

A test asks for `pg` (runs on 16 and on 18), or for `pg15`, `pg16`, `pg18`; for `far16` or `far18` where it wants
a second server; for `make_database` to get databases of its own on any of them; or for `database`, a fresh one on
`pg`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import Final

import pytest

from tenantry.embedded import EmbeddedServer, versions
from tests.support import databases, load, memory, pgbouncer, twins
from tests.support.programs import missing


def pytest_configure(config: pytest.Config) -> None:
    """Before any server is started."""
    memory.use()
    # A shell starts what it runs in the background with Ctrl-C ignored, and so would the programs of the tests be.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Programs that tests start find their modules compiled: compiling all of tenantry takes each of them 0.3 s.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    # The servers have no TLS; each of some sixty thousand connections would ask them and build a context for it.
    os.environ.setdefault("PGSSLMODE", "disable")
    if "faults" in str(config.option.markexpr):
        load.hurry()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is only run when it is asked for: `-m faults`, `-m long`."""
    for item in items:
        if twins.has_a_twin_in_every_run(item):
            item.add_marker("long")
    unasked = [mark for mark in ("faults", "long") if mark not in str(config.option.markexpr)]
    left = {item for item in items for mark in unasked if item.get_closest_marker(mark)}
    if left:
        config.hook.pytest_deselected(items=list(left))
        items[:] = [item for item in items if item not in left]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test's report shows the log of a PgBouncer that has died, in the run that it took down."""
    report = yield
    if report.failed:
        report.sections += [("PgBouncer died", text) for text in pgbouncer.obituaries()]
    if call.when == "teardown":
        pgbouncer.forget()
    return report


@pytest.fixture(scope="session")
def pg15() -> Iterator[EmbeddedServer]:
    """PostgreSQL 15 of Debian's package."""
    if 15 not in versions():
        missing("pg15", "PostgreSQL 15 (Debian's package postgresql-15) is not installed")
    yield from running(15)


#: A link that broke is tried again soon: PostgreSQL leaves 5 s between two attempts. No test waits for autovacuum,
#: which would look into each of some twenty databases every minute.
SETTINGS: Final = {"wal_retrieve_retry_interval": "100ms", "autovacuum_naptime": "10min"}


def running(version: int) -> Iterator[EmbeddedServer]:
    with EmbeddedServer.start(version, settings=SETTINGS) as server:
        yield server


@pytest.fixture(scope="session")
def pg16() -> Iterator[EmbeddedServer]:
    """PostgreSQL 16 of the wheel."""
    yield from running(16)


@pytest.fixture(scope="session")
def pg18() -> Iterator[EmbeddedServer]:
    """PostgreSQL 18 of the wheel."""
    yield from running(18)


@pytest.fixture(scope="session")
def far16() -> Iterator[EmbeddedServer]:
    """A second server of 16, for the targets of moves."""
    yield from running(16)


@pytest.fixture(scope="session")
def far18() -> Iterator[EmbeddedServer]:
    """A second server of 18, for the targets of moves."""
    yield from running(18)


@pytest.fixture(params=twins.PG)
def pg(request: pytest.FixtureRequest) -> EmbeddedServer:
    """One after the other: the oldest and the newest PostgreSQL of the wheel."""
    server = request.getfixturevalue(request.param)
    assert isinstance(server, EmbeddedServer)
    return server


@pytest.fixture
def make_database() -> Iterator[Callable[[EmbeddedServer], str]]:
    """Makes empty databases, by name, on the server that it is given; drops them after the test."""
    with ExitStack() as made:
        yield lambda server: made.enter_context(databases.database(server))


@pytest.fixture
def database(pg: EmbeddedServer, make_database: Callable[[EmbeddedServer], str]) -> str:
    """The name of an empty database on `pg`, dropped after the test."""
    return make_database(pg)
