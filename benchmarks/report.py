"""Keeps each script's last results, and their tables: all in docs/explanation/benchmarks.md, five in README.md."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.contract import Row

HERE: Final = Path(__file__).parent
RESULTS: Final = HERE / "results.json"
PAGE: Final = HERE.parent / "docs" / "explanation" / "benchmarks.md"
README: Final = HERE.parent / "README.md"
#: The README's five: the row's claim, and its words there.
HEADLINES: Final = {
    "flights per scope with one query": "network round trips of a scope with one query (written by hand: 5)",
    "over a network of 0.5 ms each way: 32 callers on 8 connections, against the hand-written wrapper": (
        "scopes per second, half a millisecond from the server, 32 callers on 8 connections, against the same "
        "written by hand"
    ),
    "tenantry: scopes per second, 8 callers on 8 connections, against the hand-written wrapper": (
        "the same over loopback, 8 callers"
    ),
    "p99 of 20 other tenants while one keeps 300 requests of 20 ms waiting, pool of 10": (
        "p99 of 20 other tenants while one keeps 300 requests waiting, against their p99 alone (asyncpg's pool: "
        "some 500 x)"
    ),
    "client-seen pause at the flip, under load": "pause that clients see when their tenant moves, under load",
}
START: Final = "<!-- benchmarks:start -->"
END: Final = "<!-- benchmarks:end -->"
_WORDS: Final = {"met": "yes", "missed": "**no**", "shown": ""}


def entry(rows: Sequence[Row], seconds: float) -> dict[str, Any]:
    """What is kept of one script's run."""
    return {
        "at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}",
        "load": round(os.getloadavg()[0], 1),
        "seconds": round(seconds, 1),
        "rows": [row.as_json() for row in rows],
    }


def keep(fresh: Mapping[str, Any], order: Sequence[str], path: Path = RESULTS) -> dict[str, Any]:
    """Put fresh results over the old ones; returns all, in the order of the scripts."""
    known = json.loads(path.read_text()) if path.exists() else {}
    merged = {**known, **fresh}
    ordered = {name: merged[name] for name in order if name in merged}
    path.write_text(json.dumps(ordered, indent=2, ensure_ascii=False) + "\n")
    return ordered


def table(results: Mapping[str, Any]) -> str:
    """The results as a Markdown table."""
    lines = [
        "| what | measured | to reach | reached | beside | how |",
        "|---|---|---|---|---|---|",
    ]
    for result in results.values():
        for row in result["rows"]:
            cells = [
                row["claim"],
                row["measured"],
                row["bound"],
                _WORDS[row["verdict"]],
                row["beside"],
                row["note"],
            ]
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    machines = sorted({result["machine"] for result in results.values()})
    times = sorted(result["at"] for result in results.values())
    if times:
        lines += ["", f"Measured from {times[0]} to {times[-1]} on {'; '.join(machines)}, by `make bench`."]
    return "\n".join(lines)


def headlines(results: Mapping[str, Any]) -> str:
    """The README's rows, in its order and words."""
    rows = {row["claim"]: row for result in results.values() for row in result["rows"]}
    lines = ["| what | measured | to reach |", "|---|---|---|"]
    for claim, words in HEADLINES.items():
        if row := rows.get(claim):
            aim = f"{row['bound']}: missed" if row["verdict"] == "missed" else row["bound"]
            lines.append(f"| {words} | {row['measured']} | {aim} |")
    return "\n".join(lines)


def refresh(text_of_table: str, page: Path) -> bool:
    """Write a table between the page's markers. False: it has none."""
    text = page.read_text() if page.exists() else ""
    head, start, rest = text.partition(START)
    _, end, tail = rest.partition(END)
    if not start or not end:
        return False
    page.write_text(f"{head}{START}\n{text_of_table}\n{END}{tail}")
    return True
