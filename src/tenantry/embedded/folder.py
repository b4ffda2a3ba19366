"""Folders of ours: whom they belong to, who can reach them, and how none is left behind."""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import tempfile
from pathlib import Path
from typing import Final

from tenantry.errors import TenantryError

UNPRIVILEGED: Final = "nobody"
DATA_PREFIX: Final = "tenantry-pg-"
PROGRAMS_PREFIX: Final = "tenantry-bin-"


class EmbeddedError(TenantryError):
    """The embedded PostgreSQL could not be found, started or stopped; the message says the fix."""


class Folder:
    """A folder of ours that PostgreSQL's user can write, locked for as long as this process lives.

    The lock lets the next process tell what a killed one has left behind, and remove it.
    """

    def __init__(self, path: Path, *, ours: bool) -> None:
        self.path = path
        self._ours = ours
        user = server_user()
        if user:
            os.chown(path, user.pw_uid, user.pw_gid)
        self._lock: int | None = None
        if ours:
            unlocked = path / "owner.lock.new"
            self._lock = os.open(unlocked, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            unlocked.rename(path / "owner.lock")  # named only once it is held, so nobody sweeps it

    @classmethod
    def temporary(cls, prefix: str, *, short: bool = False) -> Folder:
        parent = Path("/tmp") if short else temporary_root()  # noqa: S108  mkdtemp makes it safe; a socket's path must be short
        return cls(Path(tempfile.mkdtemp(prefix=prefix, dir=parent)).resolve(), ours=True)

    @classmethod
    def named(cls, path: Path) -> Folder:
        path = path.resolve()
        path.mkdir(parents=True, exist_ok=True)
        user = server_user()
        if user and not reachable(path.parent, user.pw_uid, user.pw_gid):
            raise EmbeddedError(
                f"PostgreSQL runs as {user.pw_name}, who may not enter {path.parent}: "
                "name a folder that every user can reach, or leave it out for a temporary one."
            )
        return cls(path, ours=False)

    def remove(self) -> None:
        if not self._ours or self._lock is None:
            return
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)
        self._lock = None


def server_user() -> pwd.struct_passwd | None:
    """Whom PostgreSQL runs as: `nobody` when we are root, otherwise ourselves (None)."""
    return pwd.getpwnam(UNPRIVILEGED) if os.geteuid() == 0 else None


def reachable(path: Path, uid: int, gid: int) -> bool:
    """True if that user may enter every folder above `path` and read and execute `path` itself."""
    real = path.resolve()

    def allowed(place: Path, wanted: int) -> bool:
        status = place.stat()
        shift = 6 if status.st_uid == uid else 3 if status.st_gid == gid else 0
        return (status.st_mode >> shift) & wanted == wanted

    return allowed(real, 0o5) and all(allowed(parent, 0o1) for parent in real.parents)


def temporary_root() -> Path:
    """The system's temporary folder, or the first usual one that PostgreSQL's user can reach."""
    user = server_user()
    usual = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]  # noqa: S108  parents for mkdtemp, which makes private folders
    for root in usual:
        if root.is_dir() and (user is None or reachable(root, user.pw_uid, user.pw_gid)):
            return root
    raise EmbeddedError(f"{UNPRIVILEGED} can enter no temporary folder: set TMPDIR to one that it can.")


def sweep() -> None:
    """Removes what processes of ours that were killed have left in the temporary folder."""
    for path in temporary_root().glob("tenantry-*-*"):
        try:
            lock = os.open(path / "owner.lock", os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            continue  # being made just now, or another user's
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _server_lives(path / "data" / "postmaster.pid"):
                shutil.rmtree(path, ignore_errors=True)
        except BlockingIOError:
            pass  # its owner lives
        finally:
            os.close(lock)


def _server_lives(pid_file: Path) -> bool:
    """True while a server whose owner is gone is still ending; a crash leaves the file behind."""
    try:
        os.kill(int(pid_file.read_text().split("\n", 1)[0]), 0)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True
