"""Runs the operator's command for one database: what its environment holds, and what is kept of its output."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shlex
import shutil
import string
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

from tenantry.config import ResolvedDatabase, secrets
from tenantry.errors import ConfigError
from tenantry.move.session import keywords, program_environment
from tenantry.runtime.shielded import run_shielded

#: Seconds between SIGTERM and SIGKILL.
GRACE: Final = 10.0
#: Characters of a line, and of all lines together, that are kept.
LINE, KEPT = 2_000, 8_000
#: Bytes of a line that are looked at: so many more than are shown that no half of a secret is shown.
_SHOWN: Final = 4 * 2 * LINE
#: Bytes of a line that are read before its rest is left out.
_LONGEST: Final = 65_536
#: Seconds for what the command has left in its pipe when it has ended; a daemon of its own would hold it open.
_LAST_WORDS: Final = 1.0
_SUPERVISOR: Final = str(Path(__file__).with_name("supervise.py"))
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ADDRESS: Final = re.compile(r"(?i)\b(postgres(ql)?|pgsql)(\+\w+)?://|\bjdbc:postgresql:")
#: What the tools of the trade print where a lock was not to be had in time.
_LOCKED: Final = re.compile(r"(?i)due to lock timeout|LockNotAvailable|55P03|could not obtain lock on")
#: What a template may name.
PLACES: Final = ("url", "rest", "host", "port", "user", "password", "dbname", "database")


class Ended(NamedTuple):
    """How a command ended."""

    exit: int | None
    """Its exit code, 128 + the signal that ended it; None: it took too long and was ended."""
    seconds: float
    output: str
    """The end of what it said, secrets taken out."""

    @property
    def locked(self) -> bool:
        """Whether it looks as if it could not have a lock in time."""
        return bool(self.exit) and _LOCKED.search(self.output) is not None

    @property
    def why(self) -> str:
        """Why it is not done, in words."""
        if self.exit is None:
            return f"the command was ended after {self.seconds:.0f} s"
        return f"the command ended with {self.exit}"


def check_variables(variables: Mapping[str, str]) -> None:
    """See that names are names, and that templates ask for what there is.

    Raises:
        ConfigError: one doesn't; before anything is touched.
    """
    for name, template in variables.items():
        if not _VARIABLE.fullmatch(name):
            raise ConfigError(f"{name!r} is no name of an environment variable", key="env")
        try:
            fields = [field for _, field, *_ in string.Formatter().parse(template) if field is not None]
        except ValueError as error:
            raise ConfigError(f"{name}: {error}; a brace that is meant is written twice", key="env") from None
        for field in fields:
            if field not in PLACES:
                known = ", ".join(f"{{{place}}}" for place in PLACES)
                raise ConfigError(f"{name}: there is no {{{field}}}; there are {known}", key="env")


def fill(template: str, name: str, dsn: str) -> str:
    """A template with a database's address in it.

    `{url}` is the connection URL, `{rest}` the same without `postgresql://`: `postgresql+psycopg://{rest}`.
    `{host}`, `{port}`, `{user}`, `{password}`, `{dbname}` are its parts (user and password as in a URL),
    `{database}` is what the directory calls it.
    """
    parts = keywords(dsn)
    filled = {place: parts.get(place, "") for place in PLACES}
    filled |= {"url": dsn, "rest": dsn.partition("://")[2], "database": name, "port": parts.get("port", "5432")}
    filled |= {key: quote(parts.get(key, ""), safe="") for key in ("user", "password")}
    return template.format_map(filled)


def withheld(ours: Mapping[str, str], known: Collection[str]) -> tuple[str, ...]:
    """Variables of our environment that the command does not get: credentials of databases.

    A tool that finds an address of its own there would migrate one database as often as there are databases.

    Args:
        known: secrets, as DSNs and passwords.
    """
    hidden = {secret for secret in known if len(secret) > 3}
    return tuple(
        sorted(
            name
            for name, value in ours.items()
            if not name.startswith(("PG", "TENANTRY_")) and (value in hidden or _ADDRESS.search(value))
        )
    )


def environment(
    database: ResolvedDatabase,
    run: str,
    *,
    lock_timeout: float,
    variables: Mapping[str, str],
    without: Collection[str] = (),
) -> dict[str, str]:
    """What the command finds: libpq's variables (PGHOST, PGDATABASE, PGPASSWORD …) and TENANTRY_MIGRATE_URL.

    And TENANTRY_MIGRATE_DATABASE, its name in the directory; TENANTRY_MIGRATE_KIND, shared or dedicated. Secrets
    are here and nowhere else: arguments are for every user of the machine to read.

    Args:
        lock_timeout: seconds, by PGOPTIONS; 0: not set.
        variables: templates, see `fill`.
        without: names that are not passed on.
    """
    dsn = database.require_operator_dsn()
    inherited = program_environment(dsn)
    kept = {k: v for k, v in inherited.items() if not k.startswith("TENANTRY_") and k not in without}
    kept |= {k: v for k, v in inherited.items() if k.startswith("PG")}
    kept.setdefault("PGAPPNAME", application_name(run))
    if lock_timeout:
        options = f"-c lock_timeout={round(lock_timeout * 1000)}"
        kept["PGOPTIONS"] = f"{kept['PGOPTIONS']} {options}" if "PGOPTIONS" in kept else options
    kept["TENANTRY_MIGRATE_URL"] = dsn
    kept["TENANTRY_MIGRATE_DATABASE"] = database.name
    kept["TENANTRY_MIGRATE_KIND"] = database.kind.value
    return kept | {name: fill(template, database.name, dsn) for name, template in variables.items()}


def application_name(run: str) -> str:
    """What sessions of the command are called, where its driver reads libpq's variables."""
    return f"tenantry migrate {run}"


