"""What preflight judges, as values: readers make them, rules judge them. Nothing here asks a database."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple

from tenantry.ids import Kind
from tenantry.move.catalog import Side
from tenantry.move.definitions import Definition
from tenantry.move.normal_form import normal_form
from tenantry.move.plan import Creation, DiskSpace, Mechanism, Selection
from tenantry.move.surroundings import Surrounding
from tenantry.runtime.sqltext import identifier

#: What the guard says, plain, on Citus, and hardened: the forms prove the same in different ways.
_PROOF: Final = (
    r"(\( SELECT tenantry\.admitted\(\) AS admitted\)"
    r"|\(NULLIF\(current_setting\('tenantry\.bound'::text, true\), ''::text\) = "
    r"current_setting\('[a-z0-9_.]+'::text, true\)\)"
    r"|COALESCE\(\(.{1,200} = \( SELECT .{1,80} AS admitted_tenant\)\), false\))"
)
_GUARD: Final = re.compile(_PROOF)
#: A tenant policy of earlier versions: both halves in one.
_BOTH: Final = re.compile(rf"\((\(.*\)) AND {_PROOF}\)", re.DOTALL)


class TablePolicy(NamedTuple):
    """A policy, but for its name, which means nothing."""

    permissive: bool
    command: str
    roles: tuple[str, ...]
    """Quoted where they have to be; "PUBLIC" is everybody."""
    using: str | None
    check: str | None

    def normalized(self) -> frozenset[TablePolicy]:
        """`halves` with one form for each expression, for comparing both ends."""
        return frozenset(half if half == PROVEN else half._normal() for half in self.halves())

    def _normal(self) -> TablePolicy:
        using, check = (None if text is None else normal_form(text) for text in self[3:])
        return self._replace(using=using, check=check)

    def halves(self) -> frozenset[TablePolicy]:
        """What it does: all guards are equal, a tenant policy of earlier versions is two."""
        using, check = self[3:]
        if self[1:3] != ("ALL", ("PUBLIC",)) or using is None or check is None:
            return frozenset({self})
        if not self.permissive:
            return frozenset({PROVEN if _GUARD.fullmatch(using) and _GUARD.fullmatch(check) else self})
        both = _BOTH.fullmatch(using), _BOTH.fullmatch(check)
        if both[0] is None or both[1] is None:
            return frozenset({self})
        return frozenset({self._replace(using=both[0][1], check=both[1][1]), PROVEN})

    def is_tenant_policy(self, column: str, setting: str) -> bool:
        """True if it is the tenant policy, whatever the form of its comparison."""
        tie = re.compile(
            rf"\(\(?(?:{re.escape(column)}|{re.escape(identifier(column))})\)?(?:::[\w ]+)? = "
            rf"[^=]*current_setting\('{re.escape(setting)}'::text[^=]*\)"
        )
        texts = [text for text in (self.using, self.check) if text is not None]
        whole = (self.permissive, self.command, self.roles) == (True, "ALL", ("PUBLIC",)) and len(texts) == 2
        return whole and all(tie.fullmatch(text) and " OR " not in text for text in texts)

    def statement(self, name: str, table: str) -> str:
        """Makes it."""
        using = "" if self.using is None else f" USING ({self.using})"
        check = "" if self.check is None else f" WITH CHECK ({self.check})"
        return (
            f"CREATE POLICY {identifier(name)} ON {table} AS {'PERMISSIVE' if self.permissive else 'RESTRICTIVE'} "
            f"FOR {self.command} TO {', '.join(self.roles)}{using}{check}"
        )


#: A guard, whatever its form.
PROVEN: Final = TablePolicy(False, "ALL", ("PUBLIC",), "proven", "proven")


class Privilege(NamedTuple):
    """A privilege that a role has, however it got it."""

    on: str
    """As GRANT has it: a table, or SEQUENCE or SCHEMA and a name."""
    privilege: str
    """Of a column: with its name in parentheses."""
    role: str


@dataclass(frozen=True, slots=True)
class Access:
    """What guards the tables of one end, and who may use them."""

    roles: tuple[str, ...] = ()
    """The application's: those that may bind tenants."""
    guards: frozenset[tuple[str, str]] = frozenset()
    """Tables, and what their row-level security is: "ENABLE", "FORCE"."""
    policies: tuple[tuple[str, str, TablePolicy], ...] = ()
    """Table, name, policy."""
    triggers: tuple[tuple[str, str, str, str], ...] = ()
    """Table, name, pg_trigger.tgenabled, definition: of the product's own."""
    may: frozenset[Privilege] = frozenset()
    """Privileges of the application's roles at both ends."""
    granted: frozenset[Privilege] = frozenset()
    """What was granted on tables, to any role but their owners."""
    sequences: frozenset[str] = frozenset()
    """Those of the source that are there."""

    def of(self, table: str) -> dict[str, TablePolicy]:
        """The policies of a table, by their names."""
        return {name: policy for on, name, policy in self.policies if on == table}


#: Seconds that one look at one foreign key may take, of two; and all looks together.
PATIENCE: Final = 2.0
ALTOGETHER: Final = 30.0


