"""Keeps the last results of every script, and the README's table made from them."""

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
README: Final = HERE.parent / "README.md"
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


def refresh(results: Mapping[str, Any], readme: Path = README) -> bool:
    """Write the table between the README's markers. False: it has none."""
    text = readme.read_text() if readme.exists() else ""
    head, start, rest = text.partition(START)
    _, end, tail = rest.partition(END)
    if not start or not end:
        return False
    readme.write_text(f"{head}{START}\n{table(results)}\n{END}{tail}")
    return True
