"""The console over prepared fleets, at three widths, in both themes. Runs with `make long`."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Final

import pytest
from playwright.sync_api import Browser

from tests.support import fleets
from tests.support.fleets import Prepared
from tests.support.pages import Watched, browsing
from tests.support.programs import require_program
from tests.support.web import served

pytestmark = pytest.mark.long

FLEETS: Final = {
    "well": fleets.well,
    "outgrown": fleets.outgrown,
    "broken": fleets.broken,
    "away": fleets.away,
    "huge": fleets.huge,
    "empty": fleets.empty,
}
WIDTHS: Final = (360, 1280, 2560)
PATHS: Final = ("/", "/databases", "/database?name=shared", "/candidates", "/checks", "/fleet")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all."""
    with browsing(require_program("chromium")) as one:
        yield one


@contextlib.contextmanager
def serving(of: Prepared) -> Iterator[str]:
    """The console over a prepared fleet, on an event loop of another thread."""
    address: list[str] = []
    ready, done = threading.Event(), threading.Event()

    async def serve() -> None:
        async with served(fleets.console(of)) as found:
            address.append(found)
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(30)
        yield address[0]
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("fleet", FLEETS)
def test_a_fleet_can_be_read_at_every_width_in_both_themes(browser: Browser, fleet: str) -> None:
    with serving(FLEETS[fleet]()) as address:
        for width in WIDTHS:
            for scheme in ("light", "dark"):
                watched = Watched(browser, width=width, scheme=scheme)
                for path in PATHS:
                    where = f"{path} of {fleet}, {width} pixels, {scheme}"
                    answer = watched.page.goto(address + path)
                    if answer is not None and answer.status == 404:  # an empty fleet has no such database
                        watched.complaints.clear()
                    assert watched.overflow() == 0, where
                    assert watched.violations() == [], where
                    assert watched.complaints == [], where
                watched.close()


def test_without_javascript_everything_that_matters_is_there(browser: Browser) -> None:
    with serving(fleets.outgrown()) as address:
        watched = Watched(browser, java_script_enabled=False)
        watched.page.goto(address + "/")
        text = watched.page.inner_text("main")
        assert "tenantry promote heavy --to DATABASE --plan" in text
        watched.page.get_by_role("link", name="Databases", exact=True).click()
        watched.page.get_by_role("searchbox").fill("acme")
        watched.page.get_by_role("button", name="Find").click()
        assert "1 found" in watched.page.inner_text("main")
        watched.close()
