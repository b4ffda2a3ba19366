"""Which links of reference tables nobody needs once a tenant has left a database."""

from __future__ import annotations

import pytest

from tenantry.move.journal import Link
from tenantry.move.teardown import unneeded


def link(publisher: str, subscriber: str, *, released: bool = True) -> Link:
    return Link(f"{publisher}-{subscriber}", released, f"{publisher}-{subscriber}_ref", publisher, subscriber)


@pytest.mark.parametrize(
    ("links", "homes", "left", "home", "gone"),
    [
        # Back to where it came from.
        ([link("shared", "acme")], {"shared"}, "acme", "shared", ["shared-acme"]),
        # To another shared database, which has reference tables of its own.
        ([link("shared", "acme")], {"other"}, "acme", "other", ["shared-acme"]),
        # To another dedicated one, whose tables hang on the old one's.
        ([link("shared", "acme"), link("acme", "third", released=False)], {"third"}, "acme", "third", []),
        # And from there to a shared one: nobody needs the chain any more.
        (
            [link("shared", "acme"), link("acme", "third")],
            {"shared"},
            "third",
            "shared",
            ["acme-third", "shared-acme"],
        ),
        # A chain that another database hangs on stays.
        (
            [link("shared", "acme"), link("acme", "third"), link("acme", "fourth")],
            {"shared", "fourth"},
            "third",
            "shared",
            ["acme-third"],
        ),
        # Round: the way there goes, the way back stays.
        (
            [link("shared", "acme"), link("acme", "third"), link("third", "acme", released=False)],
            {"acme"},
            "third",
            "acme",
            ["acme-third"],
        ),
        # Somebody else lives in the database that was left.
        ([link("shared", "acme")], {"shared", "acme"}, "acme", "shared", []),
        # A move that is not over looks after its own link.
        ([link("shared", "acme", released=False)], {"other"}, "acme", "other", []),
        # Others' are none of its business.
        ([link("shared", "fifth")], {"shared"}, "acme", "shared", []),
    ],
)
def test_links_of_reference_tables_go_when_no_tenant_needs_them(
    links: list[Link], homes: set[str], left: str, home: str, gone: list[str]
) -> None:
    assert [one.move for one in unneeded(links, homes, left=left, home=home)] == gone
