"""Named points at which tests stop the world; nothing happens in production.

`TENANTRY_FAILPOINTS=fence.marker_written=kill,copy.started=stop` kills this process (SIGKILL) at the first, and
freezes it (SIGSTOP) at the second. The points are those of the fault matrix (docs/explanation/faults.md).
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
    "run.started", "target.started", "schema.loaded", "placement.closed", "identities.set", "publication.created",
    "slot.created", "subscription.created", "copy.started", "copy.half", "copy.last_table", "indexes.built",
    "subscription.enabled", "reverse.prepared", "verify.started", "fence.locked", "fence.marker_written",
    "fence.marker_seen", "fence.marker_flushed", "fence.sequences_set", "fence.reverse_opened",
    "fence.placement_updated", "fence.commit_sent", "directory.updated", "audit.started", "release.deleting",
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
