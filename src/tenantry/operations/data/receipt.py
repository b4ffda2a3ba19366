"""What an erasure has found and deleted, and where: values that are kept as proof."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

#: What stays, and why; for people.
KEPT: Final = (
    "the directory's row, as removed: the id, its database and epoch, so that no late request brings it back",
    "tenantry.placement and tenantry.move_gate in data databases: the same, for the databases",
    "tenantry.event and tenantry.move: who did what to the tenant, by its id",
)


@dataclass(slots=True)
class ErasedTable:
    """One table of one database."""

    table: str
    """Quoted."""
    found: int
    """Rows of the tenant when the erasure began; of an earlier run that was broken off, if there was one."""
    deleted: int = 0
    """By this run."""
    left: int | None = None
    """Counted at the end, in a snapshot of its own; None: not yet."""


@dataclass(slots=True)
class ErasedDatabase:
    """One database."""

    database: str
    kind: str
    """"shared" or "dedicated"."""
    home: bool
    """True: the tenant lived here; else what is found are leftovers."""
    tables: list[ErasedTable] = field(default_factory=list)
    unread: str | None = None
    """Why it could not be looked at; None: it was."""
    without_column: list[str] = field(default_factory=list)
    """Tables that no column says to be tenants' and no foreign key ties to them: not looked at."""


@dataclass(slots=True)
class ErasureReceipt:
    """An erasure, as far as it has come. Filled while it runs."""

    tenant: str
    erasure: int | None
    """Number of its event in `tenantry.event`; None: only looked."""
    started: str
    """ISO 8601, UTC."""
    databases: list[ErasedDatabase] = field(default_factory=list)
    ledger: dict[str, int] = field(default_factory=dict)
    """Rows of the ledger that have lost the id, by table: what was used, and when, stays."""
    tokens: int = 0
    """Sync tokens that were revoked and deleted, with their labels."""
    ended: str | None = None
    resumed: bool = False
    """True: an earlier run was broken off."""

    @property
    def complete(self) -> bool:
        """True if every database was looked at in the end, and none has a row left."""
        every = [table for one in self.databases for table in one.tables]
        return (
            self.ended is not None
            and all(one.unread is None for one in self.databases)
            and all(table.left == 0 for table in every)
        )

    @property
    def found(self) -> int:
        """Rows, over all databases."""
        return sum(table.found for one in self.databases for table in one.tables)

    @property
    def deleted(self) -> int:
        """Rows, by this run."""
        return sum(table.deleted for one in self.databases for table in one.tables)

    def as_json(self) -> dict[str, Any]:
        """For programs, and for the file that is kept."""
        return {
            "format": "tenantry erasure receipt",
            "version": 1,
            **asdict(self),
            "found": self.found,
            "deleted": self.deleted,
            "kept": list(KEPT),
            "complete": self.complete,
        }
