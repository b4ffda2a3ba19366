"""The command line itself: options before and behind the command, by the environment, and mistakes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
import typer

from tenantry.cli import build, exit_codes, main
from tenantry.cli.command import command, execute, root
from tenantry.cli.session import Session
from tenantry.errors import ConfigError

seen: list[tuple[Path, bool]] = []


def run(*arguments: str) -> tuple[Path, bool]:
    """What a command is told of the global options."""
    app = root()

    @command(app, "look")
    async def look(session: Session) -> None:
        """Look."""
        seen.append((session.path, session.out.as_json))

    @command(app, "other")
    def other(session: Session) -> None:
        """Another one, so that there are two."""

    assert execute(app, arguments) == 0
    return seen.pop()


def test_global_options_stand_before_or_behind_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TENANTRY_CONFIG", raising=False)
    assert run("look") == (Path("config/tenantry.yaml"), False)
    assert run("-c", "a.yaml", "--json", "look") == (Path("a.yaml"), True)
    assert run("look", "--config", "b.yaml", "--json") == (Path("b.yaml"), True)
    assert run("-c", "a.yaml", "look", "-c", "b.yaml")[0] == Path("b.yaml")


def test_the_environment_sets_them_and_the_command_line_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENANTRY_CONFIG", "e.yaml")
    monkeypatch.setenv("TENANTRY_JSON", "1")
    assert run("look") == (Path("e.yaml"), True)
    assert run("look", "-c", "b.yaml")[0] == Path("b.yaml")
    assert run("-c", "a.yaml", "look")[0] == Path("a.yaml")


def test_every_option_has_a_variable_of_the_commands_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    missing = tmp_path / "missing.yaml"
    monkeypatch.setenv("TENANTRY_CONFIG", str(missing))
    monkeypatch.setenv("TENANTRY_TENANTS_LIST_STATE", "nonsense")
    assert main(["tenants", "list"]) == exit_codes.USAGE


@pytest.mark.parametrize(
    ("key", "told"), [("place", "error: --to: is wrong"), ("other", "error: other: is wrong")]
)
def test_what_an_operation_calls_by_its_parameter_is_told_by_the_options_name(
    key: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    app = root()

    @command(app, "go")
    async def go(session: Session, place: Annotated[str, typer.Option("--to", help="Where to.")]) -> None:
        """Go."""
        raise ConfigError("is wrong", key=key)

    @command(app, "other")
    def other(session: Session) -> None:
        """Another one, so that there are two."""

    assert execute(app, ["go", "--to", "x"]) == exit_codes.USAGE
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["tenants", "nonsense"], ["--nonsense"], ["tenants", "show"], ["check", "--processes", "0"]],
)
def test_a_mistake_in_the_command_line_ends_with_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == exit_codes.USAGE
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err


def test_a_missing_file_ends_with_2_and_says_the_fix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--config", str(tmp_path / "none.yaml")]) == exit_codes.USAGE
    assert "TENANTRY_CONFIG" in capsys.readouterr().err


def test_an_unexpected_error_is_told_in_words_with_its_own_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    app = root()

    @command(app, "look")
    def look(session: Session) -> None:
        """Look."""
        session.out.secrets.add("hunter2hunter2")
        raise ZeroDivisionError("hunter2hunter2")

    @command(app, "other")
    def other(session: Session) -> None:
        """Another one, so that there are two."""

    assert execute(app, ["look"]) == exit_codes.BUG
    said = capsys.readouterr().err
    assert "report it" in said
    assert "hunter2" not in said
    assert "Traceback" not in said


def test_help_is_there_for_everything_and_every_option_is_described() -> None:
    import typer.main

    def walk(group: object) -> int:
        count = 0
        for inner in group.commands.values():  # type: ignore[attr-defined]
            assert inner.help, inner.name
            for parameter in inner.params:
                assert getattr(parameter, "help", None), (inner.name, parameter.name)
            count += walk(inner) if hasattr(inner, "commands") else 1
        return count

    assert walk(typer.main.get_command(build())) > 15


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    program = "import sys; from tenantry.cli import main; sys.exit(main(['--help']))"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    assert "Traceback" not in done.stderr
