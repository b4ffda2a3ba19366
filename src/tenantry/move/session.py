"""The two ends of a move, and sessions with them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import asyncpg

from tenantry.ids import Kind
from tenantry.move.errors import Unreachable
from tenantry.runtime.connection_errors import TRANSIENT
from tenantry.runtime.shielded import run_shielded

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

CONNECT_SECONDS: Final = 10.0
CLOSE_SECONDS: Final = 5.0

#: Settings of every session of the mover. What an operator has set for roles or databases (timeouts, read-only,
#: another date style) must not end a copy in the middle or make equal rows look different.
SETTINGS: Final[Mapping[str, str]] = {
    "search_path": "pg_catalog",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
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
    """A session of its own on `endpoint`; ended by force when the body fails. `statements`: kept prepared."""
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
        return await asyncpg.connect(
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


def libpq_environment(dsn: str) -> dict[str, str]:
    """A connection URL as libpq's environment variables, for programs: a command line is for everybody to read."""
    return {_LIBPQ[key]: value for key, value in keywords(dsn).items() if key in _LIBPQ}


def conninfo(dsn: str, **more: str) -> str:
    """The keyword/value form of a connection URL, for CREATE SUBSCRIPTION."""
    pairs = {**keywords(dsn), **more}
    return " ".join(f"{key}='{_escaped(value)}'" for key, value in pairs.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")
