"""Who a request is from: something verified becomes a tenant id, never a parameter of the client's choice.

A resolver is an async function of a request (Starlette's `HTTPConnection`, so websockets too) that returns the
tenant's id or raises `Unauthenticated` or `Forbidden`. Write your own in the same way; it may call `give_claims`,
for policies that ask who it is within the tenant.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from tenantry.errors import ConfigError, DatabaseUnavailable, Forbidden, Unauthenticated, UnknownTenant
from tenantry.integrations.request_state import TenantId, give_claims

if TYPE_CHECKING:
    import jwt

Resolver = Callable[[HTTPConnection], Awaitable[TenantId]]
Lookup = Callable[[str], Awaitable[TenantId | None]]

#: Seconds between two readings of a JWKS: a token with a made-up key id must not become a request to the issuer.
JWKS_PAUSE: Final = 10.0


def jwt_tenant(
    key: Any = None,
    *,
    algorithms: Sequence[str],
    claim: str = "tenant_id",
    issuer: str | None = None,
    audience: str | Sequence[str] | None = None,
    jwks_url: str | None = None,
    leeway: float = 30.0,
    parse: Callable[[Any], TenantId] = lambda value: value,
    pass_claims: Sequence[str] = (),
) -> Resolver:
    """The tenant is a claim of the bearer token, which must be signed, unexpired, and meant for us.

    Needs `pip install tenantry[jwt]`. The verification is PyJWT's; this pins what it must check.

    Args:
        key: the verification key; or None, and `jwks_url` names where the issuer publishes its keys.
        algorithms: those that are accepted, such as ["RS256"]. Never "none"; never taken from the token.
        claim: its name; a dotted path reaches into objects ("app_metadata.tenant_id").
        issuer, audience: what `iss` and `aud` must be. None: not checked (a token with an `aud` is then refused).
        jwks_url: read at the first token and when a token names an unknown key, at most every ten seconds.
        leeway: seconds that clocks may differ.
        parse: makes the id of the claim's value: `uuid.UUID` where ids are uuids.
        pass_claims: claims that the request's scopes get by name in `request.jwt.claims`, such as ["sub", "role"].
            One that a token doesn't have is left out.

    Raises (when made): ConfigError. Raises (for a request): Unauthenticated.
    """
    import jwt

    if isinstance(pass_claims, str):
        raise ConfigError(f'a list of claims, such as ["sub", "role"]; got {pass_claims!r}', key="pass_claims")

    if not algorithms or any(name.lower() == "none" for name in algorithms):
        raise ConfigError('name the algorithms that the issuer signs with, such as ["RS256"]', key="algorithms")
    if len({name.startswith("HS") for name in algorithms}) > 1:
        raise ConfigError("secrets (HS…) and public keys (RS…, ES…, …) may not be mixed", key="algorithms")
    if (key is None) == (jwks_url is None):
        raise ConfigError("give either a key or a jwks_url", key="key")
    _check_seconds("leeway", leeway)
    keys = None if jwks_url is None else _Jwks(_issuer(jwks_url))
    wanted = ["exp", *(["iss"] if issuer else []), *(["aud"] if audience else [])]

    async def resolve(request: HTTPConnection) -> TenantId:
        token = bearer(request)
        try:
            claims = jwt.decode(
                token,
                key if keys is None else await keys.key_of(jwt.get_unverified_header(token).get("kid")),
                algorithms=list(algorithms),
                issuer=issuer,
                audience=audience,
                leeway=leeway,
                options={"require": wanted},
            )
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("expired", "the token has expired") from error
        except jwt.PyJWTError as error:
            raise Unauthenticated("invalid", str(error)) from error
        value: Any = claims
        for part in claim.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is None or isinstance(value, bool | float | list | dict):
            raise Unauthenticated("invalid", f"the token has no usable claim {claim!r}")
        try:
            tenant = parse(value)
        except (TypeError, ValueError, AttributeError) as error:
            raise Unauthenticated("invalid", f"the claim {claim!r} is no tenant id") from error
        if pass_claims:
            give_claims(request, {name: claims[name] for name in pass_claims if name in claims})
        return tenant

    return resolve


def _issuer(url: str) -> jwt.PyJWKClient:
    import jwt

    parts = urlsplit(url)
    if parts.scheme != "https" and not (
        parts.scheme == "http" and parts.hostname in {"127.0.0.1", "::1", "localhost"}
    ):
        raise ConfigError("keys that decide who is let in are read over https", key="jwks_url")
    return jwt.PyJWKClient(url, cache_keys=False, cache_jwk_set=False, timeout=5)


class _Jwks:
    """An issuer's public keys, read when a token names one that is not known yet."""

    # Mutable state: _keys by key id, _next (loop time before which the issuer is not asked again).

    def __init__(self, client: jwt.PyJWKClient) -> None:
        self._client = client
        self._keys: dict[str | None, Any] = {}
        self._next = 0.0
        self._reading = asyncio.Lock()

    async def key_of(self, name: str | None) -> Any:
        """The key of that id; without an id, the only key."""
        import jwt

        found = self._known(name)
        if found is None:
            async with self._reading:
                found = self._known(name)
                if found is None and asyncio.get_running_loop().time() >= self._next:
                    await self._read()
                    found = self._known(name)
        if found is None:
            raise jwt.InvalidKeyError("the issuer has published no such key")
        return found

    def _known(self, name: str | None) -> Any:
        if name is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(name)

    async def _read(self) -> None:
        import jwt

        self._next = asyncio.get_running_loop().time() + JWKS_PAUSE
        try:
            published = await asyncio.to_thread(self._client.get_jwk_set)
        except (jwt.PyJWKClientError, jwt.PyJWKSetError) as error:
            if self._keys:
                return
            self._next = 0.0
            raise DatabaseUnavailable("identity", "the token issuer's keys can't be read") from error
        self._keys = {one.key_id: one for one in published.keys}


