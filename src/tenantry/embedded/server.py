"""One running PostgreSQL of ours, and its end."""

from __future__ import annotations

import atexit
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, Self
from urllib.parse import quote, urlencode

from tenantry.embedded import process
from tenantry.embedded.folder import DATA_PREFIX, EmbeddedError, Folder, sweep
from tenantry.embedded.programs import reachable_programs

HOST: Final = "127.0.0.1"
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 30.0
# Below Linux's ephemeral range: a client's outgoing connection can then never take the port of a
# server that is down for a restart.
PORTS: Final = range(15_000, 32_000)
SOCKET_PATH_BYTES: Final = 100  # the kernel's limit is 108, with the file's name and a NUL

DEFAULTS: Final[Mapping[str, str]] = {
    "wal_level": "logical",
    "max_connections": "200",
    "max_prepared_transactions": "20",
    "max_replication_slots": "64",
    "max_wal_senders": "64",
    "max_logical_replication_workers": "32",
    "max_sync_workers_per_subscription": "4",
    "max_worker_processes": "64",
    "shared_buffers": "128MB",
    "autovacuum": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}
NOT_DURABLE: Final[Mapping[str, str]] = {"fsync": "off", "full_page_writes": "off"}

StopMode = Literal["smart", "fast", "immediate"]
_SIGNALS: Final[Mapping[StopMode, signal.Signals]] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}

# Mutable state of this module: the servers to stop at exit.
_running: set[EmbeddedServer] = set()


