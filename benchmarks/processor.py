"""Processor time of a server: what work costs it, whatever else the machine does meanwhile."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from tenantry.embedded import EmbeddedServer

_TICKS = os.sysconf("SC_CLK_TCK")


def server_seconds(server: EmbeddedServer) -> float:
    """Seconds that the server's processes have worked, those that have ended included; to a hundredth.

    A process that ends between two looks is counted with its parent, so a difference is never short of it.
    """
    assert server.pid is not None
    found = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            fields = path.read_text().rpartition(")")[2].split()
            if path.parent.name == str(server.pid):
                found += sum(map(int, fields[11:15]))
            elif fields[1] == str(server.pid):
                found += int(fields[11]) + int(fields[12])
    return found / _TICKS