def bearer(request: HTTPConnection) -> str:
    """The bearer token of the Authorization header.

    Raises:
        Unauthenticated: there is none, or more than one header.
    """
    headers = request.headers.getlist("authorization")
    if not headers:
        raise Unauthenticated("missing", "no Authorization header")
    scheme, _, token = headers[0].partition(" ")
    if len(headers) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("malformed", "the Authorization header is not one bearer token")
    return token.strip()


def header_tenant(
    name: str = "X-Tenant-Id",
    *,
    trusted: Sequence[str],
    parse: Callable[[str], TenantId] = str,
) -> Resolver:
    """The tenant is a header that a trusted proxy sets, after it has authenticated the request.

    Args:
        trusted: addresses or networks of the proxies ("10.0.0.7", "10.1.0.0/16"). The peer of the socket counts,
            not what a forwarding header says. The proxy must remove the header from what clients send.
        parse: makes the id of the text: `uuid.UUID`, `int`.

    Raises (when made): ConfigError. Raises (for a request): Forbidden, Unauthenticated.
    """
    try:
        networks = [ipaddress.ip_network(one) for one in trusted]
    except ValueError as error:
        raise ConfigError(f"not an address or a network: {error}", key="trusted") from None
    if not networks:
        raise ConfigError("name the proxies that may set the header", key="trusted")

    async def resolve(request: HTTPConnection) -> TenantId:
        peer = request.client.host if request.client is not None else ""
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            address = None
        if address is None or not any(address in network for network in networks):
            raise Forbidden(
                "untrusted-proxy", f"the request came from {peer or 'an unknown peer'}, not from a proxy"
            )
        values = request.headers.getlist(name)
        if len(values) != 1 or not values[0].strip():
            raise Unauthenticated("missing", f"the proxy set {len(values)} {name} headers")
        try:
            return parse(values[0].strip())
        except ValueError as error:
            raise Unauthenticated("malformed", f"the {name} header is no tenant id") from error

    return resolve


def _check_seconds(name: str, value: float) -> None:
    """NaN above all: no token is older than a time plus NaN, so none would ever expire. Raises ConfigError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ConfigError(f"a time in seconds, finite and not below zero; got {value!r}", key=name)


def subdomain_tenant(
    domain: str, lookup: Lookup, *, ttl: float = 60.0, unknown_ttl: float = 5.0, capacity: int = 10_000
) -> Resolver:
    """The tenant is whom `lookup` names for the host's first label: `acme` of `acme.example.com`.

    A host name is no secret: it says whose pages these are, not who asks. Authenticate the user besides.

    Args:
        domain: what follows the label, such as "example.com".
        lookup: `await lookup("acme")` gives the tenant's id, or None.
        ttl, unknown_ttl: seconds for which an answer is remembered.
        capacity: names that are remembered.

    Raises (for a request): UnknownTenant.
    """
    _check_seconds("ttl", ttl)
    _check_seconds("unknown_ttl", unknown_ttl)
    suffix = "." + domain.lower().strip(".")
    known: dict[str, tuple[float, TenantId | None]] = {}

    async def resolve(request: HTTPConnection) -> TenantId:
        hosts = request.headers.getlist("host")
        host = hosts[0].rpartition(":")[0] if len(hosts) == 1 and hosts[0].rpartition(":")[2].isdigit() else ""
        host = (host or (hosts[0] if len(hosts) == 1 else "")).lower().rstrip(".")
        label = host.removesuffix(suffix)
        if not host.endswith(suffix) or not label or "." in label:
            raise UnknownTenant(host)
        now = asyncio.get_running_loop().time()
        until, tenant = known.get(label, (0.0, None))
        if until <= now:
            tenant = await lookup(label)
            if len(known) >= capacity:
                known.clear()
            known[label] = (now + (unknown_ttl if tenant is None else ttl), tenant)
        if tenant is None:
            raise UnknownTenant(label)
        return tenant

    return resolve
