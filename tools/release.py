"""Builds the two distributions into dist/, checks them and tries them: `python -m tools.release`.

Each is installed into an environment of its own, with what it depends on from the index, and runs the
README's program there. Nothing is published: that is left to a person.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Final

import tenantry

ROOT: Final = Path(__file__).parent.parent
DIST: Final = ROOT / "dist"


def main() -> int:
    """0: dist/ holds a wheel and a source distribution that work."""
    print(f"tenantry {tenantry.__version__}", flush=True)
    shutil.rmtree(DIST, ignore_errors=True)
    # The build backend is this environment's: constraints.txt pins it.
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", DIST, ROOT)
    built = sorted(DIST.iterdir())
    kinds = [".tar.gz" if path.name.endswith(".tar.gz") else path.suffix for path in built]
    if sorted(kinds) != [".tar.gz", ".whl"] or not all(f"-{tenantry.__version__}" in path.name for path in built):
        print(f"not one wheel and one source distribution of this version: {built}", file=sys.stderr)
        return 1
    run(sys.executable, "-m", "twine", "check", "--strict", *built)
    for path in built:
        try_out(path)
    print(f"dist/ holds {' and '.join(path.name for path in built)}; `twine upload dist/*` publishes them")
    return 0


def try_out(distribution: Path) -> None:
    """Install it and run the program of the README, and the command line."""
    print(f"trying {distribution.name} ...", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        programs = Path(folder) / "bin"
        pip = (programs / "python", "-m", "pip", "install", "-qq", "--disable-pip-version-check")
        run(*pip, "-c", ROOT / "constraints.txt", f"{distribution}[cli,server,embedded]", cwd=folder)
        said = run(programs / "tenantry", "--version", cwd=folder)
        printed = run(programs / "python", "-c", program_of((ROOT / "README.md").read_text("utf-8")), cwd=folder)
        if (said, printed) != (f"{tenantry.__version__}\n", "1\n0\n"):
            raise SystemExit(f"{distribution.name} says {said!r}, and the README's program {printed!r}")


def program_of(readme: str) -> str:
    """The README's one program in Python.

    Raises:
        ValueError: there is none, or there are several.
    """
    (program,) = re.findall(r"^```python\n(.*?)^```", readme, re.M | re.S)
    return str(program)


def run(*command: object, cwd: str | Path = ROOT) -> str:
    """Run a command without this tree's variables: what it wrote on standard output.

    Raises:
        SystemExit: it failed; its output says how.
    """
    ours = ("PYTHON", "TENANTRY", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\nfailed:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
