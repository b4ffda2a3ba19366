"""Alembic over 23 databases: `tenantry migrate --jobs 4` against a shell's loop over the same ones.

Both run the same program on databases in the same state, the loop first. All databases stand on this machine's
server, so programs and server share the processors: what is won is what one program leaves idle.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks import stage
from benchmarks.contract import Options, Row, verdict
from tenantry.embedded import EmbeddedServer
from tests.support.alembic_project import add_revision, make_project
from tests.support.herd import Herd

SHARED: Final = 3
DEDICATED: Final = 20
JOBS: Final = 4
BOUND: Final = 2.0


async def run(options: Options) -> list[Row]:
    """One row."""
    shared, dedicated = (1, 2) if options.quick else (SHARED, DEDICATED)
    names = [f"shared{n}" for n in range(shared)] + [f"tenant{n}" for n in range(dedicated)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with stage.server(options.version) as server:
        loop = await asyncio.to_thread(measure, server, names, path, by_us=False)
        ours = await asyncio.to_thread(measure, server, names, path, by_us=True)
    ratio = loop / ours
    return [
        Row(
            f"{len(names)} databases migrated by Alembic, `--jobs {JOBS}`, against a serial shell loop",
            f"{ratio:.2f} x: {ours:.1f} s against {loop:.1f} s",
            f"at least {BOUND:.0f} x on two cores, none forgotten",
            verdict(ratio >= BOUND),
            note="two revisions from nothing; every database was at the last one afterwards, in both. With the "
            "canary alone, the journal, and the look at `rls plan` after each",
            figures={"ratio": round(ratio, 3), "ours s": round(ours, 3), "loop s": round(loop, 3)},
        )
    ]


def measure(server: EmbeddedServer, names: Iterable[str], path: str, *, by_us: bool) -> float:
    """Seconds for all of them, on new databases.

    Raises:
        RuntimeError: a database was forgotten.
    """
    with TemporaryDirectory() as folder:
        herd = Herd(server, Path(folder), list(names))
        try:
            command = make_project(Path(folder) / "product")
            add_revision(Path(folder) / "product")
            environment = {**os.environ, "PATH": path}
            began = time.perf_counter()
            if by_us:
                tenantry = [sys.executable, "-m", "tenantry", "-c", str(herd.path), "migrate", "--jobs", str(JOBS)]
                subprocess.run([*tenantry, "--", *command], env=environment, check=True, capture_output=True)
            else:
                urls = " ".join(f"'{server.dsn(database)}'" for database in herd.names.values())
                words = f'for url in {urls}; do TENANTRY_MIGRATE_URL="$url" {" ".join(command)} || exit 1; done'
                subprocess.run(["sh", "-c", words], env=environment, check=True, capture_output=True)
            took = time.perf_counter() - began
            if forgotten := [one for one in herd.names if herd.psql(one, "TABLE alembic_version") != "r2"]:
                raise RuntimeError(f"forgotten: {forgotten}")
            return took
        finally:
            herd.drop()
