"""Devices at a service: a sync token in the place of a user's sign-in, 401 and 403 when it isn't good enough."""

from __future__ import annotations

import time
import uuid
from typing import Any

import jwt
import pytest
from fastapi import FastAPI, Request
from starlette.requests import HTTPConnection

from tenantry import Router
from tenantry.errors import TooManyFailures, Unauthenticated
from tenantry.integrations.fastapi import (
    CurrentTenant,
    TenantConnection,
    TenantMiddleware,
    error_handlers,
    jwt_tenant,
    lifespan,
    scope,
    sync_token,
)
from tenantry.integrations.request_state import ROUTER
from tenantry.integrations.starlette import current_token
from tenantry.router.failure_limit import BURST
from tests.support.product import Product
from tests.support.web import client

KEY = "a key that is long enough for HMAC with SHA-256, as PyJWT wants it"
CLAIMS = "SELECT nullif(current_setting('request.jwt.claims', true), '')"


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def app_of(product: Product) -> FastAPI:
    """Devices and people at the same endpoints; writing wants a scope of devices."""
    app = FastAPI(lifespan=lifespan(product.config(), metrics=False), exception_handlers=dict(error_handlers()))
    people = jwt_tenant(KEY, algorithms=["HS256"], parse=uuid.UUID)
    app.add_middleware(TenantMiddleware, resolve=sync_token(otherwise=people, claims=True))

    @app.get("/whoami")
    async def whoami(request: Request, tenant: CurrentTenant, conn: TenantConnection) -> dict[str, Any]:
        token = current_token(request)
        return {
            "tenant": str(tenant),
            "token": None if token is None else token.id,
            "claims": await conn.fetchval(CLAIMS),
        }

    @app.post("/students", dependencies=[scope("students:write")])
    async def add(conn: TenantConnection) -> None:
        await conn.execute("INSERT INTO students (name) VALUES ('by a device')")

    return app


async def test_devices_come_in_by_sync_tokens_and_people_by_theirs(shared: Product) -> None:
    async with shared.open() as router:
        mine, other = await shared.signed_up(router, 2)
        reads = await router.tokens.issue(mine, scope="students:read")
        writes = await router.tokens.issue(other, scope=["students:read", "students:write"])
        person = jwt.encode({"tenant_id": str(mine), "exp": time.time() + 60}, KEY, algorithm="HS256")
        async with client(app_of(shared)) as http:
            seen = (await http.get("/whoami", headers=bearer(reads.text))).json()
            assert (seen["tenant"], seen["token"]) == (str(mine), reads.token.id)
            assert seen["claims"] == f'{{"sub":"token:{reads.token.id}","role":"device","scope":"students:read"}}'
            seen = (await http.get("/whoami", headers=bearer(person))).json()
            assert seen == {"tenant": str(mine), "token": None, "claims": None}

            forbidden = await http.post("/students", headers=bearer(reads.text))
            assert (forbidden.status_code, forbidden.json()["code"]) == (403, "forbidden")
            assert (await http.post("/students", headers=bearer(writes.text))).status_code == 200
            assert (await http.post("/students", headers=bearer(person))).status_code == 200

            await router.tokens.revoke(other, writes.text)
            lost = await http.get("/whoami", headers=bearer(writes.text))
            while lost.status_code == 200:  # for a second at most: its own test
                lost = await http.get("/whoami", headers=bearer(writes.text))
            assert (lost.status_code, lost.json()["code"]) == (401, "unauthenticated")
            assert lost.headers["www-authenticate"] == "Bearer"
            for answer in (lost, forbidden):
                for secret in (str(mine), str(other), reads.token.id, writes.token.id, "revoked", "scope"):
                    assert secret not in answer.text
            for headers in ({}, bearer("tns_"), bearer("nonsense"), {"Authorization": reads.text}):
                assert (await http.get("/whoami", headers=headers)).status_code == 401
        assert await router.fetchval(other, "SELECT count(*) FROM students") == 1


async def test_who_sends_tokens_that_are_none_gets_429_with_retry_after(shared: Product) -> None:
    async with client(app_of(shared)) as http:
        answers = [await http.get("/whoami", headers=bearer("tns_forged")) for _ in range(BURST + 1)]
        assert [one.status_code for one in answers] == [401] * BURST + [429]
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert answers[-1].json()["code"] == "too_many_failures"


def request(router: Router, token: str, peer: str) -> HTTPConnection:
    headers = [(b"authorization", f"Bearer {token}".encode())]
    return HTTPConnection(
        {"type": "http", "headers": headers, "client": (peer, 1), "path": "/", "state": {ROUTER: router}}
    )


async def test_failures_are_counted_by_the_clients_address_and_of_ipv6_by_its_network(shared: Product) -> None:
    resolve = sync_token()
    async with shared.open() as router:
        for number in range(BURST):
            with pytest.raises(Unauthenticated):
                await resolve(request(router, "tns_x", f"2001:db8::{number:x}"))
        with pytest.raises(TooManyFailures):
            await resolve(request(router, "tns_x", "2001:db8::ffff"))
        for peer in ("2001:db8:0:1::1", "192.0.2.1", "", "testclient"):
            with pytest.raises(Unauthenticated):
                await resolve(request(router, "tns_x", peer))
        for _ in range(BURST):  # a socket of both families shows IPv4 so
            with pytest.raises(Unauthenticated):
                await resolve(request(router, "tns_x", "::ffff:192.0.2.9"))
        with pytest.raises(TooManyFailures):
            await resolve(request(router, "tns_x", "192.0.2.9"))
        with pytest.raises(Unauthenticated):
            await resolve(request(router, "tns_x", "::ffff:192.0.2.10"))
        named = sync_token(client=lambda _: "one proxy")
        for _ in range(BURST):
            with pytest.raises(Unauthenticated):
                await named(request(router, "tns_x", "192.0.2.2"))
        with pytest.raises(TooManyFailures):
            await named(request(router, "tns_x", "192.0.2.3"))
