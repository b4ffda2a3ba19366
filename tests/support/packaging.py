"""Distributions built of this tree, and environments that have a wheel: no network is asked."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_{}(sys.argv[1]), file=sys.stderr)"


class Built(NamedTuple):
    """The two distributions."""

    sdist: Path
    wheel: Path


def built_in(folder: Path) -> Built:
    """The source distribution of this tree, and the wheel of that."""
    leftovers = ignore_patterns(
        ".*_cache", ".venv", ".git", ".hypothesis", "__pycache__", "*.egg-info", "build", "dist"
    )
    source = copytree(ROOT, folder / "source", ignore=leftovers)
    sdist = _build("sdist", source, folder)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return Built(sdist, _build("wheel", unpacked, folder))


def _build(kind: str, source: Path, into: Path) -> Path:
    """What `python -m build --no-isolation` does for one of the two."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-W", "error::DeprecationWarning:setuptools", "-c", BUILD.format(kind), str(into)]
    done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return into / done.stderr.split()[-1]


class Fresh(NamedTuple):
    """A virtual environment with the wheel in it; what tenantry depends on is this environment's."""

    folder: Path
    packages: Path
    """Where the wheel was installed."""

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a shell in it, without this run's."""
        ours = ("PYTHON", "PYTEST", "TENANTRY", "COV_", "VIRTUAL_ENV")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        programs = Path(sys.executable).parent  # of what tenantry depends on: uvicorn, alembic
        return {**kept, "PATH": f"{self.folder / 'bin'}:{programs}:{kept['PATH']}"}

    def run(self, *command: object, cwd: Path) -> str:
        """Run a command there: what it wrote."""
        done = subprocess.run(
            [*map(str, command)], cwd=cwd, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def fresh_with(wheel: Path, folder: Path) -> Fresh:
    """Make one."""
    venv.create(folder, symlinks=True)
    here = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    fresh = Fresh(folder, here)
    pip = [sys.executable, "-m", "pip", "--python", fresh.python, "--disable-pip-version-check", "-q"]
    fresh.run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    # The .pth files of this environment, which name this tree, are not read.
    (here / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return fresh
