"""The documentation's site is read offline: a page that loads from another host is found."""

from __future__ import annotations

import pytest

from tools.build_site import foreign


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/css">',
        "<img src='http://badge.example/x.svg' alt=''>",
    ],
)
def test_what_a_page_loads_from_another_host_is_found(html: str) -> None:
    assert len(foreign(f"<html><body>{html}</body></html>")) == 1


def test_links_to_follow_and_files_of_the_site_are_nobodys_business() -> None:
    assert foreign('<a href="https://www.postgresql.org/docs/">x</a><script src="../assets/x.js"></script>') == []