class EmbeddedServer:
    """One running PostgreSQL, ours alone.

    Made by `EmbeddedServer.start`; a context manager that stops it. It ends with this process
    however this process ends: by `stop`, at exit, and on Linux by the kernel when the process is
    killed. (The kernel watches the *thread* that started the server, so servers are started from
    one thread that lives as long as the process.)

    `version` is the major version, `folder` holds `data` and `log`, `socket_dir` the unix socket,
    `host` and `port` the TCP address.
    """

    def __init__(
        self, version: int, binaries: Path, home: Folder, socket_home: Folder | None, *, tcp: bool
    ) -> None:
        self.version = version
        self.host = HOST
        self.folder = home.path
        self.socket_dir = socket_home.path if socket_home else home.path
        self._binaries = binaries
        self._folders = [home, socket_home] if socket_home else [home]
        self._tcp = tcp
        self._owner = os.getpid()
        # Mutable state: the process (None while stopped or crashed) and the port it listens on.
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 5432

    @classmethod
    def start(
        cls,
        version: int = 18,
        *,
        folder: Path | None = None,
        settings: Mapping[str, str] | None = None,
        tcp: bool = True,
        durable: bool = False,
    ) -> Self:
        """Starts a server and returns when it accepts connections.

        `folder`: where its data lives and stays; used again if it holds data of the same version.
        None means a temporary folder that `stop` removes. `settings`: `postgresql.conf` parameters
        on top of `DEFAULTS`. `tcp=False` listens on the unix socket only. `durable=True` waits for
        the disk at each commit, so that the data survives a crash of the machine too.
        """
        sweep()
        binaries = reachable_programs(version)
        # Registered anew, so that at exit the servers end before their copied programs are removed.
        atexit.unregister(_stop_all)
        atexit.register(_stop_all)
        home = Folder.named(folder) if folder else Folder.temporary(DATA_PREFIX)
        long = len(os.fsencode(home.path / ".s.PGSQL.99999.lock")) > SOCKET_PATH_BYTES
        sockets = Folder.temporary(DATA_PREFIX, short=True) if long else None
        server = cls(version, binaries, home, sockets, tcp=tcp)
        try:
            durability = {} if durable else NOT_DURABLE
            server._create({**DEFAULTS, **durability, **(settings or {})})
            server._launch_on_free_port()
        except BaseException:
            server.stop("immediate")
            raise
        return server

    @property
    def pid(self) -> int | None:
        """The postmaster's process id; None while the server is down."""
        return self._process.pid if self._process else None

    def dsn(self, database: str = "postgres", user: str = "postgres", password: str | None = None) -> str:
        """A connection URL over loopback TCP, or over the unix socket where `tcp=False`."""
        who = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
        if self._tcp:
            return f"postgresql://{who}@{self.host}:{self.port}/{quote(database, safe='')}"
        where = urlencode({"host": str(self.socket_dir), "port": str(self.port)})
        return f"postgresql://{who}@/{quote(database, safe='')}?{where}"

    def bin(self, name: str) -> Path:
        """The path of one of this version's programs, such as `pg_dump`."""
        path = self._binaries / name
        if not path.exists():
            raise EmbeddedError(f"PostgreSQL {self.version} here comes without the program {name}.")
        return path

    def psql(self, sql: str, database: str = "postgres", user: str = "postgres") -> str:
        """Runs SQL through psql and returns its unaligned rows; the first SQL error raises."""
        options = ["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-"]
        address = ["-h", str(self.socket_dir), "-p", str(self.port), "-U", user, "-d", database]
        done = subprocess.run(
            [self.bin("psql"), *options, *address],
            input=sql,
            capture_output=True,
            text=True,
            env=process.environment(),
            check=False,
        )
        if done.returncode:
            raise EmbeddedError(f"psql failed on {database}: {done.stderr.strip()}")
        return done.stdout.removesuffix("\n")

    def log_text(self) -> str:
        """Everything that the server has logged since it was made."""
        log = self.folder / "log"
        return log.read_text(errors="replace") if log.exists() else ""

    def stop(self, mode: StopMode = "fast") -> None:
        """Ends the server and removes the folders that were made for it. Harmless when repeated."""
        if os.getpid() != self._owner:
            return  # a forked child inherits the object, not the server
        try:
            self._end(mode)
        finally:
            for folder in self._folders:
                folder.remove()

    def crash(self) -> None:
        """Ends the server as a crash would: no checkpoint, clients cut off; `restart` recovers."""
        self._end("immediate")

    def restart(self, mode: StopMode = "fast") -> None:
        """Stops the server if it runs and starts it again on the same data and port."""
        self._end(mode)
        if not (self.folder / "data" / "PG_VERSION").exists():
            raise EmbeddedError("This server was stopped and its data removed: start a new one.")
        self._launch()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = f"pid {self.pid}, port {self.port}" if self._process else "down"
        return f"<EmbeddedServer {self.version}: {state}, {self.folder}>"

    def _create(self, settings: Mapping[str, str]) -> None:
        data = self.folder / "data"
        made = data / "PG_VERSION"
        if not made.exists():
            self._initdb(data)
        elif made.read_text().strip() != str(self.version):
            raise EmbeddedError(
                f"{data} holds data of PostgreSQL {made.read_text().strip()}, not {self.version}: "
                "name that version or another folder."
            )
        lines = [f"{name} = '{value.replace(chr(39), chr(39) * 2)}'" for name, value in settings.items()]
        conf = data / "postgresql.conf"
        with conf.open("a") as out:
            out.write("\n# tenantry\n" + "\n".join(lines) + "\n")

    def _initdb(self, data: Path) -> None:
        common = [str(self.bin("initdb")), "-D", str(data), "-U", "postgres", "-E", "UTF8"]
        common += ["-A", "trust", "--no-sync", "--no-instructions"]
        for locale in ("C.UTF-8", "C"):  # the first is missing from some minimal systems
            done = process.run_unprivileged([*common, f"--locale={locale}"], self.folder)
            if done.returncode == 0:
                return
        raise EmbeddedError(f"initdb of PostgreSQL {self.version} failed: {done.stderr.strip()}")

    def _launch_on_free_port(self) -> None:
        for _ in range(10):
            self.port = free_port() if self._tcp else 5432
            try:
                return self._launch()
            except _PortTaken:
                continue
        raise EmbeddedError(f"No free TCP port found between {PORTS.start} and {PORTS.stop}.")

    def _launch(self) -> None:
        seen = len(self.log_text())
        address = ["-h", self.host if self._tcp else "", "-p", str(self.port)]
        command = [str(self.bin("postgres")), "-D", str(self.folder / "data"), *address]
        command += ["-k", str(self.socket_dir)]
        self._process = process.start(command, self.folder)
        _running.add(self)
        deadline = time.monotonic() + START_SECONDS
        while not self._accepts():
            ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                self._end("immediate")
                log = self.log_text()[seen:]
                if "Address already in use" in log:
                    raise _PortTaken(f"Port {self.port} was taken while PostgreSQL started.")
                problem = "ended while starting" if ended else f"not ready in {START_SECONDS:.0f} s"
                raise EmbeddedError(f"PostgreSQL {self.version} {problem}: {log.strip()[-2000:]}")
            time.sleep(0.01)

    def _accepts(self) -> bool:
        """True once postmaster.pid says that this process is ready: what `pg_ctl -w` reads."""
        try:
            lines = (self.folder / "data" / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _end(self, mode: StopMode) -> None:
        process, self._process = self._process, None
        _running.discard(self)
        if process is None:
            return
        for attempt in (_SIGNALS[mode], signal.SIGQUIT, signal.SIGKILL):
            if process.poll() is None:
                process.send_signal(attempt)
            try:
                process.wait(STOP_SECONDS)
                return
            except subprocess.TimeoutExpired:
                continue
        raise EmbeddedError(f"PostgreSQL (process {process.pid}) did not end, even killed.")


class _PortTaken(EmbeddedError):
    """Another program took the port between our choice and PostgreSQL's bind."""


def free_port() -> int:
    """A TCP port of `PORTS` that nothing listens on now; another program may still take it."""
    chooser = random.SystemRandom()  # the seeded generator would give parallel test runs the same ports
    for _ in range(100):
        port = chooser.choice(PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise EmbeddedError(f"No free TCP port found between {PORTS.start} and {PORTS.stop}.")


def _stop_all() -> None:
    for server in list(_running):
        server.stop("fast")
