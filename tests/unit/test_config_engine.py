"""`databases.NAME.engine`: what a database is said to be."""

from __future__ import annotations

from typing import Any

import pytest

from tenantry import Config, ConfigError

DSN = "postgresql://app@localhost/x"


def config(engine: object, **tenancy: Any) -> Config:
    shared = {"kind": "shared", "dsn": DSN, "engine": engine}
    return Config.parse({"tenancy": tenancy, "control": {"dsn": DSN}, "databases": {"shared": shared}})


@pytest.mark.parametrize("engine", ["postgresql", "citus", None])
def test_an_engine_is_one_of_two_or_whatever_is_found(engine: str | None) -> None:
    assert config(engine).databases["shared"].engine == engine


@pytest.mark.parametrize("engine", ["", "Citus", "mysql", 3, True, ["citus"]])
def test_any_other_engine_is_refused_by_its_key(engine: object) -> None:
    with pytest.raises(ConfigError, match=r"databases\.shared\.engine"):
        config(engine)


def test_hardened_mode_on_citus_is_refused_before_anything_is_connected() -> None:
    with pytest.raises(ConfigError, match=r"databases\.shared\.engine.*not to be had on Citus"):
        config("citus", hardened=True, secret="s" * 40)
    assert config("postgresql", hardened=True, secret="s" * 40).tenancy.hardened
