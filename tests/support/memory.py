"""Where the tests' servers keep their data: in memory, where there is plenty of it.

They are not durable anyway, and two thousand databases are made and dropped: on a disk, each takes ten times as
long.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Final

SHARED: Final = Path("/dev/shm")
#: Bytes that must be free: some fifteen servers of three workers, with their logs.
PLENTY: Final = 10 * 2**30


def use() -> None:
    """Make memory the temporary folder of this process and of those that it starts; not that of `tmp_path`.

    Whoever has set TMPDIR has chosen already.
    """
    if "TMPDIR" not in os.environ and _free(SHARED) >= PLENTY:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
        os.environ["TMPDIR"] = str(SHARED)
        tempfile.tempdir = None  # read from the environment again


def _free(folder: Path) -> int:
    """Bytes that can be written there without want of memory; 0: no such folder, or no programs can run there."""
    try:
        disk = os.statvfs(folder)
        memory = re.search(r"^MemAvailable: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        return 0
    if memory is None or disk.f_flag & os.ST_NOEXEC:
        return 0
    return min(disk.f_bavail * disk.f_frsize, int(memory[1]) * 1024)
