"""A DSN is checked where it is read: a typo is no outage, and no error holds a part of a password."""

from __future__ import annotations

import itertools
import traceback

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.config import Config, check_dsn, read_reference
from tenantry.embedded import EmbeddedServer
from tenantry.errors import ConfigError, DsnUnreadable, TenantryError

SECRET = "hunter2secret"

#: Each with the password cut by something that should have been encoded, or told in another way.
MISREAD = [
    f"postgresql://app:{SECRET}/a@h/x",
    f"postgresql://app:{SECRET}#a@h/x",
    f"postgresql://app:{SECRET}?a@h/x",
    f"postgresql://app:{SECRET}?a=b@h/x",
    f"postgresql://app:{SECRET}@a@h/x",
    f"postgresql://app:a@{SECRET}@h/x",
    f"postgresql://app:{SECRET}[a@h/x",
    f"postgresql://app:{SECRET}]a@h/x",
    f"postgresql://app:1/{SECRET}@h/x",
    f"postgresql://app:1#{SECRET}@h/x",
    f"postgresql://app:1?{SECRET}@h/x",
    f"postgresql://app:1?{SECRET}=1@h/x",
    f"postgresql://app:12/3?{SECRET}=1",
    f"postgresql://app:{SECRET}\n@h/x",
    f"postgresql://app@h:{SECRET}/x",
    f"host=h user=app password={SECRET}",
    f"mysql://app:{SECRET}@h/x",
    SECRET,
    "",
]


def told(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize("dsn", MISREAD)
def test_a_dsn_that_the_driver_would_misread_is_refused_at_load_without_a_part_of_the_password(dsn: str) -> None:
    data = {"control": {"dsn": "postgresql://c/c"}, "databases": {"shared": {"kind": "shared", "dsn": dsn}}}
    with pytest.raises(ConfigError) as raised:
        Config.parse(data, environment={})
    assert raised.value.key == "databases.shared.dsn"
    assert SECRET not in told(raised.value)
    with pytest.raises(DsnUnreadable) as unreadable:
        read_reference("env:X", database="shared", environment={"X": dsn})
    assert SECRET not in told(unreadable.value)


@given(
    password=st.text(st.sampled_from("ab1/#?@[]:%&= +\n"), max_size=8),
    more=st.sampled_from(["", "?sslmode=require", "?connect_timeout=3"]),
)
def test_whatever_stands_unencoded_in_a_password_is_read_as_it_is_or_refused_in_words(
    password: str, more: str
) -> None:
    marked = f"{SECRET}{password}{SECRET}"
    kept, said = None, ""
    try:
        kept = check_dsn(f"postgresql://app:{marked}@h/x{more}", key="dsn")
    except ConfigError as error:
        said = told(error)
    assert SECRET not in said
    assert kept is None or f"//app:{marked}@h/x" in kept


WORKING = [
    "sslmode=disable",
    "sslmode=prefer&target_session_attrs=any",
    "application_name=x",
    "options=-c%20statement_timeout%3D7s",
    "connect_timeout=10",
    "keepalives=1&keepalives_idle=5&keepalives_interval=1&keepalives_count=3&tcp_user_timeout=0",
    "fallback_application_name=y",
    "client_encoding=utf8",
    "channel_binding=prefer",
    "gssencmode=disable",
    "load_balance_hosts=disable",
    "sslsni=1&sslcompression=0",
    "sslmode=",
]


@pytest.mark.parametrize("query", WORKING)
async def test_a_parameter_of_libpqs_that_is_accepted_lets_the_driver_connect(
    pg16: EmbeddedServer, query: str
) -> None:
    dsn = pg16.dsn()
    given = check_dsn(f"{dsn}{'&' if '?' in dsn else '?'}{query}", key="dsn")
    connection = await asyncpg.connect(given, timeout=20)
    try:
        assert await connection.fetchval("SELECT 1") == 1
        if "statement_timeout" in query:
            assert await connection.fetchval("SHOW statement_timeout") == "7s"
    finally:
        await connection.close()


REFUSED = {
    "sslmod=require": "did you mean sslmode",
    "sslmode=on": "it is one of disable",
    "search_path=x": "settings",
    "channel_binding=require": "channel binding",
    "gssencmode=require": "GSS",
    "client_encoding=latin1": "UTF-8",
    "replication=database": "replication",
    "hostaddr=10.0.0.1": "hostaddr",
    "requirepeer=postgres": "requirepeer",
    "connect_timeout=soon": "whole number",
    "target_session_attrs=master": "read-write",
    "port=http": "number",
    "justaword": "name=value",
}


@pytest.mark.parametrize("query", REFUSED)
def test_a_parameter_that_would_look_like_an_outage_is_refused_with_its_name(query: str) -> None:
    with pytest.raises(ConfigError, match=REFUSED[query]):
        check_dsn(f"postgresql://app@h/x?{query}", key="databases.shared.dsn")


@pytest.mark.parametrize("port", [0, 65_536, 99_999])
def test_a_port_that_there_is_not_is_refused(port: int) -> None:
    with pytest.raises(TenantryError):
        check_dsn(f"postgresql://app@h:{port}/x", key="dsn")


def test_every_section_checks_its_dsns() -> None:
    good, bad = "postgresql://u@h/x", "postgresql://u@h/x?sslmod=require"
    keys = [("control", name) for name in ("dsn", "direct_dsn")]
    keys += list(itertools.product(["servers.s", "databases.a"], ["dsn", "operator_dsn", "direct_dsn"]))
    for section, name in keys:
        data: dict[str, dict[str, object]] = {
            "control": {"dsn": good},
            "servers.s": {"dsn": good},
            "databases.a": {"dsn": good, "kind": "shared"},
        }
        data[section][name] = bad
        file = {
            "control": data["control"],
            "servers": {"s": data["servers.s"]},
            "databases": {"a": data["databases.a"]},
        }
        with pytest.raises(ConfigError) as raised:
            Config.parse(file, environment={})
        assert raised.value.key == f"{section}.{name}"
