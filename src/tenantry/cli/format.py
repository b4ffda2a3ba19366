"""Shares, bytes and durations as people read them. Programs get the numbers."""

from __future__ import annotations

from typing import Final

from tenantry.promotion import percent

#: As PostgreSQL counts them, and as the configuration and `--rate` read them.
_UNITS: Final = (("TB", 2**40), ("GB", 2**30), ("MB", 2**20), ("kB", 2**10))


def share(value: float | None) -> str:
    """0.4167 as 41.7%; a share that is not known as a dash."""
    return "-" if value is None else percent(value)


def size(count: int) -> str:
    """Bytes: 300 bytes, 1.5 MB."""
    unit, step = next(((unit, step) for unit, step in _UNITS if count >= step), ("bytes", 1))
    return f"{count} {unit}" if step == 1 else f"{count / step:.1f} {unit}"


def duration(seconds: float) -> str:
    """Seconds: 42 s, 12 min, 2.5 h, 3.1 d."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86_400:.1f} d"
