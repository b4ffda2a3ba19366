"""Which tables hold tenants' rows, by which column, and what the others are. Pure.

The answer for everybody: row-level security is made for these tables, audited and attacked on them; a move carries
them; a role that owns one is refused; storage is shared out over them. A table that can't be placed is listed with
the choices, never guessed at.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from tenantry.catalog.tenancy import IGNORE, ONCE, REFERENCE, Tenancy, compared_in
from tenantry.catalog.values import Column, Constraint, Relation, Tables
from tenantry.runtime.sqltext import identifier

#: What migration tools keep of their own: names that no product gives to a table of its rows.
BOOKKEEPING: Final = frozenset(
    {
        "alembic_version",
        "ar_internal_metadata",
        "atlas_schema_revisions",
        "databasechangelog",
        "databasechangeloglock",
        "django_migrations",
        "flyway_schema_history",
        "goose_db_version",
        "knex_migrations",
        "knex_migrations_lock",
        "schema_migrations",
        "_prisma_migrations",
        "_sqlx_migrations",
        "_yoyo_migration",
        "__drizzle_migrations",
        "__EFMigrationsHistory",
        "SequelizeMeta",
    }
)
_TABLES: Final = ("r", "p", "f")
_SEPARATORS: Final = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz", "_- ")


class Undecided(NamedTuple):
    """Something that the catalogs don't answer, with what can be done about it."""

    object: str
    """`schema.name` of the table, or the key of whatever it is about."""
    problem: str
    choices: tuple[str, ...]
    topic: str = "table"
    """table, column, nulls, key, foreign key, unique, view, policy, schema: what kind of question.
    """


def spelling(name: str) -> str:
    """What different spellings of one column name have in common: tenant_id, tenantId, "TENANT-ID".

    Letters are folded as ASCII, so that `translate(lower(name), '_- ', '')` says the same in every database.
    """
    return name.translate(_SEPARATORS)


@dataclass(frozen=True)
class TenantTables:
    """Every table of the product, placed. Keys are the tables' object ids; partitions are tables too."""

    tenants: Mapping[int, Column]
    """Tenant tables, with their tenant columns."""
    reference: frozenset[int]
    """All tenants read them and none owns them."""
    once: frozenset[int]
    """A new database gets a copy, and nothing links the two afterwards."""
    ignored: frozenset[int]
    unclear: Mapping[int, Undecided]
    """They hold, or may hold, tenants' rows, and it is not clear by which column."""
    without: Mapping[int, Undecided]
    """They have no tenant column, and nothing says what they are. Of a partition its parent is asked about."""
    dependent: Mapping[int, Constraint]
    """Of those without: the ones whose rows belong to tenants by a foreign key, directly or through each other or
    ignored tables, with the first key on the way.
    """
    waved_through: Mapping[int, Undecided]
    """Those that an override makes something else although their rows belong to tenants in that way: a move of one
    tenant would leave them behind, or could not keep their keys.
    """
    unmatched: tuple[Undecided, ...]
    """Overrides of tables that are not there."""

    @property
    def suspects(self) -> frozenset[int]:
        """The tables that hold, or may hold, tenants' rows."""
        return frozenset((*self.tenants, *self.unclear))

    @property
    def undecided(self) -> tuple[Undecided, ...]:
        """Everything that somebody has to decide."""
        return tuple(dict.fromkeys((*self.unclear.values(), *self.without.values(), *self.unmatched)))


def tenant_tables(tables: Tables, tenancy: Tenancy) -> TenantTables:
    """Place every table by override, by column, by its partition or inheritance parent, or among the undecided."""
    tenants: dict[int, Column] = {}
    placed: dict[str, set[int]] = {REFERENCE: set(), ONCE: set(), IGNORE: set()}
    unclear: dict[int, Undecided] = {}
    without: list[Relation] = []
    claims = _Claims(tables, tenancy)
    for relation in tables.relations.values():
        if relation.kind not in _TABLES:
            continue
        found = claims.of(relation.oid)
        if found.kind is not None:
            placed[found.kind].add(relation.oid)
        elif not found.suspect:
            without.append(relation)
        elif (problem := _problem(tables, relation, found, tenancy)) is not None:
            unclear[relation.oid] = problem
        else:
            tenants[relation.oid] = _column(tables, relation, found)
    outside = [*without, *(tables.relations[oid] for oid in sorted(set().union(*placed.values())))]
    chains = _Chains(tables, {*tenants, *unclear}, outside, {*placed[REFERENCE], *placed[ONCE]})
    hanging = chains.hanging()
    dependent = {relation.oid: hanging[relation.oid] for relation in without if relation.oid in hanging}
    for relation in without:
        if relation.name in BOOKKEEPING and relation.oid not in dependent:
            placed[ONCE].add(relation.oid)
    return TenantTables(
        tenants=tenants,
        reference=frozenset(placed[REFERENCE]),
        once=frozenset(placed[ONCE]),
        ignored=frozenset(placed[IGNORE]),
        unclear=unclear,
        without={
            relation.oid: _question(tables, tenants, dependent, _asked(tables, relation, without))
            for relation in without
            if relation.oid not in placed[ONCE]
        },
        dependent=dependent,
        waved_through={
            oid: _waved_through(tables, tables.relations[oid], kind, chains.keys(oid))
            for kind, oids in placed.items()
            for oid in sorted(oids)
            if oid in hanging and not any(parent in oids for parent in tables.relations[oid].parents)
        },
        unmatched=tuple(_unmatched(tables, tenancy)),
    )


