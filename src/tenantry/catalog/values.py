"""What the system catalogs say, as frozen values. Pure: `read` makes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from tenantry.runtime.sqltext import identifier

PUBLIC = "public"
"""The grantee and policy role that stands for everybody."""


class Relation(NamedTuple):
    """A table, partitioned table, foreign table, view, materialized view or sequence."""

    oid: int
    schema: str
    name: str
    kind: str
    """`pg_class.relkind`: r, p, f, v, m or S."""
    owner: str
    rls: bool
    forced: bool
    identity: str
    """`pg_class.relreplident`: d (the primary key), i (an index), f (whole rows), n (none)."""
    persistence: str
    """p, u (unlogged) or t."""
    partition: bool
    rows: float
    """The planner's estimate; 0 when unknown."""
    options: tuple[str, ...]
    parents: tuple[int, ...]
    """Direct parents: one of a partition, any number under inheritance."""
    owned_by: int | None
    """The table of a sequence."""

    @property
    def is_table(self) -> bool:
        """True for what holds rows and takes policies."""
        return self.kind in ("r", "p")

    @property
    def key(self) -> str:
        """`schema.name`, names as they are: how overrides and baselines call it."""
        return f"{self.schema}.{self.name}"

    @property
    def sql(self) -> str:
        """The quoted name."""
        return f"{identifier(self.schema)}.{identifier(self.name)}"


class Column(NamedTuple):
    """A column; `type` is the type beneath a domain, as `format_type` prints it."""

    number: int
    name: str
    type: str
    not_null: bool
    generated: str
    identity: str
    default: str | None
    deterministic: bool
    """False under a collation that calls different strings equal."""
    declared: int = 0
    """Object id of its type, the domain's if it is one; 0: not read."""


class Index(NamedTuple):
    """An index; `keys` are column numbers, 0 for an expression, INCLUDE columns left out."""

    oid: int
    relation: int
    name: str
    method: str
    unique: bool
    primary: bool
    valid: bool
    immediate: bool
    identity: bool
    predicate: str | None
    keys: tuple[int, ...]
    parent: int | None
    constraint: str | None


class Policy(NamedTuple):
    """A policy; `command` is *, r, a, w or d as in `pg_policy`."""

    relation: int
    name: str
    command: str
    permissive: bool
    roles: tuple[str, ...]
    using: str | None
    check: str | None
    widened: bool = False
    """True for a restrictive one of a table that Citus distributes: on the shards it is permissive, as here."""


class Constraint(NamedTuple):
    """A foreign key (f) or check constraint (c)."""

    oid: int
    relation: int
    name: str
    kind: str
    validated: bool
    inherited: bool
    """True for a partition's copy of its parent's."""
    columns: tuple[int, ...]
    target: int
    target_columns: tuple[int, ...]
    definition: str


class Grant(NamedTuple):
    """One privilege of one role on one object."""

    kind: str
    """relation, column, schema, function or large object."""
    oid: int
    privilege: str
    grantee: str


class Function(NamedTuple):
    """A function or procedure."""

    oid: int
    schema: str
    name: str
    arguments: str
    kind: str
    owner: str
    definer: bool
    volatility: str
    """i, s or v."""
    language: str
    config: tuple[str, ...]
    returns_set: bool
    returns: int
    """The relation whose row type it returns; 0 for other types."""
    inputs: int
    result: str
    """The type that it returns."""
    source: str

    @property
    def sql(self) -> str:
        """The quoted signature."""
        return f"{identifier(self.schema)}.{identifier(self.name)}({self.arguments})"

    @property
    def key(self) -> str:
        """`schema.name(arguments)`."""
        return f"{self.schema}.{self.name}({self.arguments})"


class Trigger(NamedTuple):
    """A trigger that people made."""

    relation: int
    name: str
    function: int
    enabled: bool
    replicated: bool
    """True if it fires for rows that replication brings: ENABLE ALWAYS, ENABLE REPLICA."""


class Role(NamedTuple):
    """A role and whose member it is, directly."""

    name: str
    superuser: bool
    bypass: bool
    replication: bool
    may_become: tuple[str, ...]
    """Roles that `SET ROLE` accepts."""
    inherits: tuple[str, ...]
    """Roles whose privileges it has without `SET ROLE`."""


class Way(NamedTuple):
    """One way by which a role can step past row-level security, or prepare to. See sql/catalog/ways.sql."""

    role: str
    way: str
    """superuser, bypassrls, replication, createrole, files, everything, secret, placement, directory, ours,
    statistics, function, preset, shadow or database.
    """
    object: str
    """To what; quoted, but for roles and settings."""
    holder: str
    """The role, another one that it can become, or "public"."""
    through: str | None
    """The role's own membership that leads to the holder; None: it is the holder, or everybody is."""
    privilege: str
    """What the holder may do, or the kind of object that it owns."""
    database: str


