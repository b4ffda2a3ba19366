"""What the catalogs say about an end of the move, as values; `preflight/read_side.py` reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from tenantry.catalog.values import TableDetails
from tenantry.runtime.sqltext import identifier


class TravelColumn(NamedTuple):
    """A column of a table."""

    name: str
    type: str
    """Of a domain: the type beneath."""
    not_null: bool
    generated: bool
    portable: bool
    """True if the binary format means the same in another database: no object ids in it."""
    oid_type: bool
    """True for oid and lo: may point to a large object."""
    comparable: bool = True
    """True if PostgreSQL has an equality for its type; json, xml and point, say, have none."""


class Key(NamedTuple):
    """A unique key that could be a replica identity."""

    name: str
    """Of its index."""
    primary: bool
    identity: bool
    columns: tuple[str, ...]


class Reference(NamedTuple):
    """A foreign key."""

    name: str
    to: int
    """Object id of the referenced table."""
    columns: tuple[str, ...]
    far: tuple[str, ...]
    """The referenced columns."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the application."""

    oid: int
    schema: str
    name: str
    kind: str
    """"r" ordinary, "p" partitioned, "f" foreign."""
    persistence: str
    """"p" permanent, "u" unlogged."""
    identity: str
    """Replica identity: "d" default, "i" index, "f" full, "n" nothing."""
    rows: float
    bytes: int
    inherits: bool
    owner: str
    ours: bool
    """True if our role may do what its owner may."""
    grantees: tuple[str, ...]
    columns: tuple[TravelColumn, ...]
    keys: tuple[Key, ...]
    """Those that would do as a replica identity."""
    references: tuple[Reference, ...]
    uniques: tuple[Key, ...] = ()
    """The other unique keys: deferrable, partial, or over columns that may be NULL."""
    odd: tuple[tuple[str, str], ...] = ()
    """Partitions that are foreign ("f") or unlogged ("u"), by their quoted names."""
    always: tuple[str, ...] = ()
    """Triggers, of partitions too, that fire for replicated rows: ENABLE ALWAYS, ENABLE REPLICA."""

    @property
    def quoted(self) -> str:
        """Its name, schema-qualified and quoted."""
        return f"{identifier(self.schema)}.{identifier(self.name)}"

    @property
    def foreign(self) -> bool:
        """True if rows of it are in another server."""
        return self.kind == "f" or any(kind == "f" for _, kind in self.odd)

    def identity_columns(self) -> frozenset[str]:
        """The columns of the replica identity in force; empty if there is none."""
        if self.identity == "f":
            return frozenset(column.name for column in self.columns)
        key = self.identity_key()
        return frozenset(key.columns if key else ())

    def identity_key(self) -> Key | None:
        """The key that is the replica identity in force; None: all columns are, or there is none."""
        for key in self.keys:
            if key.identity if self.identity == "i" else self.identity == "d" and key.primary:
                return key
        return None


class Generator(NamedTuple):
    """A sequence of the application."""

    schema: str
    name: str
    max: int
    """The largest value that it may give out, and that the columns which it feeds hold."""
    increment: int
    feeds: tuple[tuple[int, str], ...]
    """The columns that it feeds: object id of the table, and name."""
    last: int
    """The last value given out; 0: none yet."""

    @property
    def quoted(self) -> str:
        """Its name, schema-qualified and quoted."""
        return f"{identifier(self.schema)}.{identifier(self.name)}"


@dataclass(frozen=True, slots=True)
class Local:
    """What the database calls itself."""

    name: str
    kind: str
    setting: str
    id_type: str
    tenant: str | None


@dataclass(frozen=True, slots=True)
class Side:
    """One end of a move, as its catalogs show it."""

    server: dict[str, Any]
    """The columns of sql/move/server.sql."""
    pooled: bool
    """True: a pooler answered."""
    tables: tuple[Table, ...]
    sequences: tuple[Generator, ...]
    local: Local | None
    """None: tenantry's schema is not installed, or the database was not named."""
    details: TableDetails | None = None
    """What `tables` was made of; None: the database is not there yet."""
