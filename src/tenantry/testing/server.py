"""A server for a test run: embedded, or the one that TENANTRY_TEST_DSN names."""

from __future__ import annotations

import itertools
import os
import secrets
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

from tenantry.embedded import EmbeddedServer
from tenantry.ids import IdType, TenantId
from tenantry.runtime.sqltext import identifier

_numbers = itertools.count(1)


def new_id(ids: IdType) -> TenantId:
    """A tenant id that nobody has used."""
    if ids is IdType.UUID:
        return uuid.uuid4()
    if ids is IdType.BIGINT:
        return secrets.randbits(62) + 1
    return f"tenant {next(_numbers)} {uuid.uuid4().hex}"


class Server:
    """Where test databases are made. A context manager.

    With a DSN, a server that somebody else runs: its role must be allowed to create databases and roles. Without
    one, an embedded PostgreSQL of our own (the extra `embedded`).
    """

    # Mutable state: _embedded, while it runs.

    def __init__(self, dsn: str | None = None, *, version: int = 18) -> None:
        self._dsn = dsn
        self._version = version
        self._embedded: EmbeddedServer | None = None

    @classmethod
    def of_environment(cls) -> Self:
        """The server that TENANTRY_TEST_DSN names, or else an embedded one."""
        return cls(os.environ.get("TENANTRY_TEST_DSN") or None)

    def __enter__(self) -> Self:
        if self._dsn is None:
            self._embedded = EmbeddedServer.start(self._version)
        return self

    def __exit__(self, *_: object) -> None:
        if self._embedded is not None:
            self._embedded.stop()
            self._embedded = None

    def dsn(self, database: str | None = None, user: str | None = None, password: str | None = None) -> str:
        """The address of a database; None: the one that the DSN names."""
        if self._embedded is not None:
            return self._embedded.dsn(database or "postgres", user or "postgres")
        assert self._dsn is not None
        parts = urlsplit(self._dsn)
        path = parts.path if database is None else "/" + quote(database, safe="")
        place = parts.netloc
        if user is not None:
            secret = "" if password is None else ":" + quote(password, safe="")
            place = f"{quote(user, safe='')}{secret}@{parts.netloc.rpartition('@')[2]}"
        return urlunsplit(parts._replace(netloc=place, path=path))

    @asynccontextmanager
    async def database(self) -> AsyncIterator[str]:
        """An empty database's name; dropped at the end."""
        name = f"tenantry_test_{os.getpid()}_{secrets.token_hex(4)}"
        await self._run(f'CREATE DATABASE "{name}" TEMPLATE template0')
        try:
            yield name
        finally:
            await self.drop(name)

    async def drop(self, database: str) -> None:
        """Drop a database, whoever is connected to it; nothing happens if it isn't there."""
        await self._run(f"DROP DATABASE IF EXISTS {identifier(database)} WITH (FORCE)")

    @asynccontextmanager
    async def connect(self, database: str | None = None) -> AsyncIterator[Any]:
        """A connection of the role that makes databases."""
        connection = await asyncpg.connect(self.dsn(database))
        try:
            yield connection
        finally:
            await connection.close()

    async def _run(self, statement: str) -> None:
        async with self.connect() as connection:
            await connection.execute(statement)
