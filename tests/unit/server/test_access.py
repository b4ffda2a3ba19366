"""Who may look: by token, by proxy, by neither."""

from __future__ import annotations

import base64
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tenantry.errors import ConfigError
from tenantry.server.console.access import AccessMiddleware, ConsoleAccess, read_access

TOKEN = "a-token-of-twenty-five-chars"


async def get(access: ConsoleAccess, path: str = "/", *, peer: str = "203.0.113.9", **headers: str) -> int:
    async def answer(_request: Request) -> Response:
        return PlainTextResponse("in")

    app = Starlette(
        routes=[Route("/", answer), Route("/metrics", answer), Route("/healthz", answer)],
        middleware=[Middleware(AccessMiddleware, access=access)],
    )
    transport = httpx.ASGITransport(app=app, client=(peer, 4711))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return (await client.get(path, headers=headers)).status_code


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    return path


async def test_without_any_rule_everybody_may_look() -> None:
    assert await get(read_access(None, ())) == 200


async def test_a_token_is_taken_as_password_or_bearer_and_nothing_else_is(token: Path) -> None:
    access = read_access(token, ())
    assert await get(access, Authorization=f"Bearer {TOKEN}") == 200
    assert await get(access, Authorization=basic(TOKEN)) == 200
    for wrong in (
        "",
        "Bearer",
        "Bearer x",
        "Basic",
        "Basic !!!",
        "Basic /w==",
        basic(""),
        basic(TOKEN + "x"),
        TOKEN,
    ):
        assert await get(access, Authorization=wrong) == 401, wrong
    assert await get(access, "/metrics") == 401
    assert await get(access, "/healthz") == 200


async def test_a_new_token_counts_at_once_and_a_missing_file_lets_nobody_in(token: Path) -> None:
    access = read_access(token, ())
    token.write_text("another-token-of-thirty-characters")  # noqa: ASYNC240  a test
    assert await get(access, Authorization=f"Bearer {TOKEN}") == 401
    assert await get(access, Authorization="Bearer another-token-of-thirty-characters") == 200
    token.unlink()  # noqa: ASYNC240  a test
    assert await get(access, Authorization="Bearer another-token-of-thirty-characters") == 401


async def test_a_proxy_is_known_by_its_address_and_by_no_header(token: Path) -> None:
    access = read_access(None, ("10.0.0.0/8",))
    assert await get(access, peer="10.1.2.3") == 200
    assert await get(access, peer="::ffff:10.1.2.3") == 200
    assert await get(access, peer="::ffff:203.0.113.9") == 403
    assert await get(access, peer="203.0.113.9") == 403
    assert await get(access, peer="203.0.113.9", **{"X-Forwarded-For": "10.1.2.3"}) == 403
    both = read_access(token, ("10.1.2.3",))
    assert await get(both, peer="10.1.2.3") == 200
    assert await get(both, Authorization=f"Bearer {TOKEN}") == 200


@pytest.mark.parametrize("text", ["", "short", "two words that are long enough", "x" * 19])
def test_a_token_that_is_none_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    path = tmp_path / "token"
    path.write_text(text)
    with pytest.raises(ConfigError, match="at least 20 characters") as refused:
        read_access(path, ())
    assert not text or text not in str(refused.value)


def test_a_token_file_that_is_not_there_and_a_proxy_that_is_no_address_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        read_access(tmp_path / "nothing", ())
    with pytest.raises(ConfigError, match="write an address or a network"):
        read_access(None, ("proxy.example",))
