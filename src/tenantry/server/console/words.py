"""How the console writes values. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from markupsafe import Markup

from tenantry.promotion import percent
from tenantry.server.console.charts import meter
from tenantry.server.console.verdict import duration, tenant_page

NOTHING: Final = "–"  # noqa: RUF001  (a dash for people)


def share(value: float | None) -> str:
    """0.4167 as 41.7%; a share that is not known as a dash."""
    return NOTHING if value is None else percent(value)


def moment(at: datetime | None) -> str:
    """UTC, to the second."""
    return "never" if at is None else at.strftime("%Y-%m-%d %H:%M:%S UTC")


def grouped(number: float | None) -> str:
    """1234567 as 1 234 567."""
    return NOTHING if number is None else f"{number:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def size(number: float | None) -> str:
    """Bytes, as PostgreSQL counts them: 1 kB is 1024."""
    if number is None:
        return NOTHING
    for unit in ("B", "kB", "MB", "GB"):
        if abs(number) < 10 * 1024:
            return f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.0f} TB"


def seconds(value: float | None) -> str:
    """A short time: 0.4 ms, 120 ms, 3.4 s, 12 min."""
    if value is None:
        return NOTHING
    if value < 0.01:
        return f"{value * 1000:.1f} ms"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    return f"{value:.1f} s" if value < 120 else duration(value)


def gauge(value: float | None) -> Markup:
    """A share as a figure with a bar."""
    return Markup('<span class="gauge">{} <span>{}</span></span>').format(meter(value), share(value))


def command(text: str) -> Markup:
    """What is to be typed."""
    return Markup('<code class="command">{}</code>').format(text)


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "share": share,
    "moment": moment,
    "grouped": grouped,
    "size": size,
    "seconds": seconds,
    "duration": lambda value: NOTHING if value is None else duration(value),
    "gauge": gauge,
    "command": command,
    "tenant_page": tenant_page,
}
