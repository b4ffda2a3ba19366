"""Builds the documentation's site into build/site: `python -m tools.build_site`.

Warnings are errors, and so is a page that would ask another host for anything: the site is read offline.
"""

from __future__ import annotations

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
SITE: Final = ROOT / "build" / "site"
#: What a browser loads without being asked: tag -> its attribute.
_LOADED: Final = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}


class Loads(HTMLParser):
    """Collects what a page loads from other hosts, in `foreign`."""

    def __init__(self) -> None:
        super().__init__()
        self.foreign: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an address with a host in it."""
        address = dict(attrs).get(_LOADED.get(tag, ""), None) or ""
        if address.startswith(("http://", "https://", "//")):
            self.foreign.append(address)


def foreign(html: str) -> list[str]:
    """The addresses on other hosts that a browser loads with this page."""
    page = Loads()
    page.feed(html)
    return page.foreign


def main() -> int:
    """0: the site is built, and complete in itself."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--clean", "--site-dir", SITE],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        check=False,
    )
    if done.returncode:
        return done.returncode
    pages = sorted(SITE.rglob("*.html"))
    wrong = [
        f"{page.relative_to(SITE)}: {address}" for page in pages for address in foreign(page.read_text("utf-8"))
    ]
    for line in wrong:
        print(f"loads from another host: {line}", file=sys.stderr)
    print(f"site: {len(pages)} pages in {SITE.relative_to(ROOT)}, start at index.html")
    return 1 if wrong or not pages else 0


if __name__ == "__main__":
    sys.exit(main())
