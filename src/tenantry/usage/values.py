"""What the ledger knows about one tenant, as values: the input of the rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Final, NamedTuple

from tenantry.ids import Kind

_DAY: Final = 86_400.0
#: Seconds that a database can have been executing in one second of which nothing is known: sessions at once.
#: PostgreSQL's own default for `max_connections`, hardly ever reached.
BUSIEST: Final = 100.0
#: Source of the rows that routers wrote. Every other source is the label of an import.
MEASURED = "measured"


class Day(NamedTuple):
    """One complete UTC day of one tenant in one database."""

    day: date
    busy: float
    """Seconds that the tenant's statements were running; 0 when it did nothing."""
    total: float | None
    """Seconds that the whole database was executing statements; None: not known."""
    coverage: float
    """How much of the day was reported, 0 to 1; see docs/explanation/usage.md for the definition."""
    source: str = MEASURED
    """"measured", or the label of the import that the day comes from."""
    unseen: float = 0.0
    """Seconds of the day in which nobody saw the database; `total` presumes that they were like the rest."""

    @property
    def least(self) -> float | None:
        """`total` if the database did nothing while nobody saw it."""
        return None if self.total is None else self.total * (1 - self.unseen / _DAY)

    @property
    def most(self) -> float | None:
        """`total` if the database was as busy as it can be while nobody saw it."""
        return None if self.least is None else self.least + self.unseen * BUSIEST


@dataclass(frozen=True)
class History:
    """A tenant's days in the database where it lives now."""

    tenant: str
    database: str
    kind: Kind
    since: date | None = None
    """UTC day on which the tenant came to this database; None: before anything that is recorded."""
    days: Mapping[date, Day] = field(default_factory=dict)
    """Keyed by UTC day. A day that is not in it is a day of which nothing is known."""
