"""The program `tenantry`, and `python -m tenantry`: what a Ctrl-C does before there is anything to stop.

Importing the command line takes some tenths of a second, and a Ctrl-C in them must look like one: no traceback,
exit code 130. So nothing is imported before the handler is set.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Final

#: As shells have it: 128 + SIGINT.
_INTERRUPTED: Final = 130


def main() -> int:
    """Run the process's command line; returns its exit code."""
    before = signal.getsignal(signal.SIGINT)
    ours = before is signal.default_int_handler  # a shell's background job ignores it, and goes on ignoring it
    if ours:
        signal.signal(signal.SIGINT, _leave)
    from tenantry.cli import main as run

    if ours:
        signal.signal(signal.SIGINT, before)
    return run()


def _leave(number: int, frame: FrameType | None) -> None:
    """End at once: an exception could be swallowed by a module that is being imported, and nothing has begun."""
    os._exit(_INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
