"""The wheel's types, as strict type checkers see them in a user's file: a scope's connection is asyncpg's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.packaging import Fresh

CODE = Path(__file__).with_name("user_code.py")
IGNORES = CODE.read_text(encoding="utf-8").count("# pyright: ignore")


def checked(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("ignores", [True, False], ids=["as it stands", "its mistakes not ignored"])
def test_mypy_finds_the_mistakes_of_a_users_file_and_nothing_else(
    fresh: Fresh, tmp_path: Path, ignores: bool
) -> None:
    text = CODE.read_text(encoding="utf-8")
    (tmp_path / "user_code.py").write_text(text if ignores else text.replace("# type: ignore", "# ignored"))
    mypy = [sys.executable, "-m", "mypy", "--strict", "--python-executable", fresh.python]
    ran = checked(*mypy, "--cache-dir", tmp_path / "cache", "user_code.py", cwd=tmp_path)
    assert ran.returncode == (0 if ignores else 1), ran.stdout + ran.stderr
    assert ran.stdout.count(": error:") == (0 if ignores else IGNORES), ran.stdout


@pytest.mark.long
@pytest.mark.timeout(300)
def test_pyright_finds_the_mistakes_of_a_users_file_and_nothing_else(fresh: Fresh, tmp_path: Path) -> None:
    tools = tmp_path / "tools"  # from the index: no other test needs it
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target", tools]
    installed = checked(*pip, "basedpyright", cwd=tmp_path)
    assert installed.returncode == 0, installed.stderr
    text = CODE.read_text(encoding="utf-8")
    (tmp_path / "user_code.py").write_text(text)
    mistakes = text.replace("# pyright: ignore", "# ignored").replace("# type: ignore", "# ignored")
    (tmp_path / "mistakes.py").write_text(mistakes)
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "strict"}))
    program = ["env", f"PYTHONPATH={tools}", tools / "bin" / "basedpyright", "--outputjson"]
    ran = checked(*program, "--pythonpath", fresh.python, "user_code.py", "mistakes.py", cwd=tmp_path)
    assert ran.stdout.strip().startswith("{"), ran.stdout + ran.stderr
    found = json.loads(ran.stdout)["generalDiagnostics"]
    errors = [one for one in found if one["severity"] == "error"]
    assert {Path(one["file"]).name for one in errors} == {"mistakes.py"}, errors
    lines = {one["range"]["start"]["line"] for one in errors}
    assert lines == {n for n, line in enumerate(text.splitlines()) if "# pyright: ignore" in line}, errors
