"""Where a database's DSN leads: one answer for the router, the command line and `serve`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tenantry.config import Config, resolve, resolve_all
from tenantry.directory import DatabaseRow
from tenantry.errors import ConfigError, DatabaseUnavailable, DsnUnreadable
from tenantry.ids import Kind
from tenantry.wiring import spec_of

SECRET = "s3cret-canary"
DSN = f"postgresql://app:{SECRET}@h/x"


def config(**databases: Any) -> Config:
    return Config.parse(
        {
            "control": {"dsn": "postgresql://c/c"},
            "servers": {
                "big": {"dsn": "postgresql://app@big/postgres", "direct_dsn": "postgresql://op@big/postgres"}
            },
            "databases": databases,
        },
        environment={},
    )


def row(dsn: str, **settings: Any) -> DatabaseRow:
    return DatabaseRow("late", Kind.DEDICATED, dsn, settings)


def test_a_row_of_the_directory_gives_the_routers_the_operators_and_the_direct_dsn(tmp_path: Path) -> None:
    (tmp_path / "op").write_text(f"  {DSN}?application_name=op\n")
    found = resolve(
        config(),
        row("env:APP", operator=f"file:{tmp_path / 'op'}", direct="env:DIRECT", max=3, idle=7.5),
        {"APP": DSN, "DIRECT": f"{DSN}?application_name=direct"},
    )
    assert (found.require_dsn(), found.operator_dsn, found.direct_dsn) == (
        DSN,
        f"{DSN}?application_name=op",
        f"{DSN}?application_name=direct",
    )
    assert found.best_dsn == found.require_operator_dsn() == f"{DSN}?application_name=direct"
    assert (found.pool.max, found.pool.idle, found.unreadable) == (3, 7.5, {})
    assert SECRET not in repr(found)
    spec = spec_of(config(), found)
    assert (spec.dsn, spec.operator_dsn, spec.size) == (DSN, f"{DSN}?application_name=op", 3)


def test_a_database_that_a_move_made_on_a_server_has_the_servers_dsns() -> None:
    found = resolve(config(), row("server:big"))
    assert (found.dsn, found.operator_dsn) == ("postgresql://app@big/late", None)
    assert found.require_operator_dsn() == found.best_dsn == "postgresql://op@big/late"


def test_the_configuration_wins_over_the_directory() -> None:
    named = config(late={"kind": "shared", "dsn": "postgresql://ours/late"})
    assert resolve(named, row("env:ELSEWHERE")).dsn == "postgresql://ours/late"
    others = [row("server:big"), DatabaseRow("a", Kind.SHARED, "env:NOWHERE", {})]
    assert list(resolve_all(named, others)) == ["a", "late"]


@pytest.mark.parametrize(
    ("reference", "written", "why"),
    [
        ("env:TENANTRY_NOT_SET", None, "is not set"),
        ("file:{}", None, "No such file"),
        ("file:{}", b"\xff\xfe", "not UTF-8"),
        ("file:{}", b" \n", "empty"),
        ("file:{}", b"x" * 100_000, "too long"),
        ("file:{}", SECRET.encode(), "not a connection URL"),
        ("file:{}", f"postgresql://app:{SECRET}/x@h/db".encode(), "not a connection URL"),
        ("file:{}", f"postgresql://app:1/{SECRET}@h/db".encode(), "not a connection URL"),
        ("file:{}", f"postgresql://app:{SECRET}#@h/db".encode(), "not a connection URL"),
        ("file:/", None, "not a regular file"),
        ("file:", None, "not a regular file"),
        ("server:small", None, "no such server"),
        ("config", None, "another process"),
        ("vault:x", None, "another process"),
    ],
)
def test_a_reference_that_leads_nowhere_is_one_typed_error_without_a_secret(
    tmp_path: Path, reference: str, written: bytes | None, why: str
) -> None:
    path = tmp_path / "dsn"
    if written is not None:
        path.write_bytes(written)
    found = resolve(config(), row(reference.format(path), operator=reference.format(path)))
    assert (found.dsn, found.operator_dsn) == (None, None)
    for ask in (found.require_dsn, found.require_operator_dsn, lambda: spec_of(config(), found)):
        with pytest.raises(DsnUnreadable, match=why) as raised:
            ask()
        assert isinstance(raised.value, DatabaseUnavailable)
        assert (raised.value.database, raised.value.reference) == ("late", reference.format(path))
        assert SECRET not in str(raised.value)


def test_a_pipe_does_not_hold_the_event_loop_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "dsn")
    with pytest.raises(DsnUnreadable, match="not a regular file"):
        resolve(config(), row(f"file:{tmp_path / 'dsn'}")).require_dsn()


@pytest.mark.parametrize("settings", [{"max": "lots"}, {"max": 0}, {"idle": -1}, {"settings": 7}])
def test_a_row_with_settings_that_can_not_be_used_harms_its_own_database_alone(settings: dict[str, Any]) -> None:
    found = resolve_all(config(), [row("env:HOME", **settings), DatabaseRow("b", Kind.SHARED, "server:big", {})])
    with pytest.raises(DsnUnreadable, match="max, idle or settings"):
        found["late"].require_dsn()
    assert found["b"].dsn == "postgresql://app@big/b"


def test_a_dsn_file_that_changes_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "dsn"
    path.write_text("postgresql://app:old@h/x")
    known = row(f"file:{path}")
    spec = spec_of(config(), resolve(config(), known), known)
    path.write_text("postgresql://app:new@h/x")
    assert spec.reread is not None
    assert spec.reread().dsn == "postgresql://app:new@h/x"
    path.unlink()
    with pytest.raises(DsnUnreadable):
        spec.reread()


def test_a_database_without_an_operators_role_says_how_to_configure_one() -> None:
    with pytest.raises(ConfigError, match=r"databases\.late\.operator_dsn") as raised:
        resolve(config(), row("env:X"), {"X": DSN}).require_operator_dsn()
    assert not isinstance(raised.value, DsnUnreadable)


@pytest.mark.parametrize("key", ["control.dsn", "databases.a.operator_dsn", "servers.s.dsn"])
@pytest.mark.parametrize(
    "dsn",
    [f"postgresql://u:{SECRET}/x@h/db", f"postgresql://u:{SECRET}#x@h/db", f"postgresql://u:1/{SECRET}@h/db"],
)
def test_a_dsn_of_the_file_that_the_driver_would_misread_is_refused_with_its_key_and_without_the_secret(
    key: str, dsn: str
) -> None:
    data: dict[str, Any] = {
        "control": {"dsn": "postgresql://c/c"},
        "servers": {"s": {"dsn": "postgresql://s/postgres"}},
        "databases": {"a": {"kind": "shared", "dsn": "postgresql://a/a"}},
    }
    *path, last = key.split(".")
    section = data
    for part in path:
        section = section[part]
    section[last] = dsn
    with pytest.raises(ConfigError) as raised:
        Config.parse(data, environment={})
    assert raised.value.key == key
    assert SECRET not in str(raised.value)
