"""`python -m benchmarks [names] [--quick] [--json FILE]`: see the package."""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from benchmarks import report
from benchmarks.contract import Options
from benchmarks.fresh import in_fresh_process

#: In the order of the table in docs/explanation/benchmarks.md. Not all need be there.
SCRIPTS: Final = (
    "flights",
    "checkout",
    "latency",
    "network",
    "metering",
    "rls_cost",
    "index",
    "policy",
    "guard",
    "audit",
    "fairness",
    "directory",
    "budget",
    "ledger",
    "scrape",
    "witness",
    "move",
    "move_data",
    "tenant_data",
    "migrate",
    "cli_scale",
)


def main() -> int:
    """Run the scripts, print their results as JSON; 1 when one of them failed. A missed bound is a result."""
    arguments = parse()
    fresh: dict[str, Any] = {}
    failed = []
    for name in arguments.names:
        print(f"{name} ...", end=" ", file=sys.stderr, flush=True)
        started = perf_counter()
        try:
            rows = in_fresh_process(name, Options(quick=arguments.quick))
        except Exception:
            failed.append(name)
            print("failed", file=sys.stderr)
            traceback.print_exc()
            continue
        fresh[name] = report.entry(rows, perf_counter() - started)
        print(f"{perf_counter() - started:.0f} s", file=sys.stderr)
    text = json.dumps(fresh, indent=2, ensure_ascii=False)
    if arguments.json is not None:
        arguments.json.write_text(text + "\n")
    print(text)
    if arguments.quick:
        print("--quick: results.json and the documentation stay as they are", file=sys.stderr)
    else:
        kept = report.keep(fresh, SCRIPTS)
        for table, page in ((report.table(kept), report.PAGE), (report.headlines(kept), report.README)):
            if not report.refresh(table, page):
                print(f"{page.name} has no {report.START} … {report.END}", file=sys.stderr)
    return 1 if failed else 0


def parse() -> argparse.Namespace:
    """The command line."""
    there = [name for name in SCRIPTS if (report.HERE / f"{name}.py").exists()]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="One script per claim.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(there)}; none: all of them")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; figures mean little")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in there]
    if unknown:
        parser.error(f"no script {', '.join(unknown)}; there are {', '.join(there)}")
    arguments.names = arguments.names or there
    return arguments


if __name__ == "__main__":
    sys.exit(main())
