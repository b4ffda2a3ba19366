"""`tenancy.placement`, and what databases say of sign-ups."""

from __future__ import annotations

from typing import Any

import pytest

from tenantry import Config, ConfigError
from tenantry.rooms import Room, Rooms

DSN = "postgresql://app@localhost/x"


def config(tenancy: dict[str, Any], **databases: dict[str, Any]) -> Config:
    named = {name: {"kind": "shared", "dsn": DSN, **said} for name, said in databases.items()}
    return Config.parse({"tenancy": tenancy, "control": {"dsn": DSN}, "databases": named})


@pytest.mark.parametrize(
    ("policy", "rooms"),
    [
        (None, None),
        ("least-loaded", Rooms([Room("a", 5), Room("c", None)], spread=True)),
        ("first", Rooms([Room("a", 5), Room("c", None)], spread=False)),
        ("b", Rooms([Room("b", 7)], spread=False)),
    ],
)
def test_the_databases_that_sign_ups_choose_among(policy: str | None, rooms: Rooms | None) -> None:
    made = config({"placement": policy}, a={"capacity": 5}, b={"accepts": False, "capacity": 7}, c={})
    assert made.rooms() == rooms


@pytest.mark.parametrize(
    ("tenancy", "databases", "key", "says"),
    [
        (
            {"placement": "least_loaded"},
            {"a": {}},
            "tenancy.placement",
            "neither least-loaded, first nor a shared",
        ),
        ({"placement": "d"}, {"a": {}, "d": {"kind": "dedicated"}}, "tenancy.placement", "nor a shared database"),
        ({"placement": "first"}, {"a": {"accepts": False}}, "tenancy.placement", "no shared database accepts"),
        ({"placement": "first", "default_database": "a"}, {"a": {}}, "tenancy.placement", "say one of the two"),
        ({}, {"a": {"capacity": 0}}, "databases.a.capacity", "1"),
        ({}, {"a": {"capacity": True}}, "databases.a.capacity", "whole number"),
        ({}, {"a": {}, "d": {"kind": "dedicated", "capacity": 5}}, "databases.d.capacity", "only a shared"),
        ({}, {"a": {}, "d": {"kind": "dedicated", "accepts": False}}, "databases.d.accepts", "only a shared"),
    ],
)
def test_a_mistake_is_told_with_its_key(
    tenancy: dict[str, Any], databases: dict[str, dict[str, Any]], key: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as told:
        config(tenancy, **databases)
    assert told.value.key == key
