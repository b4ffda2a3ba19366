"""The whole configuration, and its mistakes in words."""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self

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
from tenantry.errors import ConfigError, InvalidTenantId
from tenantry.ids import Kind
from tenantry.proof import SHORTEST, database_key


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
            data = yaml.safe_load(text)
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
        env = os.environ if environment is None else environment
        came_from = references(data)
        filled = fill(data, env, "", source)
        check_servers(filled, source)
        try:
            config = cls.model_validate({**filled, "references": came_from})
        except ValidationError as error:
            raise _config_error(error, source) from None
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

    def _cross_check(self, source: str | None) -> None:
        default = self.tenancy.default_database
        if default is not None and default not in self.databases:
            raise ConfigError(
                f"{default!r} is not among databases:", source=source, key="tenancy.default_database"
            )
        secret = self.tenancy.secret
        if self.tenancy.hardened and (secret is None or len(secret.get_secret_value().encode()) < SHORTEST):
            raise ConfigError(
                f"hardened mode needs a secret of at least {SHORTEST} random bytes, the same for all "
                "routers: write secret: ${TENANTRY_SECRET}",
                source=source,
                key="tenancy.secret",
            )
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


def _config_error(error: ValidationError, source: str | None) -> ConfigError:
    """The first finding in words; what was written is not repeated, for it may be a secret."""
    finding = error.errors(include_input=False, include_url=False)[0]
    path = [str(part) for part in finding["loc"]]
    key = ".".join(path)
    if finding["type"] == "extra_forbidden":
        near = get_close_matches(path[-1], _keys_beside(path[:-1]), n=1)
        hint = f"; did you mean {near[0]}?" if near else "; take it out"
        return ConfigError(f"unknown key{hint}", source=source, key=key)
    if finding["type"] == "missing":
        return ConfigError("is missing; it has no default", source=source, key=key)
    return ConfigError(finding["msg"].removeprefix("Value error, "), source=source, key=key)


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
