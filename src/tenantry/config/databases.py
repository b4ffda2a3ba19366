"""Where a database's DSN leads: the one answer, for the router, the command line, `serve` and the mover.

A database is known from the configuration file, or from the directory's row, whose `dsn` is a reference:

    config        only a configuration file knows the DSN
    env:NAME      an environment variable
    file:PATH     a file; it is read again when `resolve` is called again, so a rotated password is found
    server:NAME   a server of the configuration, on which a move makes or has made the database

The row's settings may hold references for the other two roles too: "operator" and "direct".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from pydantic import SecretStr, ValidationError

from tenantry.config.dsn import read_reference
from tenantry.config.model import Config
from tenantry.config.sections import DatabaseSection, PoolSection
from tenantry.errors import ConfigError, DsnUnreadable
from tenantry.ids import Kind
from tenantry.residence import Residence, Site


class RegisteredDatabase(Protocol):
    """A row of the directory's table of databases."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def dsn(self) -> str: ...
    @property
    def settings(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class ResolvedDatabase:
    """A database and how it is reached from here."""

    name: str
    kind: Kind
    reference: str
    """"env:NAME", "file:PATH", "server:NAME" or "config": where its DSN comes from."""
    dsn: str | None = field(default=None, repr=False)
    """Of the routers' role. None: the reference leads nowhere here; `require_dsn` says why."""
    operator_dsn: str | None = field(default=None, repr=False)
    """Of the role that may bypass RLS; None: none is configured, or its reference leads nowhere here."""
    direct_dsn: str | None = field(default=None, repr=False)
    """Of the operator's role, past any pooler; None: as above."""
    tenant: str | None = None
    """A dedicated database is stamped as this tenant's; None: by the first who is placed there."""
    pool: PoolSection = field(default_factory=PoolSection)
    server_settings: Mapping[str, str] = field(default_factory=dict)
    """Settings of every connection of the routers."""
    prepared_statements: bool | None = None
    """Whether named statements may be kept; None: unless a pooler is found in between."""
    section: DatabaseSection | None = field(default=None, repr=False)
    """What the configuration says of it, or of its server; None: only the directory knows it."""
    site: Site = field(default_factory=Site)
    """What it says of the tenants that it is for."""
    unreadable: Mapping[str, DsnUnreadable] = field(default_factory=dict)
    """References that lead nowhere here, by role: "dsn", "operator", "direct"."""

    @property
    def best_dsn(self) -> str | None:
        """The most direct and most able DSN that is known here: for looking, at what any role may see."""
        return self.direct_dsn or self.operator_dsn or self.dsn

    @property
    def row_settings(self) -> dict[str, Any]:
        """What the directory keeps of it, for processes whose configuration doesn't name it."""
        said = self.section.server_settings if self.section else dict(self.server_settings)
        pool = {"max": self.pool.max, "idle": self.pool.idle}
        return {**pool, **({"settings": said} if said else {}), **site_settings(self.kind, self.site)}

    def require_dsn(self) -> str:
        """The routers' DSN.

        Raises:
            DsnUnreadable: its reference leads nowhere here.
        """
        if self.dsn is None:
            raise self.unreadable["dsn"].with_traceback(None)
        return self.dsn

    def require_operator_dsn(self) -> str:
        """The DSN for what may bypass RLS: past a pooler where one is configured.

        Raises:
            ConfigError: none is configured.
            DsnUnreadable: its reference leads nowhere here.
        """
        dsn = self.direct_dsn or self.operator_dsn
        if dsn is not None:
            return dsn
        for role in ("direct", "operator"):
            if role in self.unreadable:
                raise self.unreadable[role].with_traceback(None)
        raise ConfigError(
            "no operator role is configured; set it to the DSN of a role that owns the tables or may bypass RLS",
            key=f"databases.{self.name}.operator_dsn",
        )


def of_config(config: Config, name: str) -> ResolvedDatabase:
    """A database of the configuration. `name` must be among its databases."""
    return _of_section(name, config.databases[name], config.references.get(name, "config"))


def resolve(
    config: Config, row: RegisteredDatabase, environment: Mapping[str, str] | None = None
) -> ResolvedDatabase:
    """A database of the directory, as far as it is known here. Never raises: one bad row harms nobody else.

    The configuration wins for the databases that it names. What the row says of the pool comes before what a
    server says of all its databases. Reads the environment and files now: call it again to see what has changed.
    """
    if row.name in config.databases:
        return of_config(config, row.name)
    scheme, _, target = row.dsn.partition(":")
    section = config.created(row.name, target) if scheme == "server" else None
    if section is not None:
        section = section.model_copy(update={"kind": row.kind, "pool": _pool(row, section.pool) or section.pool})
        return replace(_of_section(row.name, section, row.dsn), site=_site(row, section.site.residence))
    found: dict[str, str] = {}
    unreadable: dict[str, DsnUnreadable] = {}
    references = {"dsn": row.dsn, "operator": row.settings.get("operator"), "direct": row.settings.get("direct")}
    for role, reference in references.items():
        if reference:
            try:
                found[role] = read_reference(str(reference), database=row.name, environment=environment)
            except DsnUnreadable as error:
                unreadable[role] = error
    pool, settings = _pool(row, PoolSection()), row.settings.get("settings", {})
    if pool is None or not isinstance(settings, dict):
        why = "max, idle or settings of its row in the directory can't be used"
        unreadable["dsn"] = DsnUnreadable(row.name, row.dsn, why)
        found.pop("dsn", None)
        settings = {}
    return ResolvedDatabase(
        row.name,
        row.kind,
        row.dsn,
        found.get("dsn"),
        found.get("operator"),
        found.get("direct"),
        pool=pool or PoolSection(),
        server_settings={str(key): str(value) for key, value in settings.items()},
        site=_site(row),
        unreadable=unreadable,
    )


def resolve_all(config: Config, rows: Iterable[RegisteredDatabase]) -> dict[str, ResolvedDatabase]:
    """Every database by name, sorted: the configuration's, and those of the rows that it doesn't name."""
    found = {name: of_config(config, name) for name in config.databases}
    for row in rows:
        if row.name not in found:
            found[row.name] = resolve(config, row)
    return dict(sorted(found.items()))


def _of_section(name: str, section: DatabaseSection, reference: str) -> ResolvedDatabase:
    return ResolvedDatabase(
        name,
        section.kind,
        reference,
        section.dsn.get_secret_value(),
        _revealed(section.operator_dsn),
        _revealed(section.direct_dsn),
        section.tenant,
        section.pool,
        section.server_settings,
        section.prepared_statements,
        section,
        section.site,
    )


#: Keys of a row's settings that say for which tenants a database is.
SITE: Final = ("region", "tier", "capacity", "accepts")


def site_settings(kind: Kind, site: Site) -> dict[str, Any]:
    """What the directory keeps of it: what is said only."""
    said = {name: word for name, word in site.residence._asdict().items() if word is not None}
    if kind is Kind.SHARED:
        said |= {"capacity": site.capacity} if site.capacity is not None else {}
        said |= {} if site.accepts else {"accepts": False}
    return said


def _site(row: RegisteredDatabase, server: Residence = Residence()) -> Site:  # noqa: B008  a value
    """What the row says, or else its server. What can't be one is a word that no tenant names, or no limit."""
    said = {key: row.settings[key] for key in SITE if row.settings.get(key) is not None}
    words = [None if key not in said else str(said[key]) for key in Residence._fields]
    capacity = said.get("capacity")
    if row.kind is Kind.DEDICATED:
        capacity = 1
    elif type(capacity) is not int or capacity < 1:
        capacity = None
    named = Residence(words[0] or server.region, words[1] or server.tier)
    return Site(named, capacity, said.get("accepts") is not False)


def _pool(row: RegisteredDatabase, default: PoolSection) -> PoolSection | None:
    """What the row says of the pool, the rest from `default`; None: it says something that is none."""
    said = {key: row.settings[key] for key in ("max", "idle") if row.settings.get(key) is not None}
    try:
        return PoolSection.model_validate({**default.model_dump(), **said})
    except ValidationError:
        return None


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
