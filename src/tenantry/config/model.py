"""The whole configuration, and its mistakes in words."""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Self

import yaml
from pydantic import BaseModel, Field, SecretStr, ValidationError, field_validator, model_validator

from tenantry.config.environment import fill, references
from tenantry.config.sections import (
    ConfigSection,
    ControlSection,
    DatabaseSection,
    MetricsSection,
    PromotionSection,
    RouterSection,
    ServerSection,
    TenancySection,
    Tuned,
    UsageSection,
    check_database_name,
)
from tenantry.config.servers import DEFAULTS, DSNS, check_servers, from_server, moved
from tenantry.config.wording import first_mistake, words
from tenantry.errors import ConfigError, InvalidTenantId
from tenantry.ids import Kind
from tenantry.proof import HARDENED_ON_CITUS, SHORTEST, database_key
from tenantry.rooms import FIRST, LEAST_LOADED, Room, Rooms


class Config(ConfigSection):
    """All of it."""

    tenancy: TenancySection = Field(default_factory=TenancySection)
    control: ControlSection
    servers: dict[str, ServerSection] = Field(default_factory=dict)
    databases: dict[str, DatabaseSection]
    router: RouterSection = Field(default_factory=RouterSection)
    promotion: PromotionSection = Field(default_factory=PromotionSection)
    usage: UsageSection = Field(default_factory=UsageSection)
    metrics: MetricsSection = Field(default_factory=MetricsSection)
    references: dict[str, str] = Field(default_factory=dict, exclude=True)
    """Where each database's DSN came from: env:NAME, server:NAME, or config. Filled in by `load` and `parse`."""

    @model_validator(mode="before")
    @classmethod
    def _from_servers(cls, data: Any) -> Any:
        """What a database on a server doesn't say, its server says."""
        servers, databases = data.get("servers"), data.get("databases")
        if not isinstance(servers, dict) or not isinstance(databases, dict):
            return data
        return {**data, "databases": {name: from_server(name, one, servers) for name, one in databases.items()}}

    @field_validator("databases", "servers")
    @classmethod
    def _named(cls, value: dict[str, Tuned]) -> dict[str, Tuned]:
        for name in value:
            try:
                check_database_name(name)
            except ConfigError as error:
                raise ValueError(str(error)) from None
        return value

    def created(self, name: str, server: str) -> DatabaseSection | None:
        """The section of a dedicated database that a move has created, or will create, on one of the servers.

        None: this configuration doesn't have the server.
        """
        if name in self.databases:
            return self.databases[name]
        if server not in self.servers:
            return None
        there = self.servers[server]
        said = {key: getattr(there, key) for key in (*DEFAULTS, *DSNS) if key in there.model_fields_set}
        said |= {key: moved(said[key], name) for key in DSNS if said.get(key)}
        return DatabaseSection(kind=Kind.DEDICATED, server=server, **said)

    def key(self, database: str) -> bytes | None:
        """Hardened mode's key of a database; None when the configuration isn't hardened."""
        if not self.tenancy.hardened or self.tenancy.secret is None:
            return None
        return database_key(self.tenancy.secret.get_secret_value(), database)

    @classmethod
    def load(cls, path: str | Path, environment: Mapping[str, str] | None = None) -> Self:
        """Read a YAML file.

        Args:
            environment: what `${NAME}` reads; None: the process's.

        Raises:
            ConfigError: says which file, which key, and the fix.
        """
        source = str(path)
        try:
            text = Path(path).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ConfigError("no such file; pass --config or set TENANTRY_CONFIG", source=source) from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"can't be read: {error}", source=source) from None
        try:
            data = yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader)
        except _Repeated as error:
            raise ConfigError(
                f"stands twice, in line {error.line} too; take one of them out", source=source, key=error.key
            ) from None
        except RecursionError:
            raise ConfigError("an alias (*) refers to what it stands in", source=source) from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f" in line {mark.line + 1}" if mark is not None else ""
            raise ConfigError(f"not YAML{where}", source=source) from None
        return cls.parse(data, environment=environment, source=source)

    @classmethod
    def parse(
        cls,
        data: object,
        *,
        environment: Mapping[str, str] | None = None,
        source: str | None = None,
    ) -> Self:
        """Check a mapping of the file's shape. Raises ConfigError."""
        if not isinstance(data, dict):
            raise ConfigError("must be a mapping with the keys control: and databases:", source=source)
        if "references" in data:
            raise ConfigError("unknown key; take it out", source=source, key="references")
        env = os.environ if environment is None else environment
        came_from = references(data)
        try:
            filled = fill(data, env, "", source)
        except RecursionError:
            raise ConfigError("an alias (*) refers to what it stands in", source=source) from None
        check_servers(filled, source)
        try:
            config = cls.model_validate({**filled, "references": came_from})
        except ValidationError as error:
            raise _config_error(error, source, filled) from None
        config._cross_check(source)
        return config

    def dsns(self) -> list[tuple[str, str]]:
        """Every DSN with its key. Secrets: never to be shown."""
        named: list[tuple[str, SecretStr | None]] = [
            ("control.dsn", self.control.dsn),
            ("control.direct_dsn", self.control.direct_dsn),
        ]
        sections: dict[str, Mapping[str, Tuned]] = {"servers": self.servers, "databases": self.databases}
        for part, those in sections.items():
            named += [(f"{part}.{name}.{key}", getattr(one, key)) for name, one in those.items() for key in DSNS]
        return [(key, dsn.get_secret_value()) for key, dsn in named if dsn is not None]

    def _check_settings(self, source: str | None) -> None:
        """No connection begins with what is tenantry's to set."""
        named: dict[str, Mapping[str, Tuned]] = {"servers": self.servers, "databases": self.databases}
        for key, name in (
            (f"{part}.{one}.settings", name)
            for part, those in named.items()
            for one, section in those.items()
            for name in section.settings
        ):
            if name.lower() in (*_OURS, self.tenancy.setting) or name.lower().startswith("tenantry."):
                raise ConfigError("tenantry sets this one itself; take it out", source=source, key=f"{key}.{name}")

    def rooms(self) -> Rooms | None:
        """The databases among which sign-ups choose, in the file's order; None: `tenancy.placement` is not set."""
        policy = self.tenancy.placement
        if policy is None:
            return None
        shared = {name: one for name, one in self.databases.items() if one.kind is Kind.SHARED}
        chosen = [name for name, one in shared.items() if one.accepts] if policy in _POLICIES else [policy]
        return Rooms(
            [Room(name, shared[name].capacity, shared[name].site.residence) for name in chosen],
            policy == LEAST_LOADED,
        )

    def _check_placement(self, source: str | None) -> None:
        policy, key = self.tenancy.placement, "tenancy.placement"
        shared = [name for name, one in self.databases.items() if one.kind is Kind.SHARED]
        if policy is not None and policy not in (*_POLICIES, *shared):
            raise ConfigError(
                f"{policy!r} is neither {', '.join(_POLICIES)} nor a shared database", source=source, key=key
            )
        if policy is not None and self.tenancy.default_database is not None:
            raise ConfigError(
                "tenancy.default_database says where unknown tenants are placed: say one of the two",
                source=source,
                key=key,
            )
        if policy in _POLICIES and not any(self.databases[name].accepts for name in shared):
            raise ConfigError("no shared database accepts tenants", source=source, key=key)
        for name, one in self.databases.items():
            said = one.model_fields_set & {"capacity", "accepts"}
            if one.kind is Kind.DEDICATED and said:
                raise ConfigError(
                    "only a shared database takes sign-ups", source=source, key=f"databases.{name}.{min(said)}"
                )

    def _cross_check(self, source: str | None) -> None:
        default = self.tenancy.default_database
        if default is not None and default not in self.databases:
            raise ConfigError(
                f"{default!r} is not among databases:", source=source, key="tenancy.default_database"
            )
        self._check_placement(source)
        secret = self.tenancy.secret
        if self.tenancy.hardened and (secret is None or len(secret.get_secret_value().encode()) < SHORTEST):
            raise ConfigError(
                f"hardened mode needs a secret of at least {SHORTEST} random bytes, the same for all "
                "routers: write secret: ${TENANTRY_SECRET}",
                source=source,
                key="tenancy.secret",
            )
        citus = next((name for name, one in self.databases.items() if one.engine == "citus"), None)
        if self.tenancy.hardened and citus is not None:
            raise ConfigError(
                HARDENED_ON_CITUS,
                source=source,
                key=f"databases.{citus}.engine",
            )
        self._check_settings(source)
        if self.promotion.demote_below >= self.promotion.threshold:
            raise ConfigError("must be below promotion.threshold", source=source, key="promotion.demote_below")
        for name, database in self.databases.items():
            if database.tenant is not None and database.kind is Kind.SHARED:
                raise ConfigError(
                    "only a dedicated database has a tenant",
                    source=source,
                    key=f"databases.{name}.tenant",
                )
            if database.tenant is not None:
                try:
                    self.tenancy.type.stored(database.tenant)
                except InvalidTenantId as error:
                    raise ConfigError(str(error), source=source, key=f"databases.{name}.tenant") from None


