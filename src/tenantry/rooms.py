"""The databases among which a new tenant's home is chosen. See `directory.placements.add_to_room`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from tenantry.errors import NoRoom
from tenantry.residence import Residence, mismatches

FIRST: Final = "first"
LEAST_LOADED: Final = "least-loaded"


class Room(NamedTuple):
    """A shared database that takes new tenants."""

    database: str
    capacity: int | None
    """Tenants that it may have; None: any number."""
    residence: Residence = Residence()


class Rooms(NamedTuple):
    """The databases among which a new tenant's home is chosen."""

    rooms: Sequence[Room]
    spread: bool
    """True: the one that is filled least, by its capacity. False: the first that has room."""

    def fitting(self, tenant: Residence) -> Rooms:
        """Those in which such a tenant may live."""
        fit = [room for room in self.rooms if not any(mismatches(tenant, room.residence))]
        return self._replace(rooms=fit)

    def full(self, tenant: Residence = Residence()) -> NoRoom:  # noqa: B008  a value
        """None of them takes another such tenant."""
        unfit = {room.database: ", and ".join(map(str, mismatches(tenant, room.residence))) for room in self.rooms}
        return NoRoom(
            {room.database: room.capacity for room in self.rooms if not unfit[room.database]},
            {name: why for name, why in unfit.items() if why},
            str(tenant),
        )
