"""`python -m tests.faults [-n WORKERS] [-k EXPRESSION]`: run the whole fault matrix and write its table.

The table stands in docs/faults.md between two markers. `--from FILE…` makes it of JUnit files of earlier runs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "faults.md"
START, END = "<!-- table -->", "<!-- /table -->"
FOLDERS: Final = ("tests/faults", "tests/integration/move", "tests/unit/move")

#: Test functions, or beginnings of their names, and the row of the matrix that they are.
ROWS: Final = (
    ("test_killed_mover", "F1"),
    ("test_frozen_mover", "F2"),
    ("test_a_broken_link_to_the_source", "F3"),
    ("test_a_broken_link_between", "F4"),
    ("test_a_slow_link", "F5"),
    ("test_no_fence_while", "F5"),
    ("test_a_commit_whose_answer", "F6"),
    ("test_a_crash_of_the_target", "F7"),
    ("test_a_crash_of_the_source", "F8"),
    ("test_a_lost_slot", "F9"),
    ("test_an_open_transaction", "F11"),
    ("test_writers_past_the_router", "F11, F12"),
    ("test_a_bypassing_writer", "F12"),
    ("test_a_prepared_transaction", "F13"),
    ("test_another_tenants_long", "F14"),
    ("test_a_transaction_that_delays", "F14"),
    ("test_a_huge_foreign", "F15"),
    ("test_a_schema_that_changes", "F16"),
    ("test_a_row_that_moves_into", "F17"),
    ("test_of_two_movers", "F18"),
    ("test_a_running_move", "F18"),
    ("test_a_zombie", "F18"),
    ("test_every_corruption", "F19, F21"),
    ("test_corruption_after", "F19, F21"),
    ("test_a_target_with_rows", "F20"),
    ("test_promoted_and_demoted_many", "F23"),
    ("test_a_mover_without_privileges", "F24"),
    ("test_timeouts_and_formats", "F25"),
    ("test_a_pooler_before", "F26"),
    ("test_other_tenants_notice_nothing", "neighbours"),
    ("test_every_interleaving", "model"),
    ("test_naive_protocols", "model"),
)


class Cell(NamedTuple):
    """One test's end."""

    row: str
    passed: bool
    seconds: float
    name: str


def main() -> int:
    """Run, or read, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("-n", default="2", help="workers")
    parser.add_argument("-k", default=None, help="only these, as pytest's -k")
    parser.add_argument("--from", dest="files", nargs="*", type=Path, help="JUnit files of earlier runs")
    arguments = parser.parse_args()
    if arguments.files:
        write(cell for file in arguments.files for cell in read(file))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        cells: list[Cell] = []
        worst = 0
        for number, marks in enumerate(("faults", "not faults")):
            file = Path(folder) / f"{number}.xml"
            command = [sys.executable, "-m", "pytest", *FOLDERS, "-q", "-n", arguments.n, "-m", marks]
            command += ["--junitxml", str(file), *(["-k", arguments.k] if arguments.k else [])]
            worst = max(worst, subprocess.run(command, cwd=ROOT, check=False).returncode)
            cells += read(file) if file.exists() else []
    write(cells)
    return worst


def read(file: Path) -> list[Cell]:
    """The cells of one JUnit file; tests that are no row of the matrix are left out."""
    cells = []
    for case in xml.parse(file).iter("testcase"):
        name = case.get("name", "")
        row = next((row for start, row in ROWS if name.startswith(start)), None)
        if row is None or case.find("skipped") is not None:
            continue
        failed = case.find("failure") is not None or case.find("error") is not None
        cells.append(Cell(row, not failed, float(case.get("time", 0)), name))
    return cells


def write(cells: Iterable[Cell]) -> None:
    """Put the table into the page. A cell that ran more than once counts as it ended last."""
    last = {(cell.row, cell.name): cell for cell in cells}
    rows: dict[str, list[Cell]] = defaultdict(list)
    for cell in last.values():
        rows[cell.row].append(cell)
    order = list(dict.fromkeys(row for _, row in ROWS))
    lines = ["| row | cells run | passed | seconds |", "| --- | ---: | ---: | ---: |"]
    for row in (row for row in order if row in rows):
        mine = rows[row]
        seconds = sum(cell.seconds for cell in mine)
        lines.append(f"| {row} | {len(mine)} | {sum(cell.passed for cell in mine)} | {seconds:.0f} |")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    after = rest.partition(END)[2]
    PAGE.write_text("\n".join([before + START, *lines, END + after]), encoding="utf-8")
    for cell in last.values():
        if not cell.passed:
            print(f"FAILED {cell.row} {cell.name}")


if __name__ == "__main__":
    sys.exit(main())
