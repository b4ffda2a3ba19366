"""Durations and sizes as people write them."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST = 36_500 * 86_400.0
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(kB|MB|GB|TB)")
_BYTES = {"kB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}


def duration(value: object) -> float:
    """Seconds from 30s, 10m, 2h, 14d, 500ms, or a number of seconds.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("a duration is written 500ms, 30s, 10m, 2h or 14d")
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if match is None:
            raise ValueError(f"{value!r} is no duration: write 500ms, 30s, 10m, 2h or 14d")
        value = float(match[1]) * _SECONDS[match[2]]
    if not 0 < value <= _LONGEST:  # NaN is neither
        raise ValueError("a duration is above zero, and at most 36500d")
    return float(value)


Duration = Annotated[float, BeforeValidator(duration)]


def size(value: object) -> int:
    """Bytes from 500MB, 20GB, 1TB (as PostgreSQL counts: 1kB is 1024 bytes), or a number of bytes.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("a size is written 500MB, 20GB or 1TB")
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        if match is None:
            raise ValueError(f"{value!r} is no size: write 500MB, 20GB or 1TB")
        value = int(float(match[1]) * _BYTES[match[2]])
    if value <= 0:
        raise ValueError("a size is above zero")
    return value


Size = Annotated[int, BeforeValidator(size)]
