"""Named points at which tests stop the world; nothing happens in production.

`TENANTRY_FAILPOINTS=K13b=kill,K8.0=stop` kills this process (SIGKILL) at the first, and freezes it (SIGSTOP) at
the second. The points are those of the fault matrix (docs/faults.md).
"""

from __future__ import annotations

import os
import signal
from typing import Final

VARIABLE: Final = "TENANTRY_FAILPOINTS"
_passed: set[str] = set()  # mutable state: each point acts once in a process
_ACTIONS: Final = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}

#: Every point, in the order of the procedure.
POINTS: Final = (
    "K0", "K1", "K2", "K3", "K4", "K5", "K6", "K7", "K8.0", "K8.50", "K8.last", "K10", "K9", "K12", "K11",
    "K13a", "K13b", "K13c", "K13d", "K13e", "K13f", "K13g", "K13h", "K14", "K15", "K16",
)  # fmt: skip


def reach(point: str) -> None:
    """Say that `point` is reached."""
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    for entry in wanted.split(","):
        name, _, action = entry.partition("=")
        if name == point and point not in _passed:
            _passed.add(point)
            os.kill(os.getpid(), _ACTIONS[action])
