"""The benchmarks run, and answer in the shape that the documentation's tables have. No figure is asserted."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.__main__ import SCRIPTS
from benchmarks.contract import Options, Row

ROOT = Path(__file__).parents[2]
COLUMNS = {"claim", "measured", "bound", "verdict", "beside", "note", "figures"}


@pytest.mark.timeout(300)  # two scripts, each with a server of its own, on a machine that may be busy
def test_the_quick_mode_of_two_scripts_prints_and_writes_the_same_json(tmp_path: Path) -> None:
    """Rows have all their columns, a verdict that is one of three, and numbers behind the words."""
    before = report.RESULTS.read_bytes() if report.RESULTS.exists() else None
    target = tmp_path / "results.json"
    command = [sys.executable, "-m", "benchmarks", "flights", "rls_cost", "--quick", "--json", str(target)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads(target.read_text())
    assert json.loads(done.stdout) == results
    assert list(results) == ["flights", "rls_cost"]
    for result in results.values():
        assert result["rows"]
        for row in result["rows"]:
            assert set(row) == COLUMNS
            assert row["verdict"] in {"met", "missed", "shown"}
            assert row["measured"]
            assert all(isinstance(number, int | float) for number in row["figures"].values())
    after = report.RESULTS.read_bytes() if report.RESULTS.exists() else None
    assert after == before, "the quick mode must not touch the last results"


def test_an_unknown_script_is_refused_by_name() -> None:
    """With the names that there are."""
    command = [sys.executable, "-m", "benchmarks", "nonsense"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "no script nonsense" in done.stderr
    assert "flights" in done.stderr


def test_every_script_keeps_the_contract() -> None:
    """`async def run(options: Options) -> list[Row]`, in every module that is listed and there."""
    found = [name for name in SCRIPTS if (report.HERE / f"{name}.py").exists()]
    assert {"flights", "checkout", "rls_cost", "index", "fairness", "directory", "budget"} <= set(found)
    for name in found:
        run = importlib.import_module(f"benchmarks.{name}").run
        assert inspect.iscoroutinefunction(run), name
        assert list(inspect.signature(run).parameters) == ["options"], name


def test_results_of_one_script_replace_only_its_own(tmp_path: Path) -> None:
    """The others' last results stay, in the table's order."""
    path = tmp_path / "results.json"
    old, new = (report.entry([Row(claim, "1", "", "shown")], 1.0) for claim in ("old", "new"))
    report.keep({"b": old, "a": old}, ("a", "b"), path)
    kept = report.keep({"b": new}, ("a", "b"), path)
    assert list(kept) == ["a", "b"]
    assert [kept[name]["rows"][0]["claim"] for name in kept] == ["old", "new"]
    assert json.loads(path.read_text()) == kept


def test_the_table_stands_between_the_pages_markers_and_nothing_else_changes(tmp_path: Path) -> None:
    """Refreshing twice gives the same text; a page without markers is left alone."""
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.START}\nold\n{report.END}\nafter\n")
    row = Row("a | b", "2 x", "at least 1 x", "met", "others", "by turns")
    results = {"a": report.entry([row], 1.0)}
    assert report.refresh(report.table(results), readme)
    once = readme.read_text()
    assert report.refresh(report.table(results), readme)
    assert readme.read_text() == once
    assert once.startswith(f"before\n{report.START}\n| what")
    assert once.endswith(f"{report.END}\nafter\n")
    assert "a \\| b" in once
    assert "old" not in once
    readme.write_text("no markers\n")
    assert not report.refresh(report.table(results), readme)
    assert readme.read_text() == "no markers\n"


def test_the_readme_and_the_page_show_the_figures_that_were_kept() -> None:
    """What was measured last stands in both, and each of the README's five is there."""
    results = json.loads(report.RESULTS.read_text())
    assert report.table(results) in report.PAGE.read_text()
    short = report.headlines(results)
    assert short in report.README.read_text()
    assert len(short.splitlines()) == 2 + len(report.HEADLINES)


def test_options_default_to_the_full_run() -> None:
    """`make bench` without flags is what fills the documentation."""
    assert not Options().quick
