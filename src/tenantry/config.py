"""The configuration: YAML and environment in, checked values out. The only reader of either.

    config = Config.load("config/tenantry.yaml")

`${NAME}` reads the environment, `${NAME:-default}` with a default. Durations are written 30s, 10m, 14d, 500ms;
a bare number means seconds. Unknown keys, wrong units and missing variables are a `ConfigError` that names the
source, the key and the mend. DSNs are `SecretStr`: no `repr`, log line or error shows them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from tenantry.errors import ConfigError
from tenantry.proof import SHORTEST, database_key
from tenantry.tenant import IdType, Kind

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(kB|MB|GB|TB)")
_BYTES = {"kB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")
#: Keys of a database that can also be said once for all databases on a server.
_DSNS = ("dsn", "operator_dsn", "direct_dsn")
_DEFAULTS = ("pool", "statement_timeout", "settings", "autovacuum", "backup")


def duration(value: object) -> float:
    """Seconds from 30s, 10m, 2h, 14d, 500ms, or a number of seconds.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("a duration is written 500ms, 30s, 10m, 2h or 14d")
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if match is None:
            raise ValueError(f"{value!r} is no duration: write 500ms, 30s, 10m, 2h or 14d")
        value = float(match[1]) * _SECONDS[match[2]]
    if not 0 < value < float("inf"):
        raise ValueError("a duration is above zero")
    return float(value)


Duration = Annotated[float, BeforeValidator(duration)]


def size(value: object) -> int:
    """Bytes from 500MB, 20GB, 1TB (as PostgreSQL counts: 1kB is 1024 bytes), or a number of bytes.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("a size is written 500MB, 20GB or 1TB")
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        if match is None:
            raise ValueError(f"{value!r} is no size: write 500MB, 20GB or 1TB")
        value = int(float(match[1]) * _BYTES[match[2]])
    if value <= 0:
        raise ValueError("a size is above zero")
    return value


Size = Annotated[int, BeforeValidator(size)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class TenancySection(_Section):
    """How tenants are told apart."""

    column: str = Field("tenant_id", min_length=1, max_length=63)
    type: IdType = IdType.UUID
    setting: str = "app.current_tenant"
    hardened: bool = False
    secret: SecretStr | None = None
    """Hardened mode's secret, the same for all routers: at least 32 random bytes."""
    default_database: str | None = None
    tables: dict[str, str] = Field(default_factory=dict)
    """`schema.table` -> its tenant column, "ignore", or "reference"."""

    @field_validator("setting")
    @classmethod
    def _two_words(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)+", value):
            raise ValueError("a custom setting has at least two lower-case words: app.current_tenant")
        return value


class ControlSection(_Section):
    """The control database."""

    dsn: SecretStr
    direct_dsn: SecretStr | None = None
    """For LISTEN and the mover, when `dsn` goes through a transaction pooler."""
    poll: Duration = 30.0

    @property
    def listen_dsn(self) -> str:
        """The DSN that LISTEN works on."""
        return (self.direct_dsn or self.dsn).get_secret_value()


class PoolSection(_Section):
    """One database's pool."""

    max: int = Field(20, ge=1, le=10_000)
    idle: Duration = 600.0


class BackupSection(_Section):
    """How old a database's last backup may become, and what makes one."""

    every: Duration
    command: str | None = None
    """Run by `tenantry serve`, through the shell, with libpq's variables (PGHOST and so on) set."""


class _Tuned(_Section):
    """What can be said of one database, or of a server for all databases on it."""

    dsn: SecretStr
    operator_dsn: SecretStr | None = None
    """A role that may bypass RLS: operator scopes, `init`, `rls`, moves."""
    direct_dsn: SecretStr | None = None
    """Of the operator's role, past any pooler: the mover's."""
    pool: PoolSection = Field(default_factory=PoolSection)
    statement_timeout: Duration | None = None
    settings: dict[str, str] = Field(default_factory=dict)
    """`server_settings` of every connection."""
    autovacuum: dict[str, dict[str, str]] = Field(default_factory=dict)
    """`schema.table`, or "*" for every tenant table -> autovacuum parameters without their prefix."""
    disk: Size | None = None
    """Bytes that it may take at most; None: no limit is known."""
    backup: BackupSection | None = None

    @field_validator("autovacuum", mode="before")
    @classmethod
    def _parameters(cls, value: object) -> object:
        """Numbers and switches as PostgreSQL writes them."""
        if not isinstance(value, dict):
            return value
        for table, parameters in value.items():
            for name in parameters if isinstance(parameters, dict) else ():
                if not re.fullmatch(r"[a-z_]+", str(name)) or str(name).startswith("autovacuum_"):
                    raise ValueError(
                        f"{table}: {name!r} is no parameter: write vacuum_scale_factor for "
                        "autovacuum_vacuum_scale_factor, and so on"
                    )
        return {table: _written(parameters) for table, parameters in value.items()}


def _written(parameters: object) -> object:
    if not isinstance(parameters, dict):
        return parameters
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in parameters.items()
    }


class ServerSection(_Tuned):
    """A server on which moves may create databases. Its DSNs lead to a database that is always there."""