class CrossTenantKey(NamedTuple):
    """A foreign key by which rows of two tenants hang together, or may."""

    constraint: str
    child: str
    """The table, or partition, whose rows reference. These names are quoted where they have to be."""
    parent: str
    """The one whose rows are referenced."""
    outward: bool
    """True: rows of the moving tenant reference others'. False: others' reference its own."""
    rows: int | None
    """The referencing rows; None: they could not be counted."""
    query: str
    """Finds them."""


class MisspeltRows(NamedTuple):
    """Rows that are meant as the tenant's and spell it otherwise."""

    table: str
    """Quoted."""
    column: str
    rows: int | None
    """None: they could not be counted."""
    where: str
    """Their predicate."""


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """A table, or a partition of one, in a publication."""

    database: str
    table: str
    """Of the tenant; quoted, as all these names."""
    part: str
    publication: str
    listed: tuple[str, ...]
    """The columns that it is published with; empty: all."""
    filtered: tuple[str, ...]
    """The columns that its filter reads."""
    filter: str | None


class Hardening(NamedTuple):
    """What there is of hardened mode in one database."""

    hardened: bool | None = None
    """None: the tenantry schema is not installed."""
    has_key: bool = False
    """True if the mover was given the database's key."""
    right_key: bool | None = None
    """Whether that is the key that the database has; None: it can't be told."""


#: The plan whose limits hold where a plan has none of its own.
DEFAULT_PLAN: Final = "default"


class Kits(NamedTuple):
    """The kits of one database."""

    installed: tuple[str, ...] = ()
    watched: frozenset[tuple[str, str]] = frozenset()
    """What kits watch: the kit and the statement that lets it watch a table."""
    limits: Mapping[tuple[str, str], int | None] = MappingProxyType({})
    """Rows that plans allow, by plan and resource; None: no limit."""
    plan: str = DEFAULT_PLAN
    """By whose limits the tenant that moves goes."""
    exceptions: frozenset[str] = frozenset()
    """Resources for which it has a limit of its own."""


class MigrationState(NamedTuple):
    """What `tenantry migrate` has to say of one end."""

    database: str
    run: str | None
    """An unfinished run that has not been done there; None: there is none."""
    state: str | None
    """Where it stands in that run."""
    locked: bool
    """True while a command changes its schema."""


class FailedLogin(NamedTuple):
    """A program of the move that can't log in."""

    database: str
    """Where."""
    program: str
    said: str


@dataclass(frozen=True, slots=True)
class PreflightFacts:
    """What preflight judges."""

    tenant: str
    source_name: str
    target_name: str
    target_kind: Kind
    source: Side
    target: Side
    selection: Selection
    mechanism: Mechanism
    consent: float | None
    """Seconds of pause to which the operator has agreed, for a copy under the fence."""
    estimate: float
    """Seconds that such a copy would take."""
    source_home: tuple[str, int, bool] | None
    """The source's placement row: home, epoch, suspended."""
    source_definitions: tuple[Definition, ...]
    """What the tables are made of, at the source; not asked where the target has none of them."""
    target_definitions: tuple[Definition, ...]
    occupied: tuple[str, ...]
    """Tables of the target that hold rows of this tenant, or of anybody when it is to be dedicated."""
    bypassing: tuple[str, ...]
    """Sessions that write past the fence."""
    bypassing_open: tuple[str, ...]
    """Open sessions that could."""
    colliding: tuple[str, ...]
    """Sequences whose ids would collide."""
    null_tenants: tuple[str, ...]
    """Tables with rows whose tenant is NULL."""
    pg_dump: str | None
    """The program that can dump the source; None: not found."""
    creation: Creation | None
    """How the target will be made; None: it is there."""
    disk_space: DiskSpace
    failed_logins: tuple[FailedLogin, ...] = ()
    distributed: tuple[tuple[str, str], ...] = ()
    """Tables that Citus manages: the database, and the table."""
    cross_tenant_keys: tuple[CrossTenantKey, ...] = ()
    """Foreign keys by which the tenant hangs together with others."""
    published: tuple[PublishedTable, ...] = ()
    """Publications of the product's own, of both ends, that a replica identity may break."""
    unguarded: tuple[str, ...] = ()
    """Tables and partitions of the source that the fence would not hold for everybody."""
    feeds: tuple[str, ...] = ()
    """Publications of the target by which the reference tables of other databases are kept in step."""
    source_access: Access = field(default_factory=Access)
    target_access: Access = field(default_factory=Access)
    source_hardening: Hardening = field(default_factory=Hardening)
    target_hardening: Hardening = field(default_factory=Hardening)
    misspelt: tuple[MisspeltRows, ...] = ()
    stale: tuple[str, ...] = ()
    """Tables whose statistics are no guide to their rows."""
    source_surroundings: tuple[Surrounding, ...] = ()
    target_surroundings: tuple[Surrounding, ...] = ()
    """Of a target that is to be made: what its server has for roles."""
    application_roles: tuple[str, ...] = ()
    """Those of the source that may bind tenants."""
    target_database: str = ""
    """What the target is called on its server."""
    migrations: tuple[MigrationState, ...] = ()
    """Of both ends."""
    source_kits: Kits = field(default_factory=Kits)
    target_kits: Kits = field(default_factory=Kits)

    @property
    def load_schema(self) -> bool:
        """True if the target has none of the tables yet."""
        return not self.target_definitions
