"""The configuration: YAML and environment in, checked values out. The only reader of either.

    config = Config.load("config/tenantry.yaml")

`${NAME}` reads the environment, `${NAME:-default}` with a default. Durations are written 30s, 10m, 14d, 500ms;
a bare number means seconds. Unknown keys, wrong units and missing variables are a `ConfigError` that names the
source, the key and the fix. DSNs are `SecretStr`: no `repr`, log line or error shows them.
"""

from __future__ import annotations

from tenantry.config.databases import ResolvedDatabase, of_config, resolve, resolve_all
from tenantry.config.dsn import check_dsn, read_reference, role_of
from tenantry.config.model import Config
from tenantry.config.sections import (
    BackupSection,
    ControlSection,
    DatabaseSection,
    MetricsSection,
    PoolSection,
    PromotionSection,
    RouterSection,
    ServerSection,
    TenancySection,
    UsageSection,
    check_database_name,
)
from tenantry.config.servers import on_server
from tenantry.config.units import Duration, Size, duration, size

__all__ = [
    "BackupSection",
    "Config",
    "ControlSection",
    "DatabaseSection",
    "Duration",
    "MetricsSection",
    "PoolSection",
    "PromotionSection",
    "ResolvedDatabase",
    "RouterSection",
    "ServerSection",
    "Size",
    "TenancySection",
    "UsageSection",
    "check_database_name",
    "check_dsn",
    "duration",
    "of_config",
    "on_server",
    "read_reference",
    "resolve",
    "resolve_all",
    "role_of",
    "size",
]
