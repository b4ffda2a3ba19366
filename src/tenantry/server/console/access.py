"""Who may look: whoever knows the token, or comes through the operator's own proxy. Nobody may change anything.

A browser asks for the token itself (HTTP Basic, with any user name), a program sends it as a Bearer token.
/healthz is open: it names nobody.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tenantry.errors import ConfigError

OPEN: Final = frozenset({"/healthz"})
#: Characters of a token, at least.
SHORTEST: Final = 20
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class ConsoleAccess:
    """Who is let in. Neither a token nor a proxy: everybody who reaches the address."""

    token_file: Path | None = None
    proxies: Sequence[Network] = ()
    """Peers that let in only people whom they know."""

    @property
    def restricted(self) -> bool:
        """Somebody is kept out."""
        return self.token_file is not None or bool(self.proxies)


def read_access(token_file: Path | None, proxies: Sequence[str]) -> ConsoleAccess:
    """Check what was configured.

    Raises:
        ConfigError: the file can't be read or holds no good token; an address can't be read.
    """
    networks = []
    for text in proxies:
        try:
            networks.append(ipaddress.ip_network(text))
        except ValueError as error:
            raise ConfigError(f"{error}; write an address or a network, as 10.0.0.5 or 10.0.0.0/24") from None
    if token_file is not None:
        read_token(token_file)
    return ConsoleAccess(token_file, tuple(networks))


def read_token(path: Path) -> str:
    """The token of a file; blanks around it don't count.

    Raises:
        ConfigError: it can't be read, or holds no good token.
    """
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        raise ConfigError(f"the token file {path} can't be read: {why}") from None
    if len(token) < SHORTEST or any(character.isspace() for character in token):
        make = "python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
        raise ConfigError(
            f"the token file {path} must hold one token of at least {SHORTEST} characters; make one with {make}"
        )
    return token


class AccessMiddleware:
    """Lets in whom `access` names. The token's file is read each time: a new one counts at once."""

    def __init__(self, app: ASGIApp, access: ConsoleAccess) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or not self._access.restricted or scope["path"] in OPEN or self._let_in(scope):
            await self._app(scope, receive, send)
            return
        headers = {"Cache-Control": "no-store"}
        text = "Come through the proxy.\n"
        if self._access.token_file is not None:
            headers["WWW-Authenticate"] = 'Basic realm="tenantry: any name, and the token", charset="UTF-8"'
            text = "Send the token: as password with any user name, or as `Authorization: Bearer TOKEN`.\n"
        await PlainTextResponse(text, 401 if self._access.token_file else 403, headers)(scope, receive, send)

    def _let_in(self, scope: Scope) -> bool:
        return self._by_proxy(scope) or self._by_token(Headers(scope=scope).get("authorization", ""))

    def _by_proxy(self, scope: Scope) -> bool:
        client = scope.get("client")
        try:
            peer = ipaddress.ip_address(client[0]) if client else None
        except ValueError:
            return False
        if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped is not None:
            peer = peer.ipv4_mapped  # as a socket that listens for both tells an IPv4 peer
        return peer is not None and any(peer in network for network in self._access.proxies)

    def _by_token(self, authorization: str) -> bool:
        if self._access.token_file is None:
            return False
        try:
            token = read_token(self._access.token_file)
        except ConfigError:  # gone or half written: nobody is let in meanwhile
            return False
        return hmac.compare_digest(_shown(authorization).encode(), token.encode())


def _shown(authorization: str) -> str:
    """The token that a header shows; "": none."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            return ""
    return ""
