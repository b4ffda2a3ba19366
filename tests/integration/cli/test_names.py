"""Tenants are named, and meant by a name or by the beginning of a uuid; an id is never taken for another's."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable

import pytest

from tenantry.embedded import EmbeddedServer
from tests.integration.cli.conftest import _FILE, Fleet

ADA, BEN = "aaaa1111-0000-4000-8000-000000000001", "aaaa2222-0000-4000-8000-000000000002"


@pytest.fixture
def pg(pg18: EmbeddedServer) -> EmbeddedServer:
    """One version is enough."""
    return pg18


@pytest.fixture
def uuids(fleet: Fleet) -> Fleet:
    """Two tenants with uuids that begin alike."""
    fleet.write(_FILE.format(id_type="uuid"))
    fleet.ok("init")
    fleet.ok("tenants", "add", ADA, "--name", "Ada's School")
    fleet.ok("tenants", "add", BEN)
    return fleet


def test_a_tenant_is_meant_by_its_id_its_name_or_a_beginning_that_no_other_has(uuids: Fleet) -> None:
    for said in (ADA, ADA.upper(), "Ada's School", "ada's school", "aaaa1", "AAAA1111-0000"):
        assert uuids.ok("tenants", "show", said, "--json").json["id"] == ADA, said
    assert uuids.ok("tenants", "show", "aaaa2", "--json").json == {
        **uuids.ok("tenants", "show", BEN, "--json").json,
        "name": None,
    }


def test_every_command_that_takes_a_tenant_takes_a_name(uuids: Fleet) -> None:
    uuids.ok("tenants", "suspend", "aaaa2", "--yes")
    assert uuids.placement(BEN) == "shared|1|t"
    uuids.ok("tenants", "resume", "aaaa2")
    uuids.ok("tenants", "set", "ada's school", "--plan", "gold", "--name", "Ada & Sons")
    shown = uuids.ok("tenants", "show", "ada & sons", "--json").json
    assert (shown["id"], shown["plan"]) == (ADA, "gold")
    assert uuids.ok("usage", "Ada & Sons").code == 0
    assert uuids.run("moves", "list", "--tenant", "aaaa1").code == 0
    planned = uuids.run("promote", "Ada & Sons", "--to", "acme", "--plan", "--json")
    assert ADA in planned.out
    uuids.ok("tenants", "remove", "Ada & Sons", "--yes")
    assert uuids.run("tenants", "show", "Ada & Sons").code == 1


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("aaaa", "the beginning of several tenants' ids: {ada}, {ben}; write more"),
        ("aaa", "no tenant has 'aaa' for its id"),
        ("bbbb", "no tenant has 'bbbb' for its id"),
        ("Ada", "no tenant has 'Ada'"),
        (str(uuid.UUID(int=7)), "is not in the directory"),
        ("%", "no tenant has '%'"),
        ("a\nb", "not a uuid tenant id"),
    ],
)
def test_whoever_is_not_meant_is_not_touched(uuids: Fleet, said: str, words: str) -> None:
    ran = uuids.run("tenants", "remove", said, "--yes")
    assert ran.code in (1, 2)
    assert words.format(ada=ADA, ben=BEN) in ran.err
    assert len(uuids.ok("tenants", "list", "--json").json) == 2


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("ADA'S SCHOOL", 4, "is called"),
        (BEN, 2, "is an id"),
        ("  ", 2, "1 to 100 printable characters"),
        ("x" * 101, 2, "1 to 100 printable characters"),
        ("a\x1b[2J", 2, "1 to 100 printable characters"),
    ],
)
def test_a_name_that_would_mislead_is_refused_and_nothing_is_changed(
    uuids: Fleet, name: str, code: int, words: str
) -> None:
    for command in (["set", BEN, "--plan", "gold"], ["add", str(uuid.uuid4())]):
        ran = uuids.run("tenants", *command, "--name", name)
        assert (ran.code, words in ran.err) == (code, True), ran.err
    assert [(row["name"], row["plan"]) for row in uuids.ok("tenants", "list", "--json").json] == [
        ("Ada's School", None),
        (None, None),
    ]


def test_a_name_is_given_back_and_taken_away(uuids: Fleet) -> None:
    uuids.ok("tenants", "remove", "Ada's School", "--yes")
    uuids.ok("tenants", "set", BEN, "--name", "Ada's School")  # who was removed keeps it from nobody
    refused = uuids.run("tenants", "add", ADA, "--restore")
    assert refused.code == 4
    assert "another tenant is called" in refused.err
    uuids.ok("tenants", "set", BEN, "--name", "")
    uuids.ok("tenants", "add", ADA, "--restore")
    assert uuids.ok("tenants", "show", "ada's school", "--json").json["id"] == ADA


def test_numbers_and_texts_are_written_out(fleet: Fleet) -> None:
    fleet.write(_FILE.format(id_type="bigint"))
    fleet.ok("init")
    fleet.ok("tenants", "add", "12345", "--name", "acme")
    assert fleet.run("tenants", "remove", "1234", "--yes").code == 1
    assert fleet.ok("tenants", "show", "acme", "--json").json["id"] == "12345"


def test_a_directory_of_an_earlier_release_is_read_and_says_what_names_need(uuids: Fleet) -> None:
    uuids.server.psql(
        "DROP INDEX tenantry.tenant_name; ALTER TABLE tenantry.tenant DROP COLUMN name", uuids.control
    )
    assert [row["name"] for row in uuids.ok("tenants", "list", "--json").json] == [None, None]
    assert uuids.ok("tenants", "show", "aaaa1").code == 0
    ran = uuids.run("tenants", "set", ADA, "--name", "Ada")
    assert ran.code == 3
    assert "run `tenantry init`" in ran.err


def test_ids_stand_in_one_piece_on_a_terminal_of_eighty_columns(
    uuids: Fleet, monkeypatch: pytest.MonkeyPatch, make_terminal: Callable[[int], None]
) -> None:
    make_terminal(80)
    shown = uuids.ok("tenants", "list").out
    assert ADA in re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert BEN in re.sub(r"\x1b\[[0-9;]*m", "", shown)


@pytest.fixture
def make_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Standard output is a terminal from now on."""

    def make(width: int) -> None:
        from tenantry.cli.render import Renderer

        made = Renderer.__init__

        def coloured(self: Renderer, **options: object) -> None:
            made(self, **{**options, "colour": True})  # type: ignore[arg-type]

        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setattr(Renderer, "__init__", coloured)

    return make
