"""What a move will do, decided from what the catalogs say. Pure: no I/O, no clock, no randomness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, NamedTuple

from tenantry.catalog.tables import TenantTables, Undecided
from tenantry.ids import Kind
from tenantry.move import plan_format
from tenantry.move.catalog import Generator, Table
from tenantry.move.errors import PreflightFinding
from tenantry.runtime.sqltext import identifier, literal

# Ids for the target's sequences. Each move gets a block of its own, so that ids given out by a dedicated database
# never meet those of the shared one or of another dedicated one when the tenant comes back.
_BIG_MAX: Final = 2**62
_BIG_BLOCK: Final = 2**40
_INT_BASE: Final = 2**30
_INT_BLOCK: Final = 2**24
_INT_MAX: Final = 2**31 - 1


class Mechanism(StrEnum):
    """How the rows travel."""

    REPLICATION = "replication"
    COPY = "copy"
    """Under the fence, with consent to the pause: chosen by it, needed where logical replication can't be had."""


class SequenceRule(StrEnum):
    """What becomes of a sequence of the target."""

    BLOCK = "block"
    """It starts at a block of its own, before the fence."""
    FOLLOW = "follow"
    """It is set past the source's value, in the fence."""
    KEEP = "keep"
    """It stays: it is ahead of all ids of its range already."""


class Selection(NamedTuple):
    """The application's tables, told apart."""

    tenant: tuple[tuple[Table, str], ...]
    """Tables with a tenant column, and the column."""
    reference: tuple[Table, ...]
    """Tables that all tenants read: the target needs them for its foreign keys."""
    stranded: tuple[tuple[Table, str], ...]
    """Tables without the tenant column whose rows belong to tenants by foreign keys, and the first of these."""
    other: tuple[Table, ...]
    """The rest: not carried."""
    unclear: tuple[tuple[Table, Undecided], ...] = ()
    """Tables that hold, or may hold, tenants' rows, it is not clear by which column."""
    unmatched: tuple[Undecided, ...] = ()
    """Overrides of tables that are not there, or that say something else of tables with tenants' rows."""
    once: tuple[Table, ...] = ()
    """A target whose schema the move brings gets their rows with it; nothing links them afterwards."""


@dataclass(frozen=True, slots=True)
class TablePlan:
    """A table that travels."""

    schema: str
    name: str
    column: str
    """The tenant column; "" for a reference table."""
    columns: tuple[str, ...]
    """Those that are stored, so that COPY carries them."""
    key: tuple[str, ...]
    """Columns of a unique key, for chunks and batches; empty: there is none."""
    identity: str | None
    """Index that is to be the replica identity on both sides; "": all columns are; None: none is needed."""
    binary: bool
    """True if COPY's binary format means the same on both sides."""
    rows: int = 0
    """Estimate."""
    bytes: int = 0
    """Estimate."""

    @property
    def quoted(self) -> str:
        """Its name, schema-qualified and quoted."""
        return f"{identifier(self.schema)}.{identifier(self.name)}"

    def where(self, tenant: str) -> str:
        """The predicate of this tenant's rows. A bare literal takes the column's own type."""
        return f"({identifier(self.column)} = {literal(tenant)})" if self.column else "(true)"

    def deletion(self, tenant: str, limit: int, *, distribution: str | None = None) -> str:
        """The statement that deletes `limit` of this tenant's rows at most, in the key's order.

        Args:
            distribution: the column by which Citus distributes the table; None: it does not. Citus deletes by no
                place of rows (ctid), and in batches only on one shard: all rows go at once else.
        """
        order = ", ".join(f"t.{identifier(name)}" for name in self.key)
        if distribution is not None:
            some = (
                f"SELECT {order} FROM {self.quoted} AS t WHERE {self.where(tenant)} ORDER BY {order} LIMIT {limit}"  # noqa: S608  quoted
            )
            key = ", ".join(identifier(name) for name in self.key)
            batch = f" AND ({key}) IN ({some})" if self.key and distribution == self.column else ""
            return f"DELETE FROM {self.quoted} WHERE {self.where(tenant)}{batch}"  # noqa: S608  quoted
        return (
            f"DELETE FROM {self.quoted} AS gone USING ("  # noqa: S608  quoted
            f"SELECT t.tableoid AS oid, t.ctid AS row FROM {self.quoted} AS t WHERE {self.where(tenant)} "
            f"{f'ORDER BY {order} ' if order else ''}LIMIT {limit}"
            ") AS old WHERE gone.tableoid = old.oid AND gone.ctid = old.row"
        )


@dataclass(frozen=True, slots=True)
class SequencePlan:
    """A sequence of the target."""

    quoted: str
    rule: SequenceRule
    start: int
    """First value of its block; 0 unless the rule is BLOCK."""


