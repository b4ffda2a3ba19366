"""A time that can't be waited for is refused in words, wherever one is taken."""

from __future__ import annotations

from typing import Any

import pytest

from tenantry.config import Config, duration
from tenantry.directory import Store
from tenantry.errors import ConfigError
from tenantry.move import Limits as MoveLimits
from tenantry.router import ProcessLimits
from tenantry.runtime.durations import seconds

NO_TIMES = [float("nan"), float("inf"), float("-inf"), -1, -0.001, True, "5", None]


@pytest.mark.parametrize("value", NO_TIMES)
def test_what_is_no_time_is_refused_with_the_name_of_what_was_asked_for(value: Any) -> None:
    for take in (
        lambda: seconds("timeout", value),
        lambda: ProcessLimits(timeout=value),
        lambda: ProcessLimits(connect_timeout=value),
        lambda: MoveLimits(pause=value),
        lambda: MoveLimits(patience=value),
        lambda: Store("postgresql://h/x", timeout=value),
    ):
        with pytest.raises(ValueError, match="is a time in seconds"):
            take()


@pytest.mark.parametrize("value", [0, 0.0, 1, 2.5, 10**9])
def test_a_time_is_given_back(value: float) -> None:
    assert seconds("timeout", value) == value


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), -1.0, 0.0, 1e300, "nan", "inf", "-5s", "1e9d", "99999d", True, None]
)
def test_a_duration_of_the_file_is_finite_and_above_zero(value: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        duration(value)


@pytest.mark.parametrize("said", ["0.1ms", "25d"])
def test_a_statement_timeout_that_postgresql_would_refuse_or_read_as_none_is_refused_at_load(said: str) -> None:
    dsn = "postgresql://h/x"
    data = {"control": {"dsn": dsn}, "databases": {"a": {"kind": "shared", "dsn": dsn, "statement_timeout": said}}}
    with pytest.raises(ConfigError, match=r"databases\.a\.statement_timeout"):
        Config.parse(data, environment={})