async def run(
    argv: list[str],
    env: Mapping[str, str],
    *,
    timeout: float | None,
    known: Collection[str],
    tell: Callable[[str], None],
) -> Ended:
    """Run a command to its end. It has no standard input and no terminal; both its outputs are read together.

    Cancelled, or after the timeout, the command is ended with all processes of its group.

    Args:
        timeout: seconds; None: no limit.
        known: secrets that its output may show.
        tell: told each line of its output.
    """
    started = time.monotonic()
    lines = _Lines(known, tell)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-S", _SUPERVISOR, str(GRACE)),
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=dict(env),
        start_new_session=True,
    )
    assert process.stdout is not None
    reading = asyncio.create_task(lines.read(process.stdout))
    code: int | None = None
    try:
        async with asyncio.timeout(timeout):
            code = await process.wait()
    except TimeoutError:
        pass
    finally:
        await run_shielded(_end(process, reading), seconds=GRACE + 10, name=f"ending {argv[0]}")
    return Ended(code, round(time.monotonic() - started, 3), lines.text())


async def _end(process: asyncio.subprocess.Process, reading: asyncio.Task[None]) -> None:
    assert process.stdin is not None
    process.stdin.close()  # the supervisor ends the command
    try:
        async with asyncio.timeout(GRACE + 5):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    await asyncio.wait([reading], timeout=_LAST_WORDS)
    reading.cancel()
    await asyncio.wait([reading])
    process._transport.close()  # type: ignore[attr-defined]  # a pipe that a daemon holds open would stay


class _Lines:
    """What the command says, in lines that can be shown."""

    # Mutable state: the last lines and how many characters they have; a line that has not ended, and whether it
    # was too long, so that its rest is left out.

    def __init__(self, known: Collection[str], tell: Callable[[str], None]) -> None:
        self._known = known
        self._tell = tell
        self._kept: deque[str] = deque()
        self._size = 0
        self._open = b""
        self._cut = False

    async def read(self, stream: asyncio.StreamReader) -> None:
        """Read to the end; memory stays flat, however much it says."""
        try:
            while chunk := await stream.read(65_536):
                *whole, rest = re.split(rb"\r?\n|\r", self._open + chunk)
                if whole and self._cut:
                    self._cut = False
                    del whole[0]
                if len(rest) > _LONGEST and not self._cut:
                    whole.append(rest)
                    self._cut = True
                self._open = b"" if self._cut else rest
                self._add(whole)
        finally:
            if self._open:
                self._add([self._open])
                self._open = b""

    def _add(self, lines: list[bytes]) -> None:
        # All of them at once: their number is the command's to choose.
        together = "\n".join(line[:_SHOWN].decode("utf-8", errors="replace") for line in lines)
        for text in secrets.scrub(together, self._known).split("\n") if lines else ():
            shown = "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in text[:LINE])
            shown = shown if len(text) <= LINE else f"{shown} …"
            self._kept.append(shown)
            self._size += len(shown) + 1
            while self._size > KEPT and len(self._kept) > 1:
                self._size -= len(self._kept.popleft()) + 1
            self._tell(shown)

    def text(self) -> str:
        """The last lines."""
        return "\n".join(self._kept)


def words(argv: list[str], known: Collection[str]) -> str:
    """A command as a shell reads it, without secrets: for the journal, which also knows by it what goes on."""
    return secrets.scrub(shlex.join(argv), known)


def check_command(argv: list[str]) -> None:
    """See that there is such a program.

    Raises:
        ConfigError: there isn't; nothing was touched.
    """
    if not argv or not argv[0]:
        raise ConfigError("say what to run on each database: `tenantry migrate -- alembic upgrade head`")
    if any("\0" in word for word in argv):
        raise ConfigError("the command has a NUL character in it, which no program can be passed")
    if shutil.which(argv[0]) is None:
        raise ConfigError(
            f"{argv[0]}: no such program on this machine's PATH. For a shell's words: `-- sh -c '…'`"
        )
