"""`tokens …`: promises to operators."""

from __future__ import annotations

import re

import pytest

from tests.integration.cli.conftest import Fleet

TOKEN = re.compile(r"tns_[0-9a-f]{20}_[A-Za-z0-9_-]{43}")


@pytest.fixture
def fleet_with_ada(installed: Fleet) -> Fleet:
    installed.ok("tenants", "add", "ada", "--database", "shared")
    return installed


def test_a_token_is_shown_once_listed_and_revoked(fleet_with_ada: Fleet) -> None:
    fleet = fleet_with_ada
    issued = fleet.ok(
        "tokens", "issue", "ada", "-s", "push", "-s", "orders:read", "--label", "till 7", "--json"
    ).json
    assert TOKEN.fullmatch(issued["secret"])
    assert issued["scopes"] == ["orders:read", "push"]
    assert (issued["tenant"], issued["label"], issued["state"]) == ("ada", "till 7", "active")
    (listed,) = fleet.ok("tokens", "list", "--json").json
    assert listed["id"] == issued["id"]
    assert "secret" not in listed
    shown = fleet.ok("tokens", "list", "--tenant", "ada")
    assert issued["secret"] not in shown.out
    assert issued["id"] in shown.out
    revoked = fleet.ok("tokens", "revoke", issued["secret"], "--yes", "--reason", "lost", "--json").json
    assert revoked["state"] == "revoked"
    assert fleet.ok("tokens", "list", "--json").json == []
    assert [one["state"] for one in fleet.ok("tokens", "list", "--past", "--json").json] == ["revoked"]
    assert fleet.ok("tokens", "revoke", issued["id"], "--yes", "--json").json == revoked


def test_all_of_a_tenants_tokens_are_revoked_at_once(fleet_with_ada: Fleet) -> None:
    for _ in range(3):
        fleet_with_ada.ok("tokens", "issue", "ada", "--expires", "never")
    done = fleet_with_ada.ok("tokens", "revoke", "--all-of", "ada", "--yes", "--json")
    assert done.json == {"tenant": "ada", "revoked": 3}


REFUSED: list[tuple[list[str], int, str]] = [
    (["issue", "nobody"], 1, "nobody"),
    (["issue", "ada", "--expires", "soon"], 2, "--expires"),
    (["issue", "ada", "--expires", "0s"], 2, "--expires"),
    (["issue", "ada", "--expires", "99999999999d"], 2, "--expires"),
    (["issue", "ada", "--scope", "two words"], 2, "scope"),
    (["list", "--tenant", "nobody"], 1, "nobody"),
    (["revoke", "0" * 20, "--yes"], 1, "tokens list"),
    (["revoke", "Zs3cr3t", "--yes"], 2, "neither"),
    (["revoke", "--yes"], 2, "--all-of"),
    (["revoke", "0" * 20, "--all-of", "ada", "--yes"], 2, "--all-of"),
    (["revoke", "--all-of", "nobody", "--yes"], 1, "nobody"),
]


def test_what_can_not_be_done_is_said_in_words(fleet_with_ada: Fleet) -> None:
    for words, code, says in REFUSED:
        ran = fleet_with_ada.run("tokens", *words)
        assert (ran.code, ran.out) == (code, ""), words
        assert says in ran.err, words
        assert "Zs3cr3t" not in ran.err
    assert fleet_with_ada.ok("tokens", "list", "--json").json == []
