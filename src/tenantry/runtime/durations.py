"""Times that callers give."""

from __future__ import annotations

import math


def seconds(name: str, value: object) -> float:
    """`value`, when it is a time to wait: finite, and not below zero. `name` is what errors call it.

    Raises:
        ValueError: not a number; NaN, which no time ever reaches; infinite; or negative.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} is a time in seconds, not {value!r}")
    if math.isnan(value) or math.isinf(value) or value < 0:
        raise ValueError(f"{name} is a time in seconds, finite and not below zero; got {value!r}")
    return value
