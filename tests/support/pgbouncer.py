"""A real PgBouncer in front of an embedded server."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Mapping
from typing import Final, Literal, Self

from tenantry.embedded import EmbeddedServer, process
from tenantry.embedded.folder import Folder
from tenantry.embedded.server import HOST, free_port
from tests.support.programs import require_program

PoolMode = Literal["session", "transaction", "statement"]
START_SECONDS: Final = 20.0

# Mutable state of this module, for `obituaries`: those that were started and not stopped, and the obituaries of
# those that were found dead when they should have been stopped.
_started: set[PgBouncer] = set()
_stopped_dead: list[str] = []


class PgBouncerDied(AssertionError):
    """A PgBouncer of the tests has ended although nobody stopped it: what failed beside it failed for that."""


class PgBouncer:
    """A running PgBouncer; a context manager that stops it. Skips the test where it's missing.

    Any user and any database of the server behind it can be reached through it, without password.
    """

    def __init__(self, server: EmbeddedServer, mode: PoolMode, folder: Folder) -> None:
        self.server = server
        self.mode = mode
        self.host = HOST
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(
        cls,
        server: EmbeddedServer,
        mode: PoolMode = "transaction",
        *,
        pool_size: int = 10,
        settings: Mapping[str, str] | None = None,
    ) -> Self:
        """Starts it and returns when it accepts connections.

        `pool_size`: connections to the server per database and user. `settings`: more of
        `[pgbouncer]`'s parameters.
        """
        program = require_program("pgbouncer")
        bouncer = cls(server, mode, Folder.temporary("tenantry-pgbouncer-"))
        try:
            bouncer._write_config(pool_size, settings or {})
            config = str(bouncer._folder.path / "pgbouncer.ini")
            bouncer._process = process.start([str(program), config], bouncer._folder.path)
            _started.add(bouncer)
            bouncer._wait()
        except BaseException:
            bouncer.stop()
            raise
        return bouncer

    @property
    def pid(self) -> int | None:
        """The process id; None once stopped."""
        return self._process.pid if self._process else None

    def obituary(self) -> str:
        """What it ended with and its log's end, if it has ended although nobody stopped it; else empty."""
        if self._process is None or self._process.poll() is None:
            return ""
        pid, code, log = self._process.pid, self._process.returncode, self.log_text()
        return f"PgBouncer {pid} on port {self.port} ended by itself with {code}; its log ends:\n{log[-4000:]}"

    def dsn(self, database: str = "postgres", user: str = "postgres") -> str:
        """A connection URL that goes through PgBouncer. Raises PgBouncerDied if it has ended by itself."""
        self._check()
        return f"postgresql://{user}@{self.host}:{self.port}/{database}"

    def instead(self, url: str) -> str:
        """The same URL of a database of the server, through PgBouncer. Raises as `dsn`."""
        self._check()
        return url.replace(f"@{self.server.host}:{self.server.port}/", f"@{self.host}:{self.port}/")

    def log_text(self) -> str:
        """Everything that it has logged."""
        return (self._folder.path / "log").read_text(errors="replace")

    def stop(self) -> None:
        """Ends it at once, clients and all. Harmless when repeated."""
        _started.discard(self)
        if obituary := self.obituary():
            _stopped_dead.append(obituary)
        running, self._process = self._process, None
        if running is not None:
            running.terminate()  # SIGTERM: an immediate shutdown before PgBouncer 1.23
            try:
                running.wait(5)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait(5)
        self._folder.remove()

    def _check(self) -> None:
        if obituary := self.obituary():
            raise PgBouncerDied(obituary)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _write_config(self, pool_size: int, settings: Mapping[str, str]) -> None:
        parameters = {
            "listen_addr": self.host,
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "pool_mode": self.mode,
            "auth_type": "trust",
            "auth_user": "postgres",
            "auth_file": str(self._folder.path / "users.txt"),
            "default_pool_size": str(pool_size),
            "max_client_conn": "500",
            "ignore_startup_parameters": "extra_float_digits,options",
            "admin_users": "postgres",
            **settings,
        }
        lines = ["[databases]", f"* = host={self.server.host} port={self.server.port}"]
        lines += ["[pgbouncer]", *(f"{name} = {value}" for name, value in parameters.items())]
        (self._folder.path / "users.txt").write_text('"postgres" ""\n')
        (self._folder.path / "pgbouncer.ini").write_text("\n".join(lines) + "\n")

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PgBouncer did not start: {self.log_text()[-2000:]}")
            try:
                socket.create_connection((self.host, self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.01)


def obituaries() -> list[str]:
    """Of each PgBouncer that has ended although nobody stopped it: the report of a failed test shows them."""
    return _stopped_dead + [text for bouncer in _started if (text := bouncer.obituary())]


def forget() -> None:
    """A test has ended: forget the dead that nothing can meet any more."""
    _stopped_dead.clear()
