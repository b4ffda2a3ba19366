"""`tenantry serve` keeps in step with the directory: what is added is watched, what is removed is left."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tenantry.embedded import EmbeddedServer
from tests.integration.server.conftest import Serving

LONG = 60.0
_WATCHERS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tenantry watch' AND datname = '{}'"


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_database_that_is_added_is_watched_and_one_that_is_removed_is_left(
    serving: Serving, make_database: Callable[[EmbeddedServer], str], tmp_path: Path
) -> None:
    server, late, later = serving.server, make_database(serving.server), make_database(serving.server)
    address = tmp_path / "late.dsn"
    address.write_text(server.dsn(late))

    def watchers(database: str) -> int:
        return int(server.psql(_WATCHERS.format(database)))

    def directory(sql: str) -> None:
        server.psql(sql, serving.control)

    def readings() -> str:
        return server.psql(
            "SELECT count(*) FROM tenantry.database_reading WHERE database = 'late'", serving.control
        )

    assert watchers(late) == 0
    directory(f"INSERT INTO tenantry.database (name, kind, dsn) VALUES ('late', 'dedicated', 'file:{address}')")
    until(lambda: watchers(late) == 1)
    until(lambda: readings() == "1")
    # The most direct way is taken, also when it is named later: then it is watched there.
    direct = tmp_path / "direct.dsn"
    direct.write_text(server.dsn(later))
    directory(
        "UPDATE tenantry.database SET settings = "
        f"jsonb_build_object('direct', 'file:{direct}') WHERE name = 'late'"
    )
    until(lambda: (watchers(late), watchers(later)) == (0, 1))
    directory("DELETE FROM tenantry.database WHERE name = 'late'")
    until(lambda: watchers(later) == 0)

    assert watchers(serving.control) == 1  # the file's own
    assert serving.process.poll() is None


@pytest.mark.parametrize("poll", ["2s"])  # nobody may have listened: then it is the next look that finds it
def test_serve_reads_the_directory_again_when_the_control_database_is_back(
    serving: Serving, make_database: Callable[[EmbeddedServer], str], tmp_path: Path
) -> None:
    server, late = serving.server, make_database(serving.server)
    address = tmp_path / "late.dsn"
    address.write_text(server.dsn(late))
    serving.take_control_away()
    serving.give_control_back()
    server.psql(
        f"INSERT INTO tenantry.database (name, kind, dsn) VALUES ('late', 'dedicated', 'file:{address}')",
        serving.control,
    )

    until(lambda: server.psql(_WATCHERS.format(late)) == "1")


def test_a_database_whose_dsn_can_not_be_read_is_named_in_the_log_once_and_watched_when_it_can(
    serving: Serving, make_database: Callable[[EmbeddedServer], str], tmp_path: Path
) -> None:
    server, late, address = serving.server, make_database(serving.server), tmp_path / "late.dsn"
    address.write_bytes(b"\xff\xfe")
    rows = "INSERT INTO tenantry.database (name, kind, dsn) VALUES ('{}', 'dedicated', 'file:{}')"
    server.psql(rows.format("late", address), serving.control)
    other = tmp_path / "other.dsn"
    other.write_text(server.dsn(late))
    server.psql(rows.format("other", other), serving.control)
    until(lambda: server.psql(_WATCHERS.format(late)) == "1")  # by the other's row: the directory was read
    address.write_text(server.dsn(late))
    server.psql("UPDATE tenantry.database SET settings = '{\"max\": 3}' WHERE name = 'late'", serving.control)
    readings = "SELECT count(*) FROM tenantry.database_reading WHERE database = 'late'"
    server.psql("DELETE FROM tenantry.database WHERE name = 'other'", serving.control)
    until(lambda: server.psql(readings, serving.control) == "1")
    code, said = serving.stop()
    assert code in (0, -15)
    assert said.count(f"file:{address}: the file is not UTF-8 text") == 1
