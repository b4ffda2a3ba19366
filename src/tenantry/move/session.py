"""The two ends of a move, and sessions with them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

import asyncpg

from tenantry.ids import Kind
from tenantry.move.errors import Unreachable
from tenantry.runtime.connection_errors import TRANSIENT
from tenantry.runtime.shielded import run_shielded
from tenantry.runtime.sqltext import literal

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

CONNECT_SECONDS: Final = 10.0
CLOSE_SECONDS: Final = 5.0

#: After which a publisher gives up a receiver that does not answer. Not never: a dead one would keep its slot.
PUBLISHER_PATIENCE: Final = "60s"
#: Settings of every session of the mover. What an operator has set for roles or databases (timeouts, read-only,
#: another date style) must not end a copy in the middle or make equal rows look different.
SETTINGS: Final[Mapping[str, str]] = {
    "search_path": "pg_catalog",
    "statement_timeout": "0",
    "lock_timeout": "2min",  # no wait for somebody else is without an end; who it was for is told
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "tcp_user_timeout": "0",  # the system's own patience with a network
    "wal_sender_timeout": PUBLISHER_PATIENCE,
    "default_transaction_read_only": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "synchronous_commit": "on",
    "row_security": "off",  # a role that does not bypass fails loudly instead of copying zero rows
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "quote_all_identifiers": "off",
    "xmloption": "content",
    "jit": "off",  # a comparison's many statements would each be compiled anew
}
#: The same for settings that older servers refuse to know: name -> major version since which it is there, value.
NEWER_SETTINGS: Final[Mapping[str, tuple[int, str]]] = {"transaction_timeout": (17, "0")}
#: Timeouts of the publisher's side of a subscription, and what they become.
_PUBLISHER_TIMEOUTS: Final[Mapping[str, str]] = {
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "tcp_user_timeout": "0",
    "wal_sender_timeout": PUBLISHER_PATIENCE,
}
#: Variables that the driver obeys where a URL leaves something open, and libpq too.
_OBEYED: Final = frozenset(
    [
        "PGHOST",
        "PGPORT",
        "PGUSER",
        "PGPASSWORD",
        "PGPASSFILE",
        "PGSSLMODE",
        "PGSSLROOTCERT",
        "PGSSLCERT",
        "PGSSLKEY",
        "PGSSLCRL",
    ]
)
#: libpq's keywords and their environment variables.
_LIBPQ: Final = {
    "host": "PGHOST",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "dbname": "PGDATABASE",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "passfile": "PGPASSFILE",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslcrl": "PGSSLCRL",
    "sslnegotiation": "PGSSLNEGOTIATION",
    "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
    "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
    "gsslib": "PGGSSLIB",
    "krbsrvname": "PGKRBSRVNAME",
    "service": "PGSERVICE",
    "options": "PGOPTIONS",
    "application_name": "PGAPPNAME",
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A database that takes part in moves."""

    name: str
    """Its name in the directory."""
    kind: Kind
    dsn: str = field(repr=False)
    """How the mover reaches it: directly, not through a pooler."""
    peer_dsn: str | None = field(default=None, repr=False)
    """How the other database server reaches it; None: by `dsn`."""
    key: bytes | None = field(default=None, repr=False)
    """From `proof.database_key`, where the databases are hardened; None: they are not."""
    server_dsn: str | None = field(default=None, repr=False)
    """Of a database on its server that is always there, by a role that may create databases. None: the database
    has to be there before a move."""
    disk: int | None = None
    """Bytes that the database may take; None: no limit is known."""
    server_disk: int | None = None
    """Bytes that all databases of its server may take."""
    autovacuum: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """`schema.table`, or "*" for every table -> autovacuum parameters without their prefix."""

    @property
    def server(self) -> Endpoint:
        """The database on the same server that is always there, from which others are made."""
        return replace(self, dsn=self.server_dsn or self.dsn)

    @property
    def database(self) -> str:
        """What the database is called on its server."""
        return keywords(self.dsn).get("dbname", self.name)


class Lender(Protocol):
    """Lends sessions that are used again (`kept_sessions`)."""

    loop: asyncio.AbstractEventLoop
    """Where they work."""

    def session(self, dsn: str, purpose: str) -> AbstractAsyncContextManager[Connection]:
        """One, with `SETTINGS`."""
        ...


#: Who lends sessions here; None: nobody keeps any.
lender: Final[ContextVar[Lender | None]] = ContextVar("lender", default=None)


def lender_here() -> Lender | None:
    """Who lends sessions here; None: nobody, or one of another loop, whose sessions work there only."""
    lends = lender.get()
    return lends if lends is not None and lends.loop is asyncio.get_running_loop() else None


@contextlib.contextmanager
def blaming(endpoint: Endpoint) -> Iterator[None]:
    """Note on which database an error of PostgreSQL happened: its message does not say."""
    try:
        yield
    except asyncpg.PostgresError as error:
        error.add_note(f"on {endpoint.name}")
        raise