_POLICIES: Final = (LEAST_LOADED, FIRST)

#: What the router sets itself, or what would make another role of the scopes'.
_OURS: Final = ("application_name", "role", "session_authorization")


class _Repeated(Exception):
    """A key that stands twice in one mapping, of which YAML would take the last without a word."""

    def __init__(self, key: str, line: int) -> None:
        self.key = key
        self.line = line


class _Loader(yaml.SafeLoader):
    """YAML without keys that stand twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise _Repeated(key.value, key.start_mark.line + 1)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _config_error(error: ValidationError, source: str | None, written: object) -> ConfigError:
    """One finding in words; what was written is not repeated, for it may be a secret."""
    finding = first_mistake(error.errors(include_input=False, include_url=False))
    path = [str(part) for part in finding["loc"]]
    key = ".".join(path)
    if finding["type"] == "extra_forbidden":
        near = get_close_matches(path[-1], _keys_beside(path[:-1]), n=1)
        hint = f"; did you mean {near[0]}?" if near else "; take it out"
        return ConfigError(f"unknown key{hint}", source=source, key=key)
    if path[-1:] == ["[key]"]:
        return ConfigError("a name must be text; put it in quotes", source=source, key=".".join(path[:-1]))
    for part in finding["loc"]:
        written = written.get(part) if isinstance(written, dict) else written
    return ConfigError(words(finding, empty=written is None), source=source, key=key)


_NAMED: dict[str, type[Tuned]] = {"databases": DatabaseSection, "servers": ServerSection}


def _keys_beside(path: list[str]) -> list[str]:
    model: type[BaseModel] | None = Config
    named: type[BaseModel] = DatabaseSection
    for part in path:
        if model is Config and part in _NAMED:
            model, named = None, _NAMED[part]
            continue
        if model is None:
            model = named
            continue
        field = model.model_fields.get(part)
        inner = None if field is None else field.annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return [] if model is None else [name for name in model.model_fields if name != "references"]
