"""The sections of the configuration, as checked values."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from tenantry.config.dsn import driver_dsn
from tenantry.config.units import Duration, Size
from tenantry.errors import ConfigError
from tenantry.ids import LARGEST, IdType, Kind
from tenantry.residence import Residence, Site, check_word

#: The storage parameters `autovacuum_…` of PostgreSQL 15 to 18.
_AUTOVACUUM: Final = frozenset(
    {
        "enabled",
        "vacuum_threshold",
        "vacuum_max_threshold",
        "vacuum_scale_factor",
        "vacuum_insert_threshold",
        "vacuum_insert_scale_factor",
        "vacuum_cost_delay",
        "vacuum_cost_limit",
        "analyze_threshold",
        "analyze_scale_factor",
        "freeze_min_age",
        "freeze_max_age",
        "freeze_table_age",
        "multixact_freeze_min_age",
        "multixact_freeze_max_age",
        "multixact_freeze_table_age",
    }
)


_DATABASE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")


def check_database_name(name: str, key: str | None = None) -> None:
    """See that a database can be called so.

    Raises:
        ConfigError: it can't; `key` is what the name was given for.
    """
    if not _DATABASE_NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} is no database's name: up to 63 letters, digits, '_', '.' and '-', the first a letter, "
            "a digit or '_'",
            key=key,
        )


def _driver_dsn(dsn: SecretStr) -> SecretStr:
    return SecretStr(driver_dsn(dsn.get_secret_value()))


def _no_switch(value: object) -> object:
    if isinstance(value, bool):  # YAML's on, off, yes and no; else they count as 1 and 0
        raise ValueError("must be a whole number")
    return value


#: A whole number, and not true or false.
Whole = Annotated[int, BeforeValidator(_no_switch)]


#: A connection URL, checked, and as the driver gets it.
Dsn = Annotated[SecretStr, AfterValidator(_driver_dsn)]


class ConfigSection(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class TenancySection(ConfigSection):
    """How tenants are told apart."""

    column: str = Field("tenant_id", min_length=1, max_length=63)
    type: IdType = IdType.UUID
    setting: str = "app.current_tenant"
    hardened: bool = False
    secret: SecretStr | None = None
    """Hardened mode's secret, the same for all routers: at least 32 random bytes."""
    default_database: str | None = None
    placement: str | None = None
    """Where tenants live that are signed up without a database: "least-loaded", "first", or a database's name."""
    tables: dict[str, str] = Field(default_factory=dict)
    """`schema.table` -> its tenant column, "reference", "once" or "ignore"."""

    @field_validator("tables")
    @classmethod
    def _qualified(cls, value: dict[str, str]) -> dict[str, str]:
        for table, said in value.items():
            if "." not in table.strip("."):
                raise ValueError(f"{table!r} has no schema: write public.{table} if that is where it stands")
            if not said:
                raise ValueError(f"{table}: write its tenant column, reference, once or ignore")
        return value

    @field_validator("setting")
    @classmethod
    def _two_words(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)+", value):
            raise ValueError("a custom setting has at least two lower-case words: app.current_tenant")
        if value.startswith(("request.jwt.", "tenantry.")):
            raise ValueError(
                "this one is for a request's claims, or ours; take another, such as app.current_tenant"
            )
        return value


class ControlSection(ConfigSection):
    """The control database."""

    dsn: Dsn
    direct_dsn: Dsn | None = None
    """For LISTEN and the mover, when `dsn` goes through a transaction pooler."""
    poll: Duration = 30.0

    @property
    def listen_dsn(self) -> str:
        """The DSN that LISTEN works on."""
        return (self.direct_dsn or self.dsn).get_secret_value()


class PoolSection(ConfigSection):
    """One database's pool."""

    max: Whole = Field(20, ge=1, le=10_000)
    idle: Duration = 600.0


class BackupSection(ConfigSection):
    """How old a database's last backup may become, and what makes one."""

    every: Duration
    command: str | None = None
    """Run by `tenantry backup`, through the shell, with libpq's variables (PGHOST and so on) set."""


def _milliseconds(value: float | None) -> float | None:
    if value is not None and not 1 <= round(value * 1000) <= LARGEST:
        raise ValueError(f"PostgreSQL's statement_timeout is from 1ms to {LARGEST // 86_400_000}d")
    return value


