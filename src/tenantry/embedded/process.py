"""A process that ends with ours, however ours ends."""

from __future__ import annotations

import functools
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Final

from tenantry.embedded.folder import server_user

# Runs between us and PostgreSQL, in the same process: drops root, asks the kernel for a SIGINT when
# the thread that started it is gone, and becomes the server. A program of its own instead of
# `preexec_fn`, which is not safe in a process with threads.
_BECOME: Final = """\
import ctypes, os, signal, sys
parent, uid, gid, *command = sys.argv[1:]
if uid:
    os.setgroups([]); os.setgid(int(gid)); os.setuid(int(uid))
if sys.platform == "linux":
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGINT))
if os.getppid() != int(parent):
    sys.exit("the process that wanted this server is gone")
os.execv(command[0], command)
"""


class _Launcher:
    """Starts processes from one thread that lives as long as this process.

    The kernel's parent-death signal fires when the parent *thread* ends, so a server that was
    started from a short-lived worker thread would die with it.
    """

    def __init__(self) -> None:
        self.process = os.getpid()
        self._jobs: queue.SimpleQueue[
            tuple[Callable[[], subprocess.Popen[bytes]], Future[subprocess.Popen[bytes]]]
        ] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="tenantry-embedded", daemon=True).start()

    def start(self, command: list[str], folder: Path) -> subprocess.Popen[bytes]:
        answer: Future[subprocess.Popen[bytes]] = Future()
        self._jobs.put((functools.partial(_become, command, folder), answer))
        return answer.result()

    def _work(self) -> None:
        while True:
            job, answer = self._jobs.get()
            try:
                answer.set_result(job())
            except BaseException as error:  # handed to the caller, who raises it
                answer.set_exception(error)


_launchers: list[_Launcher] = []
_launchers_lock = threading.Lock()


def start(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """Starts a program as PostgreSQL's user; it gets a SIGINT when this process is gone."""
    return _launcher().start(command, folder)


def _launcher() -> _Launcher:
    with _launchers_lock:
        if not _launchers or _launchers[-1].process != os.getpid():  # threads do not survive a fork
            _launchers.append(_Launcher())
        return _launchers[-1]


def _become(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    user = server_user()
    ids = [str(user.pw_uid), str(user.pw_gid)] if user else ["", ""]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _BECOME, str(os.getpid()), *ids, *command],
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # a Ctrl-C at the terminal is ours to handle, not the server's
        )


def run_unprivileged(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    user = server_user()
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        user=user.pw_uid if user else None,
        group=user.pw_gid if user else None,
        extra_groups=[] if user else None,
    )


def environment() -> dict[str, str]:
    # Nothing of the caller's: PGHOST, PGOPTIONS, LANG and the like would change what the server
    # does.
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
