"""The program `tenantry`, as pip makes it of pyproject.toml's entry point."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer.main

from tenantry.cli import COMMANDS, build

ROOT = Path(__file__).parents[3]
#: Presses Ctrl-C at the moment in which a module is asked for; read by Python before the program begins.
_PRESS = """
import os, signal, sys

class Press:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["PRESS_AT"]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Press())
"""


def program() -> str:
    """What pip writes into the environment's `bin/tenantry`."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    module, _, function = scripts["tenantry"].partition(":")
    return f"import sys\nfrom {module} import {function}\nsys.exit({function}())"


def run(folder: Path, *arguments: str, press_at: str = "", before: str = "") -> subprocess.CompletedProcess[str]:
    """Run it to its end, with a Ctrl-C on the way."""
    (folder / "sitecustomize.py").write_text(_PRESS, encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TENANTRY_")}
    environment |= {"PYTHONPATH": str(folder), "PRESS_AT": press_at}
    return subprocess.run(
        [sys.executable, "-c", f"{before}\n{program()}", *arguments],
        capture_output=True, text=True, env=environment, cwd=folder, check=False,
    )  # fmt: skip


def test_the_program_runs_the_command_line(tmp_path: Path) -> None:
    assert run(tmp_path, "--version").stdout.strip()
    assert run(tmp_path, "moves", "nonsense").returncode == 2


def test_help_shows_every_command_with_what_it_says_of_itself() -> None:
    made = typer.main.get_command(build()).commands  # type: ignore[attr-defined]
    said = {name: " ".join(command.help.partition("\n\n")[0].split()) for name, command in made.items()}
    assert said == {name: text for name, (_, text) in COMMANDS.items()}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], [], ["nonsense"]])
def test_no_command_is_imported_before_it_is_called(arguments: list[str]) -> None:
    program = (
        "import json, sys; from tenantry.cli import main; main(sys.argv[1:]); print(json.dumps([*sys.modules]))"
    )
    said = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    loaded = set(json.loads(said.stdout.splitlines()[-1]))
    assert "tenantry.cli.command" in loaded
    assert {name.split(".")[1] for name in loaded if name.startswith("tenantry.")} <= {"cli", "errors", "runtime"}
    assert not loaded & {f"tenantry.cli.{module}" for module, _ in COMMANDS.values()}
    assert not loaded & {"asyncpg", "prometheus_client", "yaml"}


@pytest.mark.parametrize(
    "module",
    ["tenantry.cli", "pydantic", "asyncpg", "tenantry.wiring", "typer", "rich.console", "tenantry.cli.moves"],
)
def test_ctrl_c_while_python_still_imports_ends_quietly_with_130(tmp_path: Path, module: str) -> None:
    done = run(tmp_path, "moves", "list", press_at=module)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_background_job_that_ignores_ctrl_c_goes_on_ignoring_it(tmp_path: Path) -> None:
    ignore = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    done = run(tmp_path, "--version", press_at="tenantry.cli", before=ignore)
    assert (done.returncode, done.stderr) == (0, "")
