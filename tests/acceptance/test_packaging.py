"""What an installer gets: a source distribution that has everything, and a wheel, made of it, that runs.

Built with this environment's setuptools and installed from the file alone: no network is asked.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from email import message_from_bytes
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import NamedTuple

import pytest

import tenantry

ROOT = Path(__file__).parents[2]
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_{}(sys.argv[1]), file=sys.stderr)"


class Built(NamedTuple):
    """The two distributions."""

    sdist: Path
    wheel: Path


def build(kind: str, source: Path, into: Path) -> Path:
    """What `python -m build --no-isolation` does for one of the two."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-W", "error::DeprecationWarning:setuptools", "-c", BUILD.format(kind), str(into)]
    done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return into / done.stderr.split()[-1]


def shipped(root: Path) -> set[str]:
    """Every file of the package, by its path below `root`."""
    there = (path.relative_to(root) for path in (root / "tenantry").rglob("*") if path.is_file())
    return {str(path) for path in there if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The source distribution of this tree, and the wheel of that."""
    folder = tmp_path_factory.mktemp("packaging")
    leftovers = ignore_patterns(
        ".*_cache", ".venv", ".git", ".hypothesis", "__pycache__", "*.egg-info", "build", "dist"
    )
    source = copytree(ROOT, folder / "source", ignore=leftovers)
    sdist = build("sdist", source, folder)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return Built(sdist, build("wheel", unpacked, folder))


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == shipped(ROOT / "src")
    assert {"tenantry/py.typed", "tenantry/server/templates/status.html"} <= names
    assert sum(name.endswith(".sql") for name in names) > 50


def test_the_source_distribution_has_what_the_two_commands_need(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"Makefile", "constraints.txt", "pyproject.toml", "LICENSE", "config/tenantry.yaml"} <= names
    assert {f"src/{name}" for name in shipped(ROOT / "src")} <= names
    for folder in ("benchmarks", "docs", "tests", "tools"):
        here = {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*") if path.is_file()}
        assert {name for name in here if "__pycache__" not in name} <= names


def test_the_metadata_is_complete_and_asks_for_no_version_of_the_build_backend(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        (path,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(wheel.read(path))
    assert metadata["Version"] == tenantry.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Author"] == "tenantry maintainers"
    assert len(metadata.get_all("Classifier", [])) > 5
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = set(metadata.get_all("Provides-Extra", []))
    assert {"cli", "server", "embedded"} <= extras == set(project["project"]["optional-dependencies"])
    assert not [line for line in project["build-system"]["requires"] if "==" in line]


def test_the_wheel_installed_into_a_fresh_environment_runs_the_program_and_the_plugin(
    built: Built, tmp_path: Path
) -> None:
    venv.create(tmp_path / "fresh", symlinks=True)
    python = tmp_path / "fresh" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "-q"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}

    def run(*command: object) -> str:
        done = subprocess.run(
            [*map(str, command)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(*pip, "install", "--no-deps", "--no-index", built.wheel)
    here = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    # What tenantry depends on is this environment's; its .pth files, which name this tree, are not read.
    (here / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")

    assert run(python, "-c", "import tenantry; print(tenantry.__file__)").startswith(str(here))
    program = tmp_path / "fresh" / "bin" / "tenantry"
    assert "promote" in run(program, "moves", "--help") + run(program, "--help")
    assert run(program, "--version").strip() == tenantry.__version__
    (tmp_path / "test_it.py").write_text("def test_server(tenantry_product): assert tenantry_product.dsn\n")
    assert "1 passed" in run(python, "-m", "pytest", "-q", "-p", "no:randomly", tmp_path / "test_it.py")