class DatabaseSection(_Tuned):
    """One database."""

    kind: Kind
    server: str | None = None
    """The server that a move creates it on if it isn't there; its DSNs are the server's, unless given."""
    tenant: str | None = None
    """Stamps a dedicated database as this tenant's."""
    prepared_statements: bool | None = None

    @property
    def server_settings(self) -> dict[str, str]:
        """`settings`, with the statement timeout in milliseconds."""
        if self.statement_timeout is None:
            return dict(self.settings)
        return {"statement_timeout": f"{self.statement_timeout * 1000:.0f}", **self.settings}


def on_server(dsn: str, database: str) -> str:
    """The DSN of another database on the same server."""
    parts = urlsplit(dsn)
    query = urlencode([(k, v) for k, v in parse_qsl(parts.query) if k not in ("dbname", "database")])
    return f"{parts.scheme}://{parts.netloc}/{quote(database, safe='')}" + (f"?{query}" if query else "")


class RouterSection(_Section):
    """Limits of one process."""

    connections: int = Field(100, ge=1)
    tenant_share: float = Field(0.75, gt=0, le=1)
    queue: int = Field(1000, ge=1)
    timeout: Duration = 30.0
    connect_timeout: Duration = 5.0


class PromotionSection(_Section):
    """The rule."""

    threshold: float = Field(0.40, gt=0, lt=1)
    demote_below: float = Field(0.20, gt=0, lt=1)
    window: Duration = 14 * 86400.0
    bucket: Literal["day", "week"] = "day"
    coverage: float = Field(0.95, ge=0, le=1)
    floor: Duration = 600.0


class UsageSection(_Section):
    """The ledger."""

    record: bool = True
    """Whether routers write what they meter to the ledger."""
    flush: Duration = 5.0
    hours: Duration = 2 * 86400.0
    """How long hourly rows are kept; then they are rolled into days, which are kept for `days`."""
    days: Duration = 400 * 86400.0


class MetricsSection(_Section):
    """What Prometheus sees."""

    top: int = Field(20, ge=1, le=200)


class Config(_Section):
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
        return {**data, "databases": {name: _from_server(name, one, servers) for name, one in databases.items()}}

    @field_validator("databases", "servers")
    @classmethod
    def _named(cls, value: dict[str, _Tuned]) -> dict[str, _Tuned]:
        for name in value:
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no name of a database: up to 63 letters, digits, '_', '.' and '-'")
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
        said = {key: getattr(there, key) for key in (*_DEFAULTS, *_DSNS) if key in there.model_fields_set}
        said |= {key: _moved(said[key], name) for key in _DSNS if said.get(key)}
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
            ConfigError: says which file, which key, and the mend.
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
        references = _references(data)
        filled = _fill(data, env, "", source)
        _check_servers(filled, source)
        try:
            config = cls.model_validate({**filled, "references": references})
        except ValidationError as error:
            raise _config_error(error, source) from None
        config._cross_check(source)
        return config

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


def _references(data: dict[Any, Any]) -> dict[str, str]:
    """Which environment variable each database's DSN is, where it is one and nothing else; or which server's."""
    found = {}
    databases = data.get("databases")
    for name, section in databases.items() if isinstance(databases, dict) else ():
        written = section.get("dsn") if isinstance(section, dict) else None
        match = _VARIABLE.fullmatch(written) if isinstance(written, str) else None
        server = section.get("server") if isinstance(section, dict) and written is None else None
        found[str(name)] = f"server:{server}" if server else f"env:{match[1]}" if match else "config"
    return found


def _check_servers(data: dict[Any, Any], source: str | None) -> None:
    """Before a database is said to lack the DSN that its server was to give."""
    servers, databases = data.get("servers") or {}, data.get("databases")
    for name, section in databases.items() if isinstance(databases, dict) else ():
        server = section.get("server") if isinstance(section, dict) else None
        if server is not None and server not in servers:
            known = ", ".join(map(str, servers)) or "none"
            raise ConfigError(
                f"{server!r} is not among servers: ({known})", source=source, key=f"databases.{name}.server"
            )


def _from_server(name: object, section: Any, servers: dict[Any, Any]) -> Any:
    there = servers.get(section.get("server")) if isinstance(section, dict) else None
    if not isinstance(there, dict):
        return section
    dsns = {key: _moved(there[key], str(name)) for key in _DSNS if there.get(key) and "dsn" not in section}
    return {**{key: there[key] for key in _DEFAULTS if key in there}, **dsns, **section}


def _moved(dsn: Any, database: str) -> Any:
    if isinstance(dsn, SecretStr):
        return SecretStr(on_server(dsn.get_secret_value(), database))
    return on_server(dsn, database) if isinstance(dsn, str) else dsn


def _fill(value: Any, env: Mapping[str, str], key: str, source: str | None) -> Any:
    if isinstance(value, dict):
        return {
            name: _fill(inner, env, f"{key}.{name}" if key else str(name), source) for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_fill(inner, env, f"{key}[{n}]", source) for n, inner in enumerate(value)]
    if not isinstance(value, str):
        return value

    def read(match: re.Match[str]) -> str:
        found = env.get(match[1])
        if found:
            return found
        if match[2] is not None:
            return match[2]
        raise ConfigError(
            f"the environment variable {match[1]} is not set; set it, or write ${{{match[1]}:-default}}",
            source=source,
            key=key,
        )

    return _VARIABLE.sub(read, value)


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


_NAMED: dict[str, type[_Tuned]] = {"databases": DatabaseSection, "servers": ServerSection}


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
