"""The fault matrix' table: every cell has a row, and a partial run does not pass for a whole one."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.faults import __main__ as matrix

CASES = """<testsuite>
<testcase classname="tests.faults.test_links" name="test_a_slow_link_x" time="1.5"/>
<testcase classname="tests.faults.test_frozen" name="test_frozen_mover_y[fence.x]" time="2"><failure/></testcase>
<testcase classname="tests.faults.test_grid" name="test_anything" time="3"/>
<testcase classname="tests.unit.move.test_plan" name="test_of_no_row" time="9"/>
<testcase classname="tests.faults.test_links" name="test_no_fence_while_z"><skipped/></testcase>
</testsuite>"""


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "faults.md"
    path.write_text(f"before\n{matrix.START}\nold\n{matrix.END}\nafter\n")
    monkeypatch.setattr(matrix, "PAGE", path)
    return path


@pytest.fixture
def cells(tmp_path: Path) -> list[matrix.Cell]:
    file = tmp_path / "junit.xml"
    file.write_text(CASES)
    return matrix.read(file)


def test_every_test_of_the_matrix_has_a_row() -> None:
    found = 0
    for path in (matrix.ROOT / "tests" / "faults").glob("test_*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            name = getattr(node, "name", "")
            if name.startswith("test_") and not name.startswith(matrix.BESIDE):
                found += 1
                assert matrix.row_of(path.stem, name), (
                    f"{path.name}::{name} has no row in tests/faults/__main__.py"
                )
    assert found > 30


def test_a_whole_run_is_written_with_the_names_of_what_failed(page: Path, cells: list[matrix.Cell]) -> None:
    run = matrix.Run({cell.name for cell in cells}, cells, 600.0, "2")
    assert matrix.publish(run, partial=False) == 1
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "| F2 | 1 | 0 | 2 |" in text
    assert "| F11 | 1 | 1 | 3 |" in text
    assert "| all | 3 | 2 |" in text
    assert "Failed: `test_frozen_mover_y[fence.x]`." in text
    assert "Skipped, for want of a program: `test_no_fence_while_z`." in text
    assert "10 minutes" in text


@pytest.mark.parametrize(("partial", "more"), [(True, set[str]()), (False, {"test_a_lost_slot_w"})])
def test_a_partial_run_is_not_written(
    page: Path, cells: list[matrix.Cell], capsys: pytest.CaptureFixture[str], partial: bool, more: set[str]
) -> None:
    run = matrix.Run({cell.name for cell in cells} | more, cells, 60.0, "2")
    assert matrix.publish(run, partial=partial) == 1
    assert "old" in page.read_text()
    assert f"({len(more)} cells have not run)" in capsys.readouterr().out


def test_a_cell_counts_as_it_ended_last(cells: list[matrix.Cell]) -> None:
    again = [cell._replace(passed=True) for cell in cells]
    assert all(cell.passed for cell in matrix.latest([*cells, *again]))
