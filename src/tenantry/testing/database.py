"""A database for a test run: embedded, or on the server that TENANTRY_TEST_DSN names."""

from __future__ import annotations

import itertools
import os
import secrets
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

from tenantry.catalog.tenancy import Tenancy
from tenantry.config import Config
from tenantry.embedded import EmbeddedServer
from tenantry.ids import IdType, Kind, TenantId
from tenantry.isolation.apply import adopt
from tenantry.runtime.sqltext import identifier
from tenantry.schema import install_control, install_data
from tenantry.wiring import Router

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
            await self._run(f'DROP DATABASE "{name}" WITH (FORCE)')

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


class Product:
    """A product's schema in a database of its own, ready for a router. Made by `Product.installed`."""

    def __init__(self, server: Server, database: str, role: str, password: str, ids: IdType, column: str) -> None:
        self.server = server
        self.database = database
        self.role = role
        self.ids = ids
        self.column = column
        self._password = password

    @classmethod
    @asynccontextmanager
    async def installed(
        cls,
        server: Server,
        schema: str = "",
        *,
        ids: IdType | str = IdType.UUID,
        column: str = "tenant_id",
        setting: str = "app.current_tenant",
        tables: Mapping[str, str] | None = None,
        policies: bool = True,
        foreign_keys: bool = True,
    ) -> AsyncIterator[Self]:
        """A fresh database with the tenantry schema and the product's; it and its role are dropped at the end.

        Args:
            schema: the product's SQL; `{role}` in it stands for the application role, quoted.
            policies: True brings the tables to tenantry's standard, as `tenantry rls apply` does; False takes
                the schema as it is, with grants and policies of its own.
            foreign_keys: with `policies`: foreign keys between tenant tables compare the tenants too, as
                `tenantry rls apply --foreign-keys` makes them.
        """
        kind = IdType(ids)
        role, password = f"tenantry_app_{secrets.token_hex(4)}", secrets.token_urlsafe(24)
        async with server.database() as database:
            async with server.connect(database) as owner:
                await owner.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
            try:
                async with server.connect(database) as owner:
                    await install_control(owner)
                    await install_data(
                        owner,
                        name="shared",
                        kind=Kind.SHARED,
                        setting=setting,
                        id_type=kind,
                        application_role=role,
                    )
                    await owner.execute(
                        "INSERT INTO tenantry.database (name, kind, dsn) VALUES ('shared', 'shared', 'config')"
                    )
                    if schema:
                        await owner.execute(schema.replace("{role}", identifier(role)))
                    if policies:
                        tenancy = Tenancy(column=column, id_type=kind, setting=setting, tables=dict(tables or {}))
                        await adopt(owner, tenancy, role=role, foreign_keys=foreign_keys)
                yield cls(server, database, role, password, kind, column)
            finally:
                async with server.connect(database) as owner:
                    await owner.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")

    @property
    def dsn(self) -> str:
        """The address that the application uses."""
        return self.server.dsn(self.database, self.role, self._password)

    @property
    def owner_dsn(self) -> str:
        """The address of the role that owns the schema."""
        return self.server.dsn(self.database)

    def config(self, **sections: Mapping[str, Any]) -> Config:
        """A configuration with this one database; sections add to its own."""
        return Config.parse(
            {
                "tenancy": {"type": self.ids.value, "column": self.column, **sections.get("tenancy", {})},
                "control": {"dsn": self.owner_dsn},
                "databases": {"shared": {"kind": "shared", "dsn": self.dsn, "operator_dsn": self.owner_dsn}},
                "router": {**sections.get("router", {})},
            },
            source="tenantry.testing",
        )

    @asynccontextmanager
    async def router(self, **sections: Mapping[str, Any]) -> AsyncIterator[Router]:
        """An open router on it; sections as of `config`."""
        async with Router.open(self.config(**sections), metrics=False) as router:
            yield router
