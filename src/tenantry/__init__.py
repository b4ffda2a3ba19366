"""tenantry: an async connection router for multi-tenant PostgreSQL.

A service asks for a connection for a tenant, and gets one inside a transaction scoped to that tenant, from the
shared row-level-security database or from the tenant's own.

The public names are imported when they are first asked for: pytest imports this package wherever it is installed,
and the program `tenantry` before it can answer a Ctrl-C.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tenantry.config import Config
    from tenantry.directory.tokens import IssuedToken, SyncToken
    from tenantry.errors import (
        CommitUnknown,
        ConfigError,
        DatabaseExists,
        DatabaseUnavailable,
        DsnUnreadable,
        Forbidden,
        InvalidClaims,
        InvalidTenantId,
        NestedScope,
        NoRoom,
        OperationRefused,
        OperationsClosed,
        OperatorScopeLost,
        RouterClosed,
        RouterPinned,
        ScopeLost,
        TenantBusy,
        TenantMoving,
        TenantRemoved,
        TenantryError,
        TenantSuspended,
        TooManyFailures,
        Unauthenticated,
        UnknownDatabase,
        UnknownTenant,
        UnknownToken,
        UnsafeRole,
        WrongContext,
        WrongHome,
    )
    from tenantry.ids import Kind, Placement, TenantId
    from tenantry.operations import Operations
    from tenantry.router.connection import ScopedConnection
    from tenantry.router.tokens import VerifiedToken
    from tenantry.wiring import Router

#: The one place of the version: pyproject.toml reads it from here.
__version__ = "0.1.0"

__all__ = [
    "CommitUnknown",
    "Config",
    "ConfigError",
    "DatabaseExists",
    "DatabaseUnavailable",
    "DsnUnreadable",
    "Forbidden",
    "InvalidClaims",
    "InvalidTenantId",
    "IssuedToken",
    "Kind",
    "NestedScope",
    "NoRoom",
    "OperationRefused",
    "Operations",
    "OperationsClosed",
    "OperatorScopeLost",
    "Placement",
    "Router",
    "RouterClosed",
    "RouterPinned",
    "ScopeLost",
    "ScopedConnection",
    "SyncToken",
    "TenantBusy",
    "TenantId",
    "TenantMoving",
    "TenantRemoved",
    "TenantSuspended",
    "TenantryError",
    "TooManyFailures",
    "Unauthenticated",
    "UnknownDatabase",
    "UnknownTenant",
    "UnknownToken",
    "UnsafeRole",
    "VerifiedToken",
    "WrongContext",
    "WrongHome",
    "__version__",
]

#: Public name -> its module; every other public name is an error class.
_MODULES = {
    "Config": "tenantry.config",
    "IssuedToken": "tenantry.directory.tokens",
    "Kind": "tenantry.ids",
    "Operations": "tenantry.operations",
    "Placement": "tenantry.ids",
    "Router": "tenantry.wiring",
    "ScopedConnection": "tenantry.router.connection",
    "SyncToken": "tenantry.directory.tokens",
    "TenantId": "tenantry.ids",
    "VerifiedToken": "tenantry.router.tokens",
}

if not TYPE_CHECKING:  # else every name would do for a type checker

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_MODULES.get(name, "tenantry.errors")), name)
        globals()[name] = value  # asked once
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