@dataclass(frozen=True, kw_only=True)
class Tables:
    """What the catalogs said of tables at one instant: enough to place them (`tables.tenant_tables`)."""

    relations: Mapping[int, Relation]
    columns: Mapping[int, tuple[Column, ...]]
    constraints: Mapping[int, tuple[Constraint, ...]]

    def column(self, relation: int, name: str) -> Column | None:
        """A column by name."""
        return next((c for c in self.columns.get(relation, ()) if c.name == name), None)

    def names(self, relation: int, numbers: Iterable[int]) -> tuple[str, ...]:
        """The names of columns; an index expression has none and is left out."""
        known = {c.number: c.name for c in self.columns.get(relation, ())}
        return tuple(known[number] for number in numbers if number in known)

    @cached_property
    def children(self) -> Mapping[int, tuple[int, ...]]:
        """Direct partitions and inheritance children."""
        found: dict[int, list[int]] = {}
        for relation in self.relations.values():
            for parent in relation.parents:
                found.setdefault(parent, []).append(relation.oid)
        return {parent: tuple(oids) for parent, oids in found.items()}

    def ancestors(self, oid: int) -> tuple[int, ...]:
        """Parents, their parents, and so on, nearest first."""
        found: dict[int, None] = {}
        todo = list(self.relations[oid].parents)
        while todo:
            parent = todo.pop(0)
            if parent in self.relations and parent not in found:
                found[parent] = None
                todo.extend(self.relations[parent].parents)
        return tuple(found)

    @cached_property
    def by_key(self) -> Mapping[str, Relation]:
        """Relations by `schema.name`."""
        return {relation.key: relation for relation in self.relations.values()}


@dataclass(frozen=True, kw_only=True)
class TableDetails(Tables):
    """What the catalogs said of tables at one instant: enough to carry them elsewhere."""

    indexes: Mapping[int, tuple[Index, ...]]
    triggers: Mapping[int, tuple[Trigger, ...]]

    def partitions(self, oid: int) -> tuple[Relation, ...]:
        """The partitions of a table, and theirs; none of a table that is only inherited from."""
        if self.relations[oid].kind != "p":
            return ()
        near = [self.relations[child] for child in self.children.get(oid, ())]
        return tuple(one for child in near for one in (child, *self.partitions(child.oid)))


@dataclass(frozen=True, kw_only=True)
class Catalog(TableDetails):
    """What the catalogs said at one instant."""

    version: int
    """`server_version_num`, for example 160014."""
    user: str
    database: str
    large_objects: int
    lo_compat_privileges: bool
    extensions: tuple[str, ...]
    schemas: Mapping[str, int]
    policies: Mapping[int, tuple[Policy, ...]]
    grants: tuple[Grant, ...]
    reads: Mapping[int, tuple[int, ...]]
    """View -> the relations that it reads directly."""
    functions: Mapping[int, Function]
    roles: Mapping[str, Role]
    ways: Mapping[str, tuple[Way, ...]]
    """By role, for those that have one."""
    distributed: Mapping[int, str] = field(default_factory=dict)
    """Tables that Citus manages -> the column by which it distributes them; "": none, they are whole."""

    @property
    def citus(self) -> bool:
        """True in a database with Citus."""
        return "citus" in self.extensions

    @cached_property
    def privileges(self) -> Mapping[tuple[str, int], Mapping[str, frozenset[str]]]:
        """(kind, oid) -> grantee -> privileges."""
        found: dict[tuple[str, int], dict[str, set[str]]] = {}
        for grant in self.grants:
            held = found.setdefault((grant.kind, grant.oid), {})
            held.setdefault(grant.grantee, set()).add(grant.privilege)
        return {where: {who: frozenset(what) for who, what in held.items()} for where, held in found.items()}

    def acts_as(self, role: str) -> frozenset[str]:
        """`role` and every role that it can use, by inheritance or `SET ROLE`; not PUBLIC."""
        found = {role}
        todo = [role]
        while todo:
            known = self.roles.get(todo.pop())
            for other in (*known.may_become, *known.inherits) if known else ():
                if other not in found:
                    found.add(other)
                    todo.append(other)
        return frozenset(found)

    def allowed(self, role: str, kind: str, oid: int) -> frozenset[str]:
        """What `role` may do with an object, directly, through PUBLIC or as another role."""
        held = self.privileges.get((kind, oid), {})
        who = {*self.acts_as(role), PUBLIC}
        return frozenset().union(*(what for name, what in held.items() if name in who))
