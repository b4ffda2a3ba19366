"""The console over a real control database: every page and its JSON, who may look, and news as they happen."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from tenantry.embedded import EmbeddedServer
from tests.integration.server.conftest import STORY, Serving, run
from tests.support import databases

HOSTILE = "<script>alert(1)</script>"
#: Every page with something to show, and what stands on it.
PAGES = {
    "/": "Is anything wrong?",
    "/tenants": "More",
    "/tenants?q=heav": "heavy",
    "/tenants?state=suspended": "suspended",
    "/tenants?database=acme&sort=-placed": "acme",
    "/tenants?page=24": "Before",
    "/tenant?id=heavy": "above 40.0% of shared",
    f"/tenant?id={quote(HOSTILE)}": "&lt;script&gt;",
    "/candidates": "tenantry promote heavy --to DATABASE --plan",
    "/databases": "shared",
    "/database?name=shared": "Who is loading it?",
    "/database?name=acme": "not known here",
    "/moves": "m0000000001",
    "/moves?tenant=nobody": "No move is like that",
    "/move?id=m0000000001": "tenantry moves resume m0000000001",
    "/checks": "tenantry rls audit",
    "/fleet": "No router has reported for a day",
    "/events": "Nothing like that is recorded",
}


@pytest.fixture(scope="module")
def served(pg18: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """One for all tests that change nothing."""
    with databases.control_database(pg18) as control:
        for serving in run(pg18, control, STORY, "30s", tmp_path_factory.mktemp("console")):
            serving.settle()
            yield serving


@pytest.fixture
def pg(pg18: EmbeddedServer) -> EmbeddedServer:
    """One version will do here: what differs between them is not asked."""
    return pg18


@pytest.mark.parametrize("path", PAGES)
def test_every_page_answers_and_so_does_its_json(served: Serving, path: str) -> None:
    page = served.get(path)
    assert page.status_code == 200, page.text
    assert PAGES[path] in page.text
    assert "<script>" not in page.text
    bare, _, query = path.partition("?")
    told = served.get(f"{'/index' if bare == '/' else bare}.json?{query}")
    assert told.status_code == 200
    assert {"at", "error", "verdict"} <= set(told.json())


@pytest.mark.parametrize(
    "path", ["/tenant", "/tenant?id=nobody", "/database?name=x", "/move?id=x", "/move?id=%00"]
)
def test_what_is_not_there_is_told_and_breaks_nothing(served: Serving, path: str) -> None:
    for each in (path, path.replace("?", ".json?") if "?" in path else f"{path}.json"):
        assert served.get(each).status_code == 404, each


@pytest.mark.parametrize(
    "path",
    [
        "/tenants?sort=id;drop&page=-3&q=%27%25_&state=x&database=%00",
        "/tenants?q=%00%ff",
        "/events?before=x&kind=%27&tenant=%00",
        "/events?before=99999999999999999999",
        "/moves?tenant=%00&sort=-",
    ],
)
def test_garbage_in_an_address_is_no_error_of_ours(served: Serving, path: str) -> None:
    assert served.get(path).status_code in (200, 404)


def test_all_lists_of_a_page_say_where_they_go_on(served: Serving) -> None:
    seen: list[str] = []
    page = 0
    while True:
        told = served.get(f"/tenants.json?page={page}").json()
        seen += [tenant["id"] for tenant in told["tenants"]]
        if not told["more"]:
            break
        page += 1
    assert len(seen) == len(set(seen)) == 1202


def test_events_are_told_newest_first_and_go_on(serving: Serving) -> None:
    serving.server.psql(
        "INSERT INTO tenantry.event (kind, actor, tenant, detail) "
        "SELECT 'tenant.added', 'a test', 't' || n, '{\"n\": 1}' FROM generate_series(1, 70) AS n",
        serving.control,
    )
    first = serving.get("/events.json?kind=tenant.").json()["events"]
    assert [event["tenant"] for event in first] == [f"t{n}" for n in range(70, 20, -1)]
    older = serving.get(f"/events.json?kind=tenant.&before={first[-1]['id']}").json()["events"]
    assert [event["tenant"] for event in older] == [f"t{n}" for n in range(20, 0, -1)]
    assert len(serving.get("/tenant.json?id=t3").json()["events"]) == 1


async def test_an_open_page_hears_of_news_and_does_not_keep_the_server_from_ending(serving: Serving) -> None:
    async with httpx.AsyncClient(timeout=30) as client, client.stream("GET", serving.address + "/live") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        async with asyncio.timeout(30):
            async for line in stream.aiter_lines():
                if line == "event: read":  # and from then on the stream ends by itself: the server closes it
                    serving.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(serving.process.wait, 30) in (0, -15)


@pytest.fixture
def guarded(pg18: EmbeddedServer, tmp_path: Path) -> Iterator[Serving]:
    """A server that wants a token."""
    (tmp_path / "token").write_text("a-token-of-twenty-five-chars\n")
    story = STORY.replace("m0000000001", "m0000000003")
    with databases.control_database(pg18) as control:
        yield from run(pg18, control, story, "30s", tmp_path, "--token-file", str(tmp_path / "token"))


def test_without_the_token_nothing_is_told_but_health(guarded: Serving) -> None:
    for path in ("/", "/index.json", "/metrics", "/live", "/static/live.js", "/tenants"):
        answer = guarded.get(path)
        assert answer.status_code == 401
        assert "heavy" not in answer.text
        assert answer.headers["www-authenticate"].startswith("Basic ")
    assert guarded.get("/healthz").status_code == 200
    token = {"Authorization": "Bearer a-token-of-twenty-five-chars", "Host": "console.example"}
    assert "heavy" in guarded.get("/", **token).text
    assert "whoever reaches this address" not in guarded.get("/", **token).text
