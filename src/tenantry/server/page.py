"""How the status page writes values, and the rows of its tables. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from tenantry.promotion import percent
from tenantry.usage.sampler import SampledSessions

#: Tenants shown per database.
SHOWN: Final = 5


class WitnessRow(NamedTuple):
    """One tenant's part of what was seen running on a database."""

    database: str
    tenant: str
    share: float
    """0 to 1, of all active sessions of the last hour or two."""
    wait: str
    """What its sessions mostly did."""


def witness_rows(seen: Mapping[str, SampledSessions]) -> list[WitnessRow]:
    """The tenants with the most active sessions of each database."""
    rows = []
    for database, found in sorted(seen.items()):
        leaders = sorted(found.sessions, key=found.seen, reverse=True)
        for tenant in leaders[:SHOWN]:
            share = found.share(tenant)
            if share is not None:
                waits = found.sessions[tenant]
                rows.append(
                    WitnessRow(database, tenant or "(no tenant)", share, max(waits, key=lambda w: waits[w]))
                )
    return rows


def share(value: float | None) -> str:
    """0.4167 as 41.7%; a share that is not known as a dash."""
    return "–" if value is None else percent(value)  # noqa: RUF001  (a dash for people)


def moment(at: datetime | None) -> str:
    """UTC, to the second."""
    return "never" if at is None else at.strftime("%Y-%m-%d %H:%M:%S UTC")


def grouped(number: int) -> str:
    """1234567 as 1 234 567."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {"share": share, "moment": moment, "grouped": grouped}
