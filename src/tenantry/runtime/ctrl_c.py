"""What a Ctrl-C does while Python imports: a module that is being imported could swallow an exception."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

#: As shells have it: 128 + SIGINT.
_INTERRUPTED: Final = 130


@contextmanager
def ends_at_once() -> Iterator[None]:
    """Until the end of the block a Ctrl-C ends the process with 130, quietly. For what has nothing to clean up.

    Nothing changes where a Ctrl-C is not Python's own `KeyboardInterrupt` (a shell's background job ignores it,
    and goes on ignoring it), nor outside of the main thread, where signals are nobody's to set.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        ours = before is signal.default_int_handler and signal.signal(signal.SIGINT, _leave) is before
    except ValueError:  # not the main thread
        ours = False
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, before)


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(_INTERRUPTED)