@dataclass(frozen=True, slots=True)
class Creation:
    """How a target that is not there yet is made: like the source's database."""

    name: str
    """On its server."""
    owner: str
    encoding: str
    collate: str
    ctype: str
    provider: str
    """Of the locale: "c" libc, "i" ICU, "b" builtin."""
    locale: str | None
    """The provider's own; None: it has none."""
    rules: str | None
    """ICU's tailoring."""
    guarded: bool
    """True: the source's database says who may connect, so PUBLIC's default is taken away."""
    grants: tuple[tuple[str, str], ...]
    """Roles ("" is PUBLIC) and privileges on the database."""
    settings: tuple[str, ...]
    """name=value, as ALTER DATABASE … SET has them."""
    role_settings: tuple[tuple[str, str, str], ...] = ()
    """Roles, and a setting that their sessions begin with: name, value."""


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """The disk space that a move has at its target."""

    free: int | None
    """Bytes; None: it can't be known."""
    origin: str
    """Where that is known from, or why it isn't."""
    needed: int
    """Bytes that the copy will take, an estimate from the source's sizes."""
    log: int
    """Bytes of write-ahead log that the target may keep beside it (max_wal_size)."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a move is likely to take. Ranges: from the better to the worse case."""

    seconds: tuple[float, float]
    """From the start to the flip, while the tenant works."""
    pause: tuple[float, float]
    """Seconds for which the tenant's clients wait at the flip."""
    origin: str
    """What the figures lean on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MovePlan:
    """One move, decided.

    Journalled, and read again by other releases (`plan_format`): a field that is added has a default, which means
    what the releases without it did.
    """

    id: str
    tenant: str
    source: str
    target: str
    source_kind: Kind
    target_kind: Kind
    mechanism: Mechanism
    epoch: int
    """The tenant's epoch before the flip."""
    setting: str
    id_type: str
    tables: tuple[TablePlan, ...]
    references: tuple[TablePlan, ...] = ()
    sequences: tuple[SequencePlan, ...] = ()
    load_schema: bool = False
    """True: the target has no tables yet, pg_dump brings them."""
    shape: str = ""
    """Digest of the tables' shape, at the source; "": unknown, and the move does not flip."""
    storage: str = ""
    """The source tables' files; "": unknown, likewise."""
    pause: float = 0.8
    """Seconds of pause: the cap, or the consented estimate for a copy under the fence."""
    findings: tuple[PreflightFinding, ...] = ()
    creation: Creation | None = None
    """None: the target is there."""
    disk_space: DiskSpace | None = None
    estimate: Estimate | None = None
    once: tuple[TablePlan, ...] = ()
    """Tables that are copied with the schema, and not compared or followed: a migration tool's own."""
    version: int = plan_format.VERSION
    """Of the journal's form of the plan."""

    @property
    def refusals(self) -> tuple[PreflightFinding, ...]:
        """What stops this move before it starts."""
        return tuple(finding for finding in self.findings if finding.refuses)

    @property
    def rows(self) -> int:
        """Estimate of the tenant's rows."""
        return sum(table.rows for table in self.tables)

    @property
    def bytes(self) -> int:
        """Estimate of the tenant's bytes."""
        return sum(table.bytes for table in self.tables)

    def names(self) -> list[str]:
        """All tables that travel, quoted."""
        return [table.quoted for table in (*self.tables, *self.references)]

    def to_json(self) -> str:
        """For the journal."""
        return plan_format.encode(self)

    @classmethod
    def from_json(cls, text: str) -> MovePlan:
        """From the journal.

        Raises:
            plan_format.Unreadable: a later release wrote it, or it is no plan.
        """
        version = plan_format.version_of(text)
        if version > plan_format.VERSION:
            raise plan_format.Unreadable(
                f"it has format {version}, and this release reads formats up to {plan_format.VERSION}"
            )
        return replace(plan_format.decode(cls, text), version=version)


def select(tables: Sequence[Table], placed: TenantTables) -> Selection:
    """Tell the tables apart: what they are is the catalog's answer, what the move makes of them is ours."""
    rest = {
        table.oid: table
        for table in tables
        if table.oid not in placed.suspects and table.oid not in placed.reference and table.oid not in placed.once
    }
    mine = [(table, placed.tenants[table.oid].name) for table in tables if table.oid in placed.tenants]
    listed = [table for table in tables if table.oid in placed.reference]
    free = {oid: table for oid, table in rest.items() if oid in placed.without and oid not in placed.dependent}
    needed = _referenced([table for table, _ in mine] + listed, free)
    left = {*needed, *placed.dependent, *placed.waved_through}
    return Selection(
        tuple(mine),
        (*listed, *(free[oid] for oid in sorted(needed))),
        tuple((table, placed.dependent[oid].name) for oid, table in rest.items() if oid in placed.dependent),
        tuple(table for oid, table in rest.items() if oid not in left),
        tuple((table, placed.unclear[table.oid]) for table in tables if table.oid in placed.unclear),
        (*placed.unmatched, *placed.waved_through.values()),
        tuple(table for table in tables if table.oid in placed.once),
    )


