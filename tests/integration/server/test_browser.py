"""The console in a real browser: every page, live, by keyboard, and judged by axe-core."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser

from tenantry.embedded import EmbeddedServer
from tests.integration.server.conftest import STORY, Serving, run
from tests.integration.server.test_console import PAGES
from tests.support import databases
from tests.support.pages import Watched, browsing
from tests.support.programs import require_program


@pytest.fixture(scope="module")
def served(pg18: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """One for all tests here."""
    with databases.control_database(pg18) as control:
        story = STORY.replace("m0000000001", "m0000000004")
        yield from run(pg18, control, story, "30s", tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all tests here."""
    with browsing(require_program("chromium")) as one:
        yield one


def test_every_page_is_whole_narrow_and_dark_and_axe_has_nothing_against_it(
    browser: Browser, served: Serving
) -> None:
    watched = Watched(browser, width=360, scheme="dark")
    try:
        for path in PAGES:
            watched.page.goto(served.address + path.replace("m0000000001", "m0000000004"))
            assert watched.violations() == [], path
            assert watched.overflow() == 0, path
        assert watched.complaints == []
        assert watched.hosts == {urlsplit(served.address).netloc}
    finally:
        watched.close()


def test_an_open_page_follows_what_happens_and_the_keyboard_reaches_everything(
    browser: Browser, served: Serving
) -> None:
    watched = Watched(browser)
    page = watched.page
    try:
        page.goto(served.address + "/move?id=m0000000004")
        page.locator("#live", has_text="Live.").wait_for()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        served.server.psql("UPDATE tenantry.move SET step = 'audit', changed_at = now()", served.control)
        page.locator("#steps li.done", has_text="audit").wait_for()
        page.goto(served.address + "/")
        page.get_by_role("link", name="Databases", exact=True).focus()
        page.keyboard.press("Enter")
        page.wait_for_url("**/databases")
        assert page.get_by_role("heading", level=1).inner_text() == "Databases"
        assert watched.violations() == []  # in light
        assert watched.complaints == []
    finally:
        watched.close()
