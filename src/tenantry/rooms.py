"""The databases among which a new tenant's home is chosen. See `directory.placements.add_to_room`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from tenantry.errors import NoRoom

FIRST: Final = "first"
LEAST_LOADED: Final = "least-loaded"


class Room(NamedTuple):
    """A shared database that takes new tenants."""

    database: str
    capacity: int | None
    """Tenants that it may have; None: any number."""


class Rooms(NamedTuple):
    """The databases among which a new tenant's home is chosen."""

    rooms: Sequence[Room]
    spread: bool
    """True: the one that is filled least, by its capacity. False: the first that has room."""

    def full(self) -> NoRoom:
        """None of them takes another tenant."""
        return NoRoom({room.database: room.capacity for room in self.rooms})