class _Claim(NamedTuple):
    """What the configuration and the names of its columns make of one table."""

    kind: str | None
    """"reference", "once" or "ignore" by an override; None: none of these."""
    columns: tuple[str, ...]
    """The columns that may be the tenant's. More than one: it is undecided."""
    override: str | None = None
    """The tenant column that an override names; `columns` is empty if the table does not have it."""

    @property
    def suspect(self) -> bool:
        """True if the table holds, or may hold, tenants' rows."""
        return bool(self.columns or self.override)


class _Claims:
    """The claims of tables, each judged once."""

    # Mutable state: _known, by object id.

    def __init__(self, tables: Tables, tenancy: Tenancy) -> None:
        self._tables = tables
        self._tenancy = tenancy
        self._known: dict[int, _Claim] = {}

    def of(self, oid: int) -> _Claim:
        """The claim of a table: by its own override, or else as its parents, or else by its columns."""
        if oid not in self._known:
            self._known[oid] = self._overridden(oid) or self._inherited(oid) or self._spelled(oid)
        return self._known[oid]

    def _overridden(self, oid: int) -> _Claim | None:
        override = self._tenancy.tables.get(self._tables.relations[oid].key)
        if override is None:
            return None
        if override in (IGNORE, REFERENCE, ONCE):
            return _Claim(override, ())
        found = self._tables.column(oid, override)
        return _Claim(None, () if found is None else (found.name,), override)

    def _inherited(self, oid: int) -> _Claim | None:
        """A parent's rows are its children's: what holds for them there holds for them here.

        Under several parents that differ, a tenant's table wins: then nobody is let past it.
        """
        relation = self._tables.relations[oid]
        parents = [self.of(parent) for parent in relation.parents if parent in self._tables.relations]
        suspects = [parent for parent in parents if parent.suspect]
        if suspects:
            columns = dict.fromkeys(name for parent in suspects for name in parent.columns)
            override = next((parent.override for parent in suspects if parent.override), None)
            return _Claim(None, tuple(columns), override)
        if parents and all(parent.kind for parent in parents):
            return parents[0]
        return None

    def _spelled(self, oid: int) -> _Claim:
        names = [column.name for column in self._tables.columns.get(oid, ())]
        if self._tenancy.column in names:
            return _Claim(None, (self._tenancy.column,))
        wanted = spelling(self._tenancy.column)
        return _Claim(None, tuple(name for name in names if spelling(name) == wanted))


def _column(tables: Tables, relation: Relation, found: _Claim) -> Column:
    column = tables.column(relation.oid, found.columns[0])
    assert column is not None  # a claim names columns that are there, and a child has its parent's
    return column


def _problem(tables: Tables, relation: Relation, found: _Claim, tenancy: Tenancy) -> Undecided | None:
    """Why the tenant column of a table that has one, or should, is not clear. None: it is."""
    if not found.columns:
        return Undecided(
            relation.key,
            f"the override names the column {found.override!r}, which the table does not have",
            ("correct the override",),
        )
    if len(found.columns) > 1:
        names = " and ".join(repr(name) for name in found.columns)
        return Undecided(
            relation.key,
            f"{names} could {'both' if len(found.columns) == 2 else 'all'} be the tenant column",
            tuple(_as(relation, name) for name in found.columns),
            "column",
        )
    if relation.kind == "f":
        return Undecided(
            relation.key,
            "a foreign table takes no policies",
            (
                "revoke it from the application role and read it through the operator's scope",
                _as(relation, IGNORE),
            ),
        )
    column = _column(tables, relation, found)
    if compared_in(column.type, tenancy.id_type) is None or not column.deterministic:
        return Undecided(
            relation.key,
            f"the tenant column {column.name!r} is {column.type}"
            + ("" if column.deterministic else " under a nondeterministic collation")
            + f", which can't be compared safely with ids of type {tenancy.id_type.value}",
            (f"change the column to {tenancy.id_type.value}", _as(relation, IGNORE)),
            "column",
        )
    return None


def _as(relation: Relation, choice: str) -> str:
    return f"tables: {{{relation.key}: {choice}}}"


