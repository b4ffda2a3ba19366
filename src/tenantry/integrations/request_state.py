"""What a request carries for tenantry: the app's router, its tenant, its claims, its sync token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from starlette.requests import HTTPConnection

from tenantry import Router
from tenantry.errors import ConfigError

TenantId = UUID | int | str

#: Where the lifespan leaves the router in a request's state, the middleware the tenant, and resolvers the rest.
ROUTER: Final = "tenantry_router"
TENANT: Final = "tenantry_tenant"
CLAIMS: Final = "tenantry_claims"
TOKEN: Final = "tenantry_token"  # noqa: S105  (a name, not a secret)


def current_router(request: HTTPConnection) -> Router:
    """The router of the app that serves this request.

    Raises:
        ConfigError: the app was started without `lifespan`, and the middleware was given no router.
    """
    router = request.scope.get("state", {}).get(ROUTER)
    if router is None:
        raise ConfigError("no router: pass lifespan=lifespan(config) to the app, or router= to TenantMiddleware")
    if not isinstance(router, Router):
        raise ConfigError(f"the request's state has a {type(router).__name__} where the router belongs")
    return router


def current_claims(request: HTTPConnection) -> Mapping[str, Any] | None:
    """The claims that the resolver gave the request's scopes, as by `jwt_tenant(pass_claims=…)`; None: none."""
    claims: Mapping[str, Any] | None = request.scope.get("state", {}).get(CLAIMS)
    return claims


def give_claims(request: HTTPConnection, claims: Mapping[str, Any]) -> None:
    """For resolvers: the scopes of this request get these claims, as by `Router.tenant(claims=…)`."""
    keep(request, CLAIMS, claims)


def keep(request: HTTPConnection, name: str, value: Any) -> None:
    """Put something into the request's state."""
    request.scope.setdefault("state", {})[name] = value
