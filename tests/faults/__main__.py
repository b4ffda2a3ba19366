"""`python -m tests.faults [-n WORKERS]`: run the whole fault matrix, and write its table into its page.

The table stands between two markers and is written only of a whole run: every cell that pytest collects has ended.
`-k EXPRESSION` runs some cells and prints their table. `--keep FOLDER` keeps the JUnit files, and `--from FILE…`
makes the table of such files, so that a run may be done in parts; a cell in several counts as it ended last.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as xml
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tenantry.embedded import versions

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "explanation" / "faults.md"
START, END = "<!-- table -->", "<!-- /table -->"
FOLDERS: Final = ("tests/faults", "tests/integration/move", "tests/unit/move")

#: Beginnings of test functions' names, and the row of the matrix that they are. The first that fits counts.
ROWS: Final = (
    ("test_killed_mover", "F1"),
    ("test_frozen_mover", "F2"),
    ("test_a_broken_link_to_the_source", "F3"),
    ("test_a_comparison_whose_fence", "F3"),
    ("test_a_broken_link_between", "F4"),
    ("test_a_link_between", "F4"),
    ("test_a_slow_link", "F5"),
    ("test_no_fence_while", "F5"),
    ("test_a_commit_whose_answer", "F6"),
    ("test_a_crash_of_the_target", "F7"),
    ("test_a_crash_of_the_source", "F8"),
    ("test_a_mover_outlives", "F8"),
    ("test_a_lost_slot", "F9"),
    ("test_an_open_transaction", "F11"),
    ("test_writers_past_the_router_on_a_products", "F27"),
    ("test_writers_past_the_router", "F11, F12"),
    ("test_a_bypassing_writer", "F12"),
    ("test_a_prepared_transaction", "F13"),
    ("test_a_long_transaction", "F14"),
    ("test_a_transaction_that_delays", "F14"),
    ("test_a_huge_transaction", "F15"),
    ("test_a_table_", "F16"),
    ("test_a_schema_that_changes", "F16"),
    ("test_the_application_can_neither", "F17"),
    ("test_a_row_", "F17"),
    ("test_a_tenant_removed", "F17"),
    ("test_two_tenants_move", "F18"),
    ("test_a_lost_lease", "F18"),
    ("test_a_lease_whose", "F18"),
    ("test_nobody_writes_to_the_target", "F19"),
    ("test_every_corruption", "F19, F21"),
    ("test_corruption_after", "F19, F21"),
    ("test_a_target_with_rows", "F20"),
    ("test_what_an_abort_could_not_reach", "F20"),
    ("test_waiting_requests", "F22"),
    ("test_a_rollback_after", "F23"),
    ("test_promoted_and_demoted_many", "F23"),
    ("test_no_request_fails_and_no_write_is_lost", "F23"),
    ("test_a_mover_without_privileges", "F24"),
    ("test_each_missing_privilege", "F24"),
    ("test_timeouts_and_formats", "F25"),
    ("test_a_pooler_before", "F26"),
    ("test_routers_behind_a_pooler", "F26"),
    ("test_other_tenants_notice_nothing", "neighbours"),
    ("test_a_tenant_of_many_shapes", "shapes"),
    ("test_a_way_back_whose_worker", "F28"),
    ("test_a_move_that_is_begun_under", "F29"),
    ("test_a_migration_under", "F29"),
    ("test_a_failover_", "F30"),
    ("test_a_password_rotated", "F31"),
    ("test_a_tenant_without_rows", "shapes"),
    ("test_every_interleaving", "model"),
    ("test_naive_protocols", "model"),
)
#: Whole files that are one row.
FILES: Final = {
    "test_out_of_space": "F10",
    "test_waiting": "F22",
    "test_grid": "F11",
    "test_switch": "F2",
    "test_f18_two_movers": "F18",
}
#: Tests of tests/faults that are no row of the matrix.
BESIDE: Final = ("test_the_links_of_reference_tables",)


class Cell(NamedTuple):
    """One test's end."""

    row: str
    passed: bool
    seconds: float
    name: str
    skipped: bool = False


class Run(NamedTuple):
    """Of the whole matrix, what has ended."""

    expected: Collection[str]
    """Every cell that there is."""
    cells: Sequence[Cell]
    seconds: float
    """From beginning to end; 0: made of several runs."""
    workers: str