class _Chains:
    """Foreign keys of tables that are no tenants', followed to any depth.

    A partition's keys are its parents' too, because its rows are; and what hangs there, hangs in its partitions. A
    chain does not go through `ends`: their rows are everybody's.
    """

    def __init__(
        self, tables: Tables, owners: Collection[int], outside: Sequence[Relation], ends: Collection[int]
    ) -> None:
        self._owners = frozenset(owners)
        self._ends = frozenset(ends)
        self._above = {relation.oid: tables.ancestors(relation.oid) for relation in outside}
        self._keys: dict[int, list[Constraint]] = {relation.oid: [] for relation in outside}
        for relation in outside:
            for key in tables.constraints.get(relation.oid, ()):
                if key.kind == "f" and not key.inherited:
                    for oid in (relation.oid, *self._above[relation.oid]):
                        self._keys.get(oid, []).append(key)

    def hanging(self) -> dict[int, Constraint]:
        """The tables whose rows belong to tenants, each with the key nearest to a tenant's."""
        return self._reach(frozenset())

    def keys(self, oid: int) -> list[Constraint]:
        """All keys by which a table's rows belong to tenants, without those that lead round to itself."""
        reached = self._owners | {*self._reach(frozenset({oid}))} - self._ends
        own = [key for key in self._keys[oid] if key.target in reached]
        return own or [key for above in self._above[oid] for key in self.keys(above)]

    def _reach(self, left_out: frozenset[int]) -> dict[int, Constraint]:
        found: dict[int, Constraint] = {}
        near: frozenset[int] = self._owners
        while near:
            more: dict[int, Constraint] = {}
            for oid, keys in self._keys.items():
                key = next((key for key in keys if key.target in near), None)
                if key is not None and oid not in found and oid not in left_out:
                    more[oid] = key
            for oid, above in self._above.items():
                parent = next((one for one in above if one in more), None)
                if parent is not None and oid not in {*found, *more, *left_out}:
                    more[oid] = more[parent]
            found |= more
            near = frozenset(more) - self._ends
        return found


def _asked(tables: Tables, relation: Relation, without: Sequence[Relation]) -> Relation:
    """The table to ask about: for a partition or child the one that it has its columns from."""
    asked = {one.oid for one in without}
    above = [oid for oid in tables.ancestors(relation.oid) if oid in asked]
    return tables.relations[above[-1]] if above else relation


def _waved_through(tables: Tables, relation: Relation, kind: str, keys: Sequence[Constraint]) -> Undecided:
    ways = " and ".join(f"{key.name} to {tables.relations[key.target].key}" for key in keys)
    problem = {
        IGNORE: "they would stay behind, and reference rows that are gone",
        REFERENCE: "a tenant's own database could not keep the key",
        ONCE: "a tenant's own database could not keep the key",
    }[kind]
    drops = "; ".join(
        f"ALTER TABLE {tables.relations[key.relation].sql} DROP CONSTRAINT {identifier(key.name)}" for key in keys
    )
    return Undecided(
        relation.key,
        f"is listed as {kind!r}, but its rows belong to tenants by its foreign key {ways}: {problem}",
        (
            "take it out of `tables:` and give it the tenant column (`tenantry rls audit` prints the statements)",
            f"if its rows are nobody's: {drops}",
        ),
    )


def _question(
    tables: Tables, tenants: Mapping[int, Column], dependent: Mapping[int, Constraint], relation: Relation
) -> Undecided:
    registry = _registry_column(tables, tenants, relation)
    if registry is not None:
        return Undecided(
            relation.key,
            "looks like the list of tenants itself (tenant columns refer to it)",
            (
                f"{_as(relation, registry)}: each tenant sees its own row",
                f"{_as(relation, REFERENCE)}: every tenant sees all of it",
                _as(relation, IGNORE),
            ),
        )
    if relation.oid in dependent:
        through = dependent[relation.oid]
        parent = tables.relations[through.target]
        return Undecided(
            relation.key,
            f"belongs to a tenant only through its foreign key {through.name} to {parent.key}",
            (
                f"add the tenant column and fill it from {parent.key}",
                f"{_as(relation, REFERENCE)}: every tenant sees all of it, and no tenant can be moved",
                f"{_as(relation, IGNORE)}: it stays as it is, with its policies, and no tenant can be moved",
            ),
        )
    return Undecided(
        relation.key,
        "has no tenant column",
        (
            "add the tenant column",
            f"{_as(relation, REFERENCE)}: every tenant sees all of it",
            _as(relation, IGNORE),
        ),
    )


def _registry_column(tables: Tables, tenants: Mapping[int, Column], relation: Relation) -> str | None:
    for oid, column in tenants.items():
        for constraint in tables.constraints.get(oid, ()):
            if (
                constraint.kind == "f"
                and constraint.target == relation.oid
                and constraint.columns == (column.number,)
            ):
                return tables.names(relation.oid, constraint.target_columns)[0]
    return None


def _unmatched(tables: Tables, tenancy: Tenancy) -> Iterator[Undecided]:
    there = {relation.key for relation in tables.relations.values() if relation.kind in _TABLES}
    for key in tenancy.tables:
        if key not in there:
            yield Undecided(key, "the override names a table that is not there", ("remove the override",))
