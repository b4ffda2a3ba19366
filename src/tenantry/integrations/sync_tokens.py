"""Devices that show a sync token: who they are, and what they may do."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from starlette.requests import HTTPConnection

from tenantry import VerifiedToken
from tenantry.errors import Unauthenticated
from tenantry.integrations.request_state import TOKEN, TenantId, current_router, give_claims, keep
from tenantry.integrations.resolvers import Resolver, bearer

#: How a sync token begins.
_PREFIX = "tns_"


def sync_token(
    *,
    scope: str | None = None,
    otherwise: Resolver | None = None,
    claims: bool = False,
    client: Callable[[HTTPConnection], str] | None = None,
) -> Resolver:
    """The tenant is the one whose sync token the request carries, as its bearer token: `router.tokens`.

    Args:
        scope: what every request here is for; None: endpoints ask by `require_scope`.
        otherwise: who decides about requests without a sync token, such as `jwt_tenant(…)` for people; None: they
            are refused.
        claims: the request's scopes get the claims `sub` ("token:ID"), `role` ("device") and `scope`, its scopes
            with a blank between.
        client: where a request comes from, for the limit of failures; None: the address of the socket's peer, of
            IPv6 its /64. Behind a proxy let the server fill that in (uvicorn's `--proxy-headers`).

    Raises (for a request): Unauthenticated (401), Forbidden (403), TooManyFailures (429), DatabaseUnavailable
    (503).
    """

    async def resolve(request: HTTPConnection) -> TenantId:
        if otherwise is not None and not _shows_one(request):
            return await otherwise(request)
        source = (_peer if client is None else client)(request)
        token = await current_router(request).tokens.verify(bearer(request), scope=scope, source=source)
        keep(request, TOKEN, token)
        if claims:
            said = {"sub": f"token:{token.id}", "role": "device", "scope": " ".join(token.scopes)}
            give_claims(request, said)
        return token.tenant

    return resolve


def current_token(request: HTTPConnection) -> VerifiedToken | None:
    """The sync token that the request was let in by; None: it was let in by something else."""
    token: VerifiedToken | None = request.scope.get("state", {}).get(TOKEN)
    return token


def require_scope(request: HTTPConnection, scope: str) -> None:
    """See that a device may do this. Who came in without a sync token is no device, and not held by this.

    Raises:
        Forbidden: the request's sync token does not have the scope.
    """
    token = current_token(request)
    if token is not None:
        token.check(scope)


def _shows_one(request: HTTPConnection) -> bool:
    try:
        return bearer(request).startswith(_PREFIX)
    except Unauthenticated:
        return False


def _peer(request: HTTPConnection) -> str:
    host = request.client.host if request.client is not None else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 4:
        return host
    if address.ipv4_mapped is not None:  # a socket of both families
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
