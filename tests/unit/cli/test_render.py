"""Data to stdout, prose to stderr, JSON when asked."""

from __future__ import annotations

import importlib
import io
import json
import pkgutil
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from tenantry import cli
from tenantry.cli.render import PAGE, OutputColumn, Renderer
from tenantry.errors import ConfigError

COLUMNS = (OutputColumn("id", "TENANT"), OutputColumn("busy", right=True))


class Screen:
    """A renderer and what it has written."""

    def __init__(self, *, as_json: bool = False, colour: bool = False) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        self.renderer = Renderer(as_json=as_json, out=self.out, err=self.err, colour=colour)


def test_plain_tables_are_aligned_with_a_heading() -> None:
    screen = Screen()
    assert screen.renderer.rows(COLUMNS, [{"id": "ada", "busy": 1.5}, {"id": "benjamin", "busy": 12.0}]) == 2
    assert screen.out.getvalue() == "TENANT    BUSY\nada        1.5\nbenjamin    12\n"
    assert screen.err.getvalue() == ""


def test_json_has_the_columns_keys_and_nothing_else() -> None:
    screen = Screen(as_json=True)
    screen.renderer.rows(COLUMNS, [{"id": "ada", "busy": None, "hidden": 1}])
    assert json.loads(screen.out.getvalue()) == [{"id": "ada", "busy": None}]


def test_no_rows_are_an_empty_list_for_programs_and_a_sentence_for_people() -> None:
    people, programs = Screen(), Screen(as_json=True)
    people.renderer.rows(COLUMNS, [], empty="no tenants")
    programs.renderer.rows(COLUMNS, [], empty="no tenants")
    assert (people.out.getvalue(), people.err.getvalue()) == ("", "no tenants\n")
    assert (programs.out.getvalue(), programs.err.getvalue()) == ("[]\n", "")


def test_on_a_terminal_tables_are_richs() -> None:
    screen = Screen(colour=True)
    screen.renderer.rows(COLUMNS, [{"id": "ada", "busy": 1}])
    assert "\x1b[" in screen.out.getvalue()
    assert "ada" in screen.out.getvalue()


@pytest.mark.parametrize("width", [1, 10, 40, 85, 86, 200])
def test_a_terminal_of_any_width_shows_every_value_in_one_piece_or_in_lines_that_can_be_read(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    screen = Screen(colour=True)
    keys = ("move", "tenant", "from", "to", "state", "step", "started", "why")
    columns = [OutputColumn(key) for key in keys]
    row = {key: f"value-of-{key}" for key in keys}  # as wide as what `moves list` shows
    screen.renderer.rows(columns, [row] * (PAGE + 1))
    seen = re.sub(r"\x1b\[[0-9;]*m", "", screen.out.getvalue())
    if width >= 86:  # folded, but not to crumbs
        assert "MOVE" in seen.splitlines()[0]
        assert "STARTED" in seen.splitlines()[0]
        assert all(f"value-of-{key}"[:8] in seen for key in keys)
    else:
        assert seen.startswith("MOVE value-of-move\nTENANT value-of-tenant\n")
        assert all(seen.count(f"{key.upper()} value-of-{key}\n") == PAGE + 1 for key in keys)
        assert seen.count("\n\n") == PAGE  # between two rows, between two pages too


@pytest.mark.parametrize("colour", [False, True])
def test_a_name_can_not_steer_the_terminal(colour: bool) -> None:
    screen = Screen(colour=colour)
    screen.renderer.rows(COLUMNS, [{"id": "\x1b[31mred[bold]\n", "busy": 1}])
    assert "\\x1b[31mred[bold]\\x0a" in screen.out.getvalue()


@pytest.mark.parametrize("as_json", [False, True])
async def test_a_long_list_is_written_while_it_is_read(as_json: bool) -> None:
    screen = Screen(as_json=as_json)
    seen = 0

    async def rows() -> AsyncIterator[dict[str, object]]:
        nonlocal seen
        for n in range(PAGE * 3):
            if n > PAGE * 2:
                assert "t0" in screen.out.getvalue()  # the first page is out before the last is read
                seen += 1
            yield {"id": f"t{n}", "busy": n}

    assert await screen.renderer.stream(COLUMNS, rows()) == PAGE * 3
    assert seen
    if as_json:
        assert len(json.loads(screen.out.getvalue())) == PAGE * 3


def test_facts_are_lines_for_people_and_an_object_for_programs() -> None:
    facts = {"name": "ada", "since": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "limits": {}, "suspended": False}
    people, programs = Screen(), Screen(as_json=True)
    people.renderer.facts(facts)
    programs.renderer.facts(facts)
    assert people.out.getvalue().splitlines()[1] == "since      2026-01-02 03:04:05"
    assert json.loads(programs.out.getvalue())["since"] == "2026-01-02T03:04:05+00:00"


def test_prose_goes_to_stderr_without_secrets() -> None:
    screen = Screen(as_json=True)
    screen.renderer.secrets.add("hunter2hunter2")
    screen.renderer.error("can't reach postgresql://a:hunter2hunter2@b or hunter2hunter2 [bold]")
    assert screen.out.getvalue() == ""
    assert screen.err.getvalue() == "error: can't reach ***\n" or "hunter2" not in screen.err.getvalue()
    assert "[bold]" in screen.err.getvalue()


def test_a_question_without_a_terminal_is_a_mistake_not_a_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    screen = Screen()
    with pytest.raises(ConfigError, match="--yes"):
        screen.renderer.confirm("Remove it?", yes=False)
    screen.renderer.confirm("Remove it?", yes=True)


def test_progress_without_a_terminal_is_one_line_at_the_end() -> None:
    screen = Screen()
    with screen.renderer.progress("importing") as step:
        step(3)
        step(4)
    assert screen.err.getvalue() == "importing: 7\n"


def test_every_column_of_ids_keeps_them_in_one_piece() -> None:
    modules = [
        importlib.import_module(f"tenantry.cli.{module.name}") for module in pkgutil.iter_modules(cli.__path__)
    ]
    tables = [value for module in modules for value in vars(module).values() if isinstance(value, tuple)]
    columns = {one for table in tables for one in table if isinstance(one, OutputColumn)}
    ids = {one for one in columns if one.key in ("tenant", "move") or one.title in ("TENANT", "MOVE")}
    assert len(ids) > 3
    assert {one for one in ids if not one.whole} == set()