@contextlib.asynccontextmanager
async def session(
    endpoint: Endpoint, purpose: str, *, statements: int = 0, **settings: str
) -> AsyncIterator[Connection]:
    """A session of its own on `endpoint`; ended by force when the body fails. `statements`: kept prepared.

    Inside `kept_sessions.kept` it may be one that was used before, where nothing but `SETTINGS` is asked for.
    """
    lends = lender_here()
    if lends is not None and not statements and not settings:
        async with lends.session(endpoint.dsn, purpose) as connection:
            yield connection
        return
    connection = await connect(endpoint.dsn, purpose, statements=statements, **settings)
    try:
        yield connection
    except BaseException:
        connection.terminate()
        raise
    await run_shielded(close(connection), seconds=CLOSE_SECONDS + 1, name=f"closing {endpoint.name}")


async def close(connection: Connection) -> None:
    """End a session; by force if it does not answer in time."""
    try:
        await connection.close(timeout=CLOSE_SECONDS)
    except TRANSIENT:
        connection.terminate()


async def connect(dsn: str, purpose: str, *, statements: int = 0, **settings: str) -> Connection:
    """Open a session with the mover's settings.

    Raises:
        Unreachable: a pooler answered.
    """
    try:
        connection = await asyncpg.connect(
            dsn,
            timeout=CONNECT_SECONDS,
            statement_cache_size=statements,
            server_settings={**SETTINGS, "application_name": f"tenantry move {purpose}"[:63], **settings},
        )
    except asyncpg.ProtocolViolationError as error:
        if "unsupported startup parameter" in str(error):
            raise Unreachable(
                "a pooler answered instead of PostgreSQL, and a move needs sessions of its own; "
                "give the mover a direct DSN of the database"
            ) from error
        raise
    try:
        if newer := newer_settings(connection.get_server_version().major):
            await connection.execute(newer, timeout=CONNECT_SECONDS)
    except BaseException:
        connection.terminate()
        raise
    return connection


def newer_settings(major: int) -> str:
    """Statements that set what servers of this major version know and older ones do not; "": nothing."""
    return "; ".join(
        f"SET {name} = {literal(value)}" for name, (since, value) in NEWER_SETTINGS.items() if major >= since
    )


def publisher_options(major: int) -> str:
    """Options of a subscription's connection to a publisher of this major version: what operators have set for
    roles must not end it."""
    newer = {name: value for name, (since, value) in NEWER_SETTINGS.items() if major >= since}
    return " ".join(f"-c {name}={value}" for name, value in {**_PUBLISHER_TIMEOUTS, **newer}.items())


def keywords(dsn: str) -> dict[str, str]:
    """Take a connection URL apart into libpq's keywords (PostgreSQL documentation, "Connection URIs")."""
    parts = urlsplit(dsn)
    userinfo, _, place = parts.netloc.rpartition("@")
    user, _, password = userinfo.partition(":")
    hosts, ports = [], []
    for entry in filter(None, place.split(",")):
        host, colon, port = entry.rpartition(":")
        if not colon or entry.endswith("]"):
            host, port = entry, ""
        hosts.append(unquote(host.strip("[]")))
        ports.append(port)
    found = {
        "host": ",".join(hosts),
        "port": ",".join(ports) if any(ports) else "",
        "user": unquote(user),
        "password": unquote(password),
        "dbname": unquote(parts.path.lstrip("/")),
    }
    found.update(parse_qsl(parts.query))
    return {key: value for key, value in found.items() if value}


def program_environment(dsn: str) -> dict[str, str]:
    """The environment of a program that logs in as our sessions do: by the URL, and for what it leaves open by the
    same variables and password file as the driver."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PG") or k in _OBEYED}
    return kept | libpq_environment(dsn)


def password_of(dsn: str) -> str | None:
    """The password that a login by this URL has, wherever it stands: the URL, PGPASSWORD, or a password file.

    (PostgreSQL documentation, "The Password File"; a file that others may read is left alone, as there.)
    """
    found = keywords(dsn)
    if password := found.get("password") or os.environ.get("PGPASSWORD"):
        return password
    path = Path(found.get("passfile") or os.environ.get("PGPASSFILE") or Path.home() / ".pgpass")
    user = found.get("user") or os.environ.get("PGUSER", "")
    host = (found.get("host") or os.environ.get("PGHOST") or "localhost").split(",")[0]
    port = (found.get("port") or os.environ.get("PGPORT") or "5432").split(",")[0]
    wanted = ("localhost" if host.startswith("/") else host, port, found.get("dbname", user), user)
    try:
        if path.stat().st_mode & 0o077:
            return None
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    for line in lines:
        fields = [re.sub(r"\\(.)", r"\1", field) for field in re.split(r"(?<!\\):", line)]
        pairs = zip(fields[:4], wanted, strict=False)
        if len(fields) == 5 and not line.startswith("#") and all(field in ("*", want) for field, want in pairs):
            return fields[4]
    return None


def libpq_environment(dsn: str) -> dict[str, str]:
    """A connection URL as libpq's environment variables, for programs: a command line is for everybody to read."""
    return {_LIBPQ[key]: value for key, value in keywords(dsn).items() if key in _LIBPQ}


def conninfo(dsn: str, **more: str) -> str:
    """The keyword/value form of a connection URL, for CREATE SUBSCRIPTION. The server that will connect has not
    our environment and our files, so the password stands in it."""
    pairs = {key: value for key, value in keywords(dsn).items() if key != "passfile"}
    if password := password_of(dsn):
        pairs["password"] = password
    pairs.update(more)
    return " ".join(f"{key}='{_escaped(value)}'" for key, value in pairs.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")
