"""Servers in the configuration, and what databases on them have from them."""

from __future__ import annotations

from typing import Any

import pytest

from tenantry.config import Config, on_server, resolve, size
from tenantry.directory import DatabaseRow
from tenantry.errors import ConfigError
from tenantry.ids import Kind

EU1 = {
    "dsn": "postgresql://app:p%40w@eu1:5433/postgres?sslmode=require",
    "operator_dsn": "postgresql://op@eu1:5433/postgres",
    "pool": {"max": 5},
    "statement_timeout": "2s",
    "autovacuum": {
        "*": {"vacuum_scale_factor": 0.02, "enabled": True},
        "public.log": {"analyze_scale_factor": 1e-05},
    },
    "backup": {"every": "6h"},
}


def config(**acme: Any) -> Config:
    return Config.parse(
        {
            "control": {"dsn": "postgresql://c/c"},
            "servers": {"eu1": EU1},
            "databases": {"acme": {"kind": "dedicated", **acme}},
        },
        environment={},
    )


def test_a_database_on_a_server_has_what_the_server_says_unless_it_says_otherwise() -> None:
    wanted = config(server="eu1", settings={"work_mem": "8MB"}, backup={"every": "1h"})
    acme = wanted.databases["acme"]
    assert acme.dsn.get_secret_value() == "postgresql://app:p%40w@eu1:5433/acme?sslmode=require"
    assert acme.operator_dsn is not None
    assert acme.operator_dsn.get_secret_value() == "postgresql://op@eu1:5433/acme"
    assert (acme.pool.max, acme.server_settings) == (5, {"statement_timeout": "2000", "work_mem": "8MB"})
    assert acme.backup is not None
    assert acme.backup.every == 3600
    assert acme.autovacuum == {
        "*": {"vacuum_scale_factor": "0.02", "enabled": "true"},
        "public.log": {"analyze_scale_factor": "1e-05"},
    }
    assert wanted.references["acme"] == "server:eu1"


def test_a_dsn_of_its_own_keeps_a_database_from_the_servers_credentials() -> None:
    acme = config(server="eu1", dsn="postgresql://app@eu1/other").databases["acme"]
    assert acme.dsn.get_secret_value() == "postgresql://app@eu1/other"
    assert acme.operator_dsn is None


def test_a_database_of_the_directory_on_a_server_is_found_with_the_servers_settings() -> None:
    wanted = config(server="eu1")
    row = DatabaseRow("neu.1", Kind.DEDICATED, "server:eu1", {"max": 9})
    found = resolve(wanted, row)
    assert found.dsn is not None
    assert found.dsn.endswith("/neu.1?sslmode=require")
    assert found.operator_dsn == "postgresql://op@eu1:5433/neu.1"
    assert (found.pool.max, found.pool.idle, found.server_settings) == (9, 600.0, {"statement_timeout": "2000"})
    assert "p%40w" not in repr(found)


def test_server_settings_reach_processes_that_know_a_database_from_the_directory_only() -> None:
    row = DatabaseRow("a", Kind.DEDICATED, "env:A", {"settings": {"statement_timeout": "2000"}})
    found = resolve(config(server="eu1"), row, {"A": "postgresql://h/a"})
    assert (found.dsn, found.server_settings) == ("postgresql://h/a", {"statement_timeout": "2000"})


@pytest.mark.parametrize(
    ("acme", "said"),
    [
        ({"server": "eu2"}, "'eu2' is not among servers"),
        ({"server": "eu1", "autovacum": {}}, "did you mean autovacuum"),
        ({"server": "eu1", "autovacuum": {"*": {"autovacuum_enabled": True}}}, "vacuum_scale_factor"),
        ({"server": "eu1", "autovacuum": {"*": {"x; DROP": 1}}}, "is no parameter"),
        ({"server": "eu1", "autovacuum": {"*": {"nonsense_factor": 1}}}, "is no parameter"),
        ({"server": "eu1", "autovacuum": {"*": {"vacuum_scale_factor": "lots"}}}, "'lots' is no number"),
        ({"server": "eu1", "autovacuum": {"*": {"vacuum_scale_factor": None}}}, "is no number"),
        ({"server": "eu1", "autovacuum": {"a.b": {"enabled": 7}}}, "a.b: enabled: '7' is no switch"),
        ({"server": "eu1", "disk": "12"}, "500MB"),
        ({"server": "eu1", "backup": {"command": "x"}}, "is missing"),
        ({}, "is missing"),
    ],
)
def test_what_can_not_be_meant_is_refused_with_its_key(acme: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=r"databases\.acme") as refused:
        config(**acme)
    assert said in str(refused.value)


def test_sizes_are_counted_as_postgresql_counts() -> None:
    assert (size("500MB"), size("1.5GB"), size(7)) == (500 * 2**20, 3 * 2**29, 7)
    for wrong in ("7", "1 PB", True, -1, 1.5):
        with pytest.raises(ValueError, match="size"):
            size(wrong)


def test_another_database_of_a_server_keeps_everything_else_of_the_dsn() -> None:
    assert on_server("postgresql:///x?host=/run&dbname=y&port=1", "ä b") == (
        "postgresql:///%C3%A4%20b?host=%2Frun&port=1"
    )