class Tuned(ConfigSection):
    """What can be said of one database, or of a server for all databases on it."""

    dsn: Dsn
    operator_dsn: Dsn | None = None
    """A role that may bypass RLS: operator scopes, `init`, `rls`, moves."""
    direct_dsn: Dsn | None = None
    """Of the operator's role, past any pooler: the mover's."""
    pool: PoolSection = Field(default_factory=PoolSection)
    statement_timeout: Annotated[Duration | None, AfterValidator(_milliseconds)] = None
    settings: dict[str, str] = Field(default_factory=dict)
    """`server_settings` of every connection."""
    autovacuum: dict[str, dict[str, str]] = Field(default_factory=dict)
    """`schema.table`, or "*" for every tenant table -> autovacuum parameters without their prefix."""
    disk: Size | None = None
    """Bytes that it may take at most; None: no limit is known."""
    backup: BackupSection | None = None
    region: Annotated[str, AfterValidator(check_word)] | None = None
    """Tenants of this region live here; None: only such as name none."""
    tier: Annotated[str, AfterValidator(check_word)] | None = None
    """Likewise."""

    @field_validator("settings")
    @classmethod
    def _names(cls, value: dict[str, str]) -> dict[str, str]:
        for name, said in value.items():
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)?", name) or "\0" in said:
                raise ValueError(f"{name!r} is no setting of PostgreSQL's")
        return value

    @field_validator("autovacuum", mode="before")
    @classmethod
    def _parameters(cls, value: object) -> object:
        """Numbers and switches as PostgreSQL writes them."""
        if not isinstance(value, dict):
            return value
        written = {table: _written(parameters) for table, parameters in value.items()}
        for table, parameters in written.items():
            for name, said in parameters.items() if isinstance(parameters, dict) else ():
                _check_parameter(table, name, said)
        return written


def _written(parameters: object) -> object:
    if not isinstance(parameters, dict):
        return parameters
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in parameters.items()
    }


def _check_parameter(table: object, name: object, said: str) -> None:
    """What PostgreSQL would refuse is refused here: a move sets it when the rows are copied already."""
    if name not in _AUTOVACUUM:
        raise ValueError(
            f"{table}: {name!r} is no parameter: write vacuum_scale_factor for "
            "autovacuum_vacuum_scale_factor, and so on"
        )
    if name == "enabled":
        if said not in ("true", "false", "on", "off"):
            raise ValueError(f"{table}: {name}: {said!r} is no switch: write true or false")
    elif not re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", said):
        raise ValueError(f"{table}: {name}: {said!r} is no number")


class ServerSection(Tuned):
    """A server on which moves may create databases. Its DSNs lead to a database that is always there."""


class DatabaseSection(Tuned):
    """One database."""

    kind: Kind
    server: str | None = None
    """The server that a move creates it on if it isn't there; its DSNs are the server's, unless given."""
    tenant: str | None = None
    """Stamps a dedicated database as this tenant's."""
    engine: Literal["postgresql", "citus"] | None = None
    """What it is; None: whatever is found there."""
    capacity: Annotated[Whole | None, Field(ge=1)] = None
    """Tenants that sign-ups may bring into a shared database."""
    accepts: bool = True
    """Whether sign-ups that name no database may choose it."""
    prepared_statements: bool | None = None

    @property
    def site(self) -> Site:
        """What it says of the tenants that it is for."""
        capacity = 1 if self.kind is Kind.DEDICATED else self.capacity
        return Site(Residence(self.region, self.tier), capacity, self.accepts)

    @property
    def server_settings(self) -> dict[str, str]:
        """`settings`, with the statement timeout in milliseconds."""
        if self.statement_timeout is None:
            return dict(self.settings)
        return {"statement_timeout": f"{self.statement_timeout * 1000:.0f}", **self.settings}


class RouterSection(ConfigSection):
    """Limits of one process."""

    connections: Whole = Field(100, ge=1)
    tenant_share: float = Field(0.75, gt=0, le=1)
    queue: Whole = Field(1000, ge=1)
    timeout: Duration = 30.0
    connect_timeout: Duration = 5.0


class PromotionSection(ConfigSection):
    """The rule."""

    threshold: float = Field(0.40, gt=0, lt=1)
    demote_below: float = Field(0.20, gt=0, lt=1)
    window: Duration = 14 * 86400.0
    bucket: Literal["day", "week"] = "day"
    coverage: float = Field(0.95, ge=0, le=1)
    floor: Duration = 600.0

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """The rule counts whole buckets; a bare number would be seconds."""
        each = {"day": 1, "week": 7}[self.bucket]
        if self.window % (each * 86_400):
            raise ValueError(f"window must be a whole number of {self.bucket}s: write 14d")
        return self


class UsageSection(ConfigSection):
    """The ledger."""

    record: bool = True
    """Whether routers write what they meter to the ledger."""
    flush: Duration = 5.0
    hours: Duration = 2 * 86400.0
    """How long hourly rows are kept; then they are rolled into days, which are kept for `days`."""
    days: Duration = 400 * 86400.0


class MetricsSection(ConfigSection):
    """What Prometheus sees."""

    top: Whole = Field(20, ge=1, le=200)
