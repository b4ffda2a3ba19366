"""tenantry: an async connection router for multi-tenant PostgreSQL.

A service asks for a connection for a tenant, and gets one inside a transaction scoped to that tenant, from the
shared row-level-security database or from the tenant's own.
"""

from tenantry.config import Config
from tenantry.errors import (
    ConfigError,
    DatabaseUnavailable,
    InvalidTenantId,
    RouterClosed,
    ScopeLost,
    TenantBusy,
    TenantMoving,
    TenantryError,
    TenantSuspended,
    UnknownTenant,
    UnsafeRole,
)
from tenantry.tenant import Kind, Placement, TenantId
from tenantry.wiring import Router

__version__ = "0.1.0"

__all__ = [
    "Config",
    "ConfigError",
    "DatabaseUnavailable",
    "InvalidTenantId",
    "Kind",
    "Placement",
    "Router",
    "RouterClosed",
    "ScopeLost",
    "TenantBusy",
    "TenantId",
    "TenantMoving",
    "TenantSuspended",
    "TenantryError",
    "UnknownTenant",
    "UnsafeRole",
    "__version__",
]
