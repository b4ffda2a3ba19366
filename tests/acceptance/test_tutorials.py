"""The tutorials, followed to the letter on a server of their own: what they show is what was printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tenantry.embedded import EmbeddedServer

FOLDER = Path(__file__).parents[2] / "docs" / "tutorial"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)
#: Commands of the pages that say by exit code 1 that there is something to do.
FINDS = ("tenantry rls plan", "tenantry rls observed")


def shell_of(page: str) -> str:
    """The page's commands as one script that stops at the first failure."""
    script = []
    for language, block in BLOCK.findall((FOLDER / page).read_text(encoding="utf-8")):
        if language == "python":
            script.append(f"cat > count.py <<'PYTHON'\n{block}PYTHON\n")
        elif language == "sh":
            script += [
                f"{line} || test $? -eq 1" if line.startswith(FINDS) else line for line in block.splitlines()
            ]
    return "\n".join(script)


def told(text: str) -> list[str]:
    """A text's lines without what differs from run to run: numbers with units, ids, times, the columns' widths."""
    text = re.sub(r"\bm[0-9a-f]{10}\b", "MOVE", text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", text)
    text = re.sub(r"[\d.,]+ ms", "N ms", text)
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_tutorials_run_as_they_stand_and_print_what_they_show(tmp_path: Path) -> None:
    programs = Path(sys.executable).parent
    with EmbeddedServer.start(18) as server:
        server.psql("CREATE DATABASE product")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TENANTRY_")}
        environment |= {
            "DATABASE_URL": server.dsn("product"),
            "PATH": f"{programs}:{os.environ['PATH']}:{server.bin('psql').parent}",
            "PGSSLMODE": "disable",
        }
        for page in ("adopt.md", "promote.md"):
            script = f"set -e -o pipefail\n{shell_of(page)}"
            done = subprocess.run(
                ["bash", "-c", script],
                cwd=tmp_path,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{page}:\n{done.stdout}"
            printed = iter(told(done.stdout))
            shown = [
                text for language, text in BLOCK.findall((FOLDER / page).read_text("utf-8")) if language == "text"
            ]
            assert shown
            for line in told("".join(shown)):  # each of them, in the page's order
                assert line in printed, f"{page} shows what was not printed, or not there: {line}\n{done.stdout}"
