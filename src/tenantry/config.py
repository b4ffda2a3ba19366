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

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)

from tenantry.errors import ConfigError
from tenantry.proof import SHORTEST, database_key
from tenantry.tenant import IdType, Kind

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")


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


class DatabaseSection(_Section):
    """One database."""

    kind: Kind
    dsn: SecretStr
    operator_dsn: SecretStr | None = None
    """A role that may bypass RLS: operator scopes, `init`, `rls`, moves."""
    direct_dsn: SecretStr | None = None
    """Of the operator's role, past any pooler: the mover's."""
    tenant: str | None = None
    """Stamps a dedicated database as this tenant's."""
    pool: PoolSection = Field(default_factory=PoolSection)
    statement_timeout: Duration | None = None
    settings: dict[str, str] = Field(default_factory=dict)
    """`server_settings` of every connection."""
    prepared_statements: bool | None = None

    @property
    def server_settings(self) -> dict[str, str]:
        """`settings`, with the statement timeout in milliseconds."""
        if self.statement_timeout is None:
            return dict(self.settings)
        return {"statement_timeout": f"{self.statement_timeout * 1000:.0f}", **self.settings}


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
    databases: dict[str, DatabaseSection]
    router: RouterSection = Field(default_factory=RouterSection)
    promotion: PromotionSection = Field(default_factory=PromotionSection)
    usage: UsageSection = Field(default_factory=UsageSection)
    metrics: MetricsSection = Field(default_factory=MetricsSection)
    references: dict[str, str] = Field(default_factory=dict, exclude=True)
    """Where each database's DSN came from: env:NAME, or config. Filled in by `load` and `parse`."""

    @field_validator("databases")
    @classmethod
    def _named(cls, value: dict[str, DatabaseSection]) -> dict[str, DatabaseSection]:
        for name in value:
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no name of a database: up to 63 letters, digits, '_', '.' and '-'")
        return value

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
    """Which environment variable each database's DSN is, where it is one and nothing else."""
    found = {}
    databases = data.get("databases")
    for name, section in databases.items() if isinstance(databases, dict) else ():
        written = section.get("dsn") if isinstance(section, dict) else None
        match = _VARIABLE.fullmatch(written) if isinstance(written, str) else None
        found[str(name)] = f"env:{match[1]}" if match else "config"
    return found


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


def _keys_beside(path: list[str]) -> list[str]:
    model: type[BaseModel] | None = Config
    for part in path:
        if model is Config and part == "databases":
            model = None
            continue
        if model is None:
            model = DatabaseSection
            continue
        field = model.model_fields.get(part)
        inner = None if field is None else field.annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return [] if model is None else [name for name in model.model_fields if name != "references"]