def _referenced(start: Sequence[Table], free: Mapping[int, Table]) -> set[int]:
    """Tables among `free` that `start` needs for its foreign keys, directly or through each other."""
    needed: set[int] = set()
    todo = list(start)
    while todo:
        for reference in todo.pop().references:
            if reference.to in free and reference.to not in needed:
                needed.add(reference.to)
                todo.append(free[reference.to])
    return needed


def table_plan(table: Table, column: str, rows: int) -> TablePlan:
    """How one table travels. `rows`: estimate of those that do."""
    stored = [c for c in table.columns if not c.generated]
    width = table.bytes / table.rows if table.rows else 100.0
    key = _travel_key(table, column)
    return TablePlan(
        schema=table.schema,
        name=table.name,
        column=column,
        columns=tuple(c.name for c in stored),
        key=key,
        identity=fitting_identity(table, column) if column else None,
        binary=all(c.portable for c in stored),
        rows=rows,
        bytes=int(rows * width),
    )


def _travel_key(table: Table, column: str) -> tuple[str, ...]:
    """The key that chunks follow: without the tenant column, which is the same in all of the tenant's rows."""
    for key in table.keys:
        columns = tuple(name for name in key.columns if name != column)
        if columns:
            return columns
    return table.keys[0].columns if table.keys else ()


def fitting_identity(table: Table, column: str) -> str | None:
    """The index that is, or has to become, the replica identity; "" if all columns are.

    None says that there is none with the tenant column: an UPDATE or DELETE of any tenant would fail from the
    moment that the table is published with a filter on a column outside the identity.
    """
    if table.identity == "f":
        return ""
    fitting = [key for key in table.keys if column in key.columns]
    in_force = table.identity_key()
    if in_force in fitting:
        return in_force.name
    return min(fitting, key=lambda key: (not key.primary, len(key.columns))).name if fitting else None


def sequence_plan(
    sequence: Generator, tables: Mapping[int, tuple[Table, str]], target_kind: Kind, block: int
) -> SequencePlan | None:
    """What becomes of the target's counterpart of `sequence`. None: its ids would collide on the way back.

    `tables` are the tenant's, by object id, each with its tenant column; `block` is the move's number.
    """
    if sequence.increment < 0:
        return None  # blocks, and "past the source's value", are counted upwards
    collides = False
    for oid, fed in sequence.feeds:
        table, column = tables.get(oid, (None, ""))
        keys = (*table.keys, *table.uniques) if table else ()
        collides |= any(fed in key.columns and column not in key.columns for key in keys)
    if target_kind is Kind.SHARED:
        # The shared sequence goes on counting in its low range; only ids that came from there are low.
        rule = SequenceRule.KEEP if collides or sequence.last >= _INT_BASE else SequenceRule.FOLLOW
        return SequencePlan(sequence.quoted, rule, 0)
    if sequence.max >= _BIG_MAX and sequence.last < _BIG_BLOCK * max(block, 1):
        return SequencePlan(sequence.quoted, SequenceRule.BLOCK, _BIG_BLOCK * block + 1)
    if not collides:
        return SequencePlan(sequence.quoted, SequenceRule.FOLLOW, 0)
    start = _INT_BASE + _INT_BLOCK * block
    if sequence.last < _INT_BASE and start + _INT_BLOCK <= sequence.max:
        return SequencePlan(sequence.quoted, SequenceRule.BLOCK, start)
    return None


def blocks_begin(sequence: Generator) -> int:
    """From here on a sequence's ids are of the blocks that moves give out; a shared one counts below."""
    return _BIG_BLOCK if sequence.max >= _BIG_MAX else _INT_BASE


def in_block(sequences: Sequence[SequencePlan], block: int) -> tuple[SequencePlan, ...]:
    """The sequences with their starts in the block that the move has got: it may be a later one than was foreseen.

    Raises:
        OverflowError: an integer has no such block.
    """
    return tuple(
        replace(s, start=_in_block(s.start, block)) if s.rule is SequenceRule.BLOCK else s for s in sequences
    )


def _in_block(start: int, block: int) -> int:
    if start >= _BIG_BLOCK:
        return _BIG_BLOCK * block + start % _BIG_BLOCK
    begins = _INT_BASE + _INT_BLOCK * block
    if begins + _INT_BLOCK > _INT_MAX:
        raise OverflowError
    return begins + start % _INT_BLOCK
