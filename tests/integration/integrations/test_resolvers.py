"""Who a request is from: what each resolver believes, and what it refuses."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tenantry.errors import ConfigError, DatabaseUnavailable, Forbidden, Unauthenticated, UnknownTenant
from tenantry.integrations import resolvers
from tenantry.integrations.resolvers import header_tenant, jwt_tenant, subdomain_tenant
from tests.support.web import served


def request(*headers: tuple[str, str], peer: str = "10.0.0.7") -> HTTPConnection:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    return HTTPConnection({"type": "http", "headers": raw, "client": (peer, 1), "path": "/"})


class Issuer:
    """An identity provider on loopback that publishes its keys, and counts who reads them."""

    def __init__(self) -> None:
        self.keys: dict[str, rsa.RSAPrivateKey] = {}
        self.readings = 0
        self.down = False
        self.app = Starlette(routes=[Route("/jwks", self.publish)])
        self.url = ""

    def add(self, name: str) -> None:
        self.keys[name] = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def publish(self, _request: Request) -> JSONResponse:
        self.readings += 1
        if self.down:
            return JSONResponse({}, 503)
        found = []
        for name, key in self.keys.items():
            found.append({**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())), "kid": name})
        return JSONResponse({"keys": found})

    def request(self, name: str, tenant: str = "acme", **claims: Any) -> HTTPConnection:
        payload = {"tenant_id": tenant, "exp": time.time() + 60, **claims}
        key = self.keys.get(name) or next(iter(self.keys.values()))
        token = jwt.encode(payload, key, algorithm="RS256", headers={"kid": name})
        return request(("Authorization", f"Bearer {token}"))


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    made = Issuer()
    made.add("one")
    async with served(made.app) as address:
        made.url = f"{address}/jwks"
        yield made


async def test_published_keys_are_read_once_and_again_when_a_token_names_a_new_one(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = jwt_tenant(algorithms=["RS256"], jwks_url=issuer.url)
    assert await asyncio.gather(*(resolve(issuer.request("one")) for _ in range(5))) == ["acme"] * 5
    assert issuer.readings == 1
    issuer.add("two")
    with pytest.raises(Unauthenticated):
        await resolve(issuer.request("two"))
    assert issuer.readings == 1, "a made-up key id must not become a request to the issuer"
    monkeypatch.setattr(resolvers, "JWKS_PAUSE", 0.0)
    again = jwt_tenant(algorithms=["RS256"], jwks_url=issuer.url)
    assert await again(issuer.request("one")) == "acme"
    issuer.add("three")
    assert await again(issuer.request("three", "other")) == "other"
    assert issuer.readings == 3


async def test_known_keys_outlive_an_issuer_that_is_down_and_unknown_ones_are_an_outage(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolvers, "JWKS_PAUSE", 0.0)
    resolve = jwt_tenant(algorithms=["RS256"], jwks_url=issuer.url)
    await resolve(issuer.request("one"))
    issuer.down = True
    assert await resolve(issuer.request("one")) == "acme"
    with pytest.raises(Unauthenticated):
        await resolve(issuer.request("forged"))
    fresh = jwt_tenant(algorithms=["RS256"], jwks_url=issuer.url)
    with pytest.raises(DatabaseUnavailable):
        await fresh(issuer.request("one"))


async def test_a_public_key_is_never_taken_for_a_secret(issuer: Issuer) -> None:
    """Algorithm confusion: HS256 over the published key."""
    resolve = jwt_tenant(algorithms=["RS256"], jwks_url=issuer.url)
    forged = jwt.encode(
        {"tenant_id": "acme", "exp": time.time() + 60}, "k" * 64, algorithm="HS256", headers={"kid": "one"}
    )
    with pytest.raises(Unauthenticated):
        await resolve(request(("Authorization", f"Bearer {forged}")))


@pytest.mark.parametrize(
    "arguments",
    [
        {"key": "k", "algorithms": []},
        {"key": "k", "algorithms": ["none"]},
        {"key": "k", "algorithms": ["HS256", "RS256"]},
        {"algorithms": ["RS256"]},
        {"key": "k", "jwks_url": "https://idp.example/jwks", "algorithms": ["RS256"]},
        {"jwks_url": "http://idp.example/jwks", "algorithms": ["RS256"]},
    ],
    ids=str,
)
def test_a_verification_that_verifies_nothing_can_not_be_configured(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        jwt_tenant(**arguments)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, True, "30"])
def test_a_time_with_which_nothing_would_ever_expire_can_not_be_configured(value: Any) -> None:
    async def lookup(_: str) -> None:
        return None

    with pytest.raises(ConfigError, match="leeway"):
        jwt_tenant("k" * 32, algorithms=["HS256"], leeway=value)
    for name in ("ttl", "unknown_ttl"):
        with pytest.raises(ConfigError, match=name):
            subdomain_tenant("example.com", lookup, **{name: value})


async def test_a_claim_may_be_nested_and_two_tokens_are_refused(issuer: Issuer) -> None:
    resolve = jwt_tenant(algorithms=["RS256"], jwks_url=issuer.url, claim="app.tenant", parse=uuid.UUID)
    tenant = uuid.uuid4()
    assert await resolve(issuer.request("one", app={"tenant": str(tenant)})) == tenant
    one = issuer.request("one", app={"tenant": str(tenant)}).headers["authorization"]
    with pytest.raises(Unauthenticated):
        await resolve(request(("Authorization", one), ("Authorization", one)))


async def test_a_proxy_s_header_is_believed_from_the_proxy_only() -> None:
    resolve = header_tenant(trusted=["10.0.0.0/28", "::1"], parse=int)
    assert await resolve(request(("X-Tenant-Id", "7"), peer="10.0.0.7")) == 7
    assert await resolve(request(("X-Tenant-Id", "7"), peer="::1")) == 7
    for peer in ("10.0.0.77", "192.0.2.1", "", "unix"):
        with pytest.raises(Forbidden):
            await resolve(request(("X-Tenant-Id", "7"), ("X-Forwarded-For", "10.0.0.7"), peer=peer))
    for headers in (
        [],
        [("X-Tenant-Id", " ")],
        [("X-Tenant-Id", "7"), ("X-Tenant-Id", "8")],
        [("X-Tenant-Id", "x")],
    ):
        with pytest.raises(Unauthenticated):
            await resolve(request(*headers))
    for trusted in ([], ["proxy"], ["10.0.0.7/8"]):
        with pytest.raises(ConfigError):
            header_tenant(trusted=trusted)


async def test_a_subdomain_is_looked_up_and_the_answer_is_remembered() -> None:
    asked: list[str] = []

    async def lookup(label: str) -> str | None:
        asked.append(label)
        return "acme-id" if label == "acme" else None

    resolve = subdomain_tenant("example.com", lookup)
    for host in ("acme.example.com", "ACME.example.com:8443", "acme.example.com."):
        assert await resolve(request(("Host", host))) == "acme-id"
    assert asked == ["acme"]
    for host in (
        "nobody.example.com",
        "example.com",
        ".example.com",
        "a.acme.example.com",
        "acme.example.com.evil.org",
    ):
        with pytest.raises(UnknownTenant):
            await resolve(request(("Host", host)))
    for headers in ([], [("Host", "acme.example.com"), ("Host", "other.example.com")]):
        with pytest.raises(UnknownTenant):
            await resolve(request(*headers))
    assert asked == ["acme", "nobody"]
