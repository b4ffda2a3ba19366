"""The program `tenantry`, and `python -m tenantry`: what a Ctrl-C does before there is anything to stop.

Importing the command line takes some tenths of a second, and a Ctrl-C in them must look like one: no traceback,
exit code 130. So next to nothing is imported before the handler is set.
"""

from __future__ import annotations

import sys

from tenantry.runtime.ctrl_c import ends_at_once


def main() -> int:
    """Run the process's command line; returns its exit code."""
    with ends_at_once():
        from tenantry.cli import main as run
    return run()


if __name__ == "__main__":
    sys.exit(main())
