"""An open page while things happen: a promotion, and the control database going away. Runs with `make long`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.integration.server.conftest import Serving
from tests.support.pages import Watched, browsing
from tests.support.programs import require_program

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all."""
    with browsing(require_program("chromium")) as one:
        yield one


def test_the_page_of_a_move_shows_its_steps_as_they_happen(browser: Browser) -> None:
    command = [sys.executable, "-m", "tenantry", "demo", "--seconds", "1", "--keep"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("TENANTRY_", "PG"))}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=environment
    ) as demo:
        watched = Watched(browser)
        try:
            assert demo.stdout is not None
            for line in demo.stdout:
                if found := re.search(r"http://\S+/move\?id=\S+", line):
                    break
            else:
                raise AssertionError("the demo has named no page")
            page = watched.page
            while True:  # the move's first row is written some moments after its page is named
                page.goto(found[0])
                if page.locator("#steps").count():
                    break
            seen: list[int] = []
            deadline = time.monotonic() + 120
            while page.locator("#steps li.done", has_text="audit").count() == 0:
                assert time.monotonic() < deadline, seen
                done = page.locator("#steps li.done").count()
                if not seen or done != seen[-1]:
                    seen.append(done)
                page.wait_for_timeout(100)
            print(f"\nsteps that were seen to be done: {seen}")
            assert seen == sorted(seen)
            assert len(seen) >= 3, "the page has not followed the move"
            assert "tenantry moves release" in page.inner_text("#next")
        finally:
            watched.close()
            demo.terminate()
            demo.communicate(timeout=60)


@pytest.mark.parametrize("width", [360, 1280])
def test_an_open_page_says_when_the_control_database_goes_away_and_when_it_is_back(
    browser: Browser, serving: Serving, width: int
) -> None:
    watched = Watched(browser, width=width)
    try:
        watched.page.goto(serving.address + "/")
        watched.page.locator("#live", has_text="Live.").wait_for()
        serving.take_control_away()
        try:
            watched.page.locator("#verdict.wrong", has_text="control database can't be read").wait_for()
            assert "heavy" in watched.page.inner_text("#load")  # what was known is still there
            assert watched.violations() == []
            assert watched.overflow() == 0
        finally:
            serving.give_control_back()
        watched.page.locator("#verdict", has_not_text="control database can't be read").wait_for()
    finally:
        watched.close()
