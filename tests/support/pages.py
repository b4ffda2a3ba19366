"""A real Chromium, driven by Playwright: what a page looks like, asks for, and says to a screen reader."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, sync_playwright

#: Milliseconds that anything may take on a machine that is busy.
PATIENCE: Final = 30_000
ARGUMENTS: Final = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")


@contextmanager
def browsing(program: Path) -> Iterator[Browser]:
    """A browser, ended with the block."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS), timeout=PATIENCE)
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """A page of which everything that a reader would not see is written down."""

    # Mutable state: complaints and hosts, added to by the browser.

    def __init__(self, browser: Browser, *, width: int = 1280, scheme: Any = "light", **options: Any) -> None:
        """Args:
        width: of the window, in pixels.
        scheme: "light" or "dark".
        """
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, **options
        )
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.width = width
        self.complaints: list[str] = []
        """Errors of the console, of scripts, and answers that are none."""
        self.hosts: set[str] = set()
        """That the page has asked."""
        self.page.on("console", lambda said: self._heard(said.type, said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))

    def _heard(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)

    def overflow(self) -> int:
        """Pixels by which the page is wider than its window."""
        wide: int = self.page.evaluate("document.documentElement.scrollWidth")
        return max(0, wide - self.width)

    def violations(self) -> list[str]:
        """What axe-core has against the page: all of its rules for WCAG 2.2 A and AA, and its best practices."""
        # Not as a script of the page, whose policy forbids that: in the browser's own name.
        if not self.page.evaluate("typeof axe !== 'undefined'"):
            self.page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
        found = self.page.evaluate("axe.run().then((told) => told.violations)")
        return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]

    def close(self) -> None:
        """Close the page and what belongs to it."""
        self.context.close()