def main() -> int:
    """Run, or read, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("-n", default="2", help="workers")
    parser.add_argument("-k", default=None, help="only these, as pytest's -k; the page is left alone")
    parser.add_argument("--keep", type=Path, help="keep the JUnit files in this folder")
    parser.add_argument("--from", dest="files", nargs="*", type=Path, help="JUnit files of earlier runs")
    arguments = parser.parse_args()
    if arguments.files:
        cells = [cell for file in arguments.files for cell in read(file)]
        return publish(Run(collect(), latest(cells), 0.0, arguments.n), partial=False)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        cells = list(run(arguments.keep or Path(folder), arguments.n, arguments.k))
    ended = Run(collect(arguments.k), latest(cells), time.monotonic() - started, arguments.n)
    return publish(ended, partial=arguments.k is not None)


def run(folder: Path, workers: str, wanted: str | None) -> Iterable[Cell]:
    """Run the long cells, then the others, each in a pytest of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for marks in ("faults", "not faults"):
        file = (folder / f"{marks.replace(' ', '-')}.xml").resolve()
        file.unlink(missing_ok=True)
        command = [*pytest(wanted), "-q", "-n", workers, "-m", marks, "--junitxml", str(file)]
        subprocess.run(command, cwd=ROOT, check=False)
        yield from read(file) if file.exists() else []


def collect(wanted: str | None = None) -> set[str]:
    """The names of all cells."""
    command = [*pytest(wanted), "-q", "--collect-only", "-m", "faults or not faults"]
    output = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True).stdout
    nodes = [line.split("::", 1) for line in output.splitlines() if "::" in line]
    return {name for path, name in nodes if row_of(Path(path).stem, name)}


def pytest(wanted: str | None) -> list[str]:
    return [sys.executable, "-m", "pytest", *FOLDERS, *(["-k", wanted] if wanted else [])]


def row_of(file: str, name: str) -> str | None:
    """The row of a test, by its file's stem and its name; None: it is none of the matrix."""
    return FILES.get(file) or next((row for start, row in ROWS if name.startswith(start)), None)


def read(file: Path) -> list[Cell]:
    """The cells of one JUnit file; tests that are no row of the matrix are left out."""
    cells = []
    for case in xml.parse(file).iter("testcase"):
        name = case.get("name", "")
        row = row_of(case.get("classname", "").rpartition(".")[2], name)
        if row is None:
            continue
        failed = case.find("failure") is not None or case.find("error") is not None
        skipped = case.find("skipped") is not None
        cells.append(Cell(row, not failed, float(case.get("time", 0)), name, skipped))
    return cells


def latest(cells: Iterable[Cell]) -> list[Cell]:
    """A cell that ran more than once counts as it ended last; twice in one file (a failed teardown), as failed."""
    return list({cell.name: cell for cell in cells}.values())


def publish(ended: Run, *, partial: bool) -> int:
    """Write the table into the page if it is of a whole run, else print it. Returns the exit code."""
    text = table(ended)
    missing = sorted(set(ended.expected) - {cell.name for cell in ended.cells})
    if partial or missing:
        print(text)
        print(f"not the whole matrix ({len(missing)} cells have not run), so {PAGE.name} is left as it is")
        print("".join(f"  {name}\n" for name in missing[:20]), end="")
    else:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
        PAGE.write_text(f"{before}{START}\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    failed = [cell for cell in ended.cells if not cell.passed]
    for cell in failed:
        print(f"FAILED {cell.row} {cell.name}")
    return 1 if failed or (missing and not partial) else 0


def table(ended: Run) -> str:
    """The table, with what it was measured on and the names of the cells that failed."""
    cells = [cell for cell in ended.cells if not cell.skipped]
    rows: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        rows[cell.row].append(cell)
    order = sorted(rows, key=lambda row: (not row.startswith("F"), len(row.partition(",")[0]), row))
    lines = ["| row | cells run | passed | seconds |", "| --- | ---: | ---: | ---: |"]
    for row in order:
        mine = rows[row]
        seconds = sum(cell.seconds for cell in mine)
        lines.append(f"| {row} | {len(mine)} | {sum(cell.passed for cell in mine)} | {seconds:.0f} |")
    passed = sum(cell.passed for cell in cells)
    lines.append(f"| all | {len(cells)} | {passed} | {sum(cell.seconds for cell in cells):.0f} |")
    took = f"{ended.seconds / 60:.0f} minutes by the clock" if ended.seconds else "made of several runs"
    servers = ", ".join(map(str, versions()))
    lines += ["", f"PostgreSQL {servers}; {os.cpu_count()} cores, {ended.workers} workers, {took}."]
    lines += ["", f"Failed: {listed(cell for cell in cells if not cell.passed)}."]
    lines += [f"Skipped, for want of a program: {listed(cell for cell in ended.cells if cell.skipped)}."]
    return "\n".join(lines)


def listed(cells: Iterable[Cell]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(cell.name for cell in cells)) or "none"


if __name__ == "__main__":
    sys.exit(main())
