"""The demo's world: two PostgreSQL servers, their roles, the product's schema, and the router's configuration."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import asyncpg

from tenantry.catalog.tenancy import Tenancy
from tenantry.config import Config
from tenantry.demo import product
from tenantry.demo.product import Customer
from tenantry.directory.store import Store
from tenantry.embedded import EmbeddedServer
from tenantry.ids import IdType, Kind
from tenantry.isolation.policy import table_sql
from tenantry.router.driver import Connection
from tenantry.schema import install_control, install_data

#: Names of databases in the directory.
SHARED: Final = "shared"
OWNED: Final = product.OWNED
HEAVY: Final = product.HEAVY

SETTING: Final = "app.current_tenant"
#: The role of the service: row-level security holds for it.
APP: Final = "app"
#: A role that the service may switch to, no more powerful: for showing that a switch does not survive.
REPORTS: Final = "app_reports"
#: The role of operators: it may bypass row-level security.
OPERATOR: Final = "operator"
CONTROL: Final = "control"
POOL: Final = {SHARED: 8, OWNED: 4, HEAVY: 8}

_ROLES: Final = f"""
    CREATE ROLE {APP} LOGIN;
    CREATE ROLE {REPORTS} NOLOGIN;
    GRANT {REPORTS} TO {APP};
    CREATE ROLE {OPERATOR} LOGIN BYPASSRLS;
    GRANT {APP} TO {OPERATOR};
    CREATE ROLE {CONTROL} LOGIN;
"""


@dataclass(frozen=True, slots=True)
class World:
    """Two servers: the shared one, and another for customers with a database of their own."""

    shared: EmbeddedServer
    other: EmbeddedServer

    def dsn(self, database: str, user: str = APP) -> str:
        """Of a database by its name in the directory, for a role."""
        if database == SHARED:
            return self.shared.dsn("product", user)
        if database == CONTROL:
            return self.shared.dsn(CONTROL, user)
        return self.other.dsn(database, user)

    def config(self, *, pools: dict[str, int] | None = None) -> Config:
        """What config/tenantry.yaml would say. `pools`: connections at most, by database."""
        return Config.parse(
            {
                "tenancy": {"setting": SETTING},
                "control": {"dsn": self.dsn(CONTROL, CONTROL)},
                "databases": {
                    name: {
                        "kind": "shared" if name == SHARED else "dedicated",
                        "dsn": self.dsn(name),
                        "operator_dsn": self.dsn(name, OPERATOR),
                        "direct_dsn": self.dsn(name, "postgres"),
                        "pool": {"max": (pools or POOL)[name]},
                    }
                    for name in (SHARED, OWNED, HEAVY)
                },
                "router": {"connections": 40},
                "usage": {"record": False},  # the tour has a ledger of its own, to tell its flushes
            },
            source="the demo's configuration",
        )

    @contextlib.asynccontextmanager
    async def connection(self, database: str, user: str = "postgres") -> AsyncIterator[Connection]:
        """A plain connection: no router, no scope."""
        connection = await asyncpg.connect(self.dsn(database, user))
        try:
            yield connection
        finally:
            await connection.close()


@contextlib.contextmanager
def servers(version: int) -> Iterator[World]:
    """Start both servers, one beside the other; stop them however the block ends, and even if it never begins."""
    with contextlib.ExitStack() as stack:
        executor = stack.enter_context(ThreadPoolExecutor(2, thread_name_prefix="tenantry-demo"))
        starting = [executor.submit(EmbeddedServer.start, version) for _ in range(2)]
        for future in starting:
            stack.callback(_stop, future)
        shared, other = (future.result() for future in starting)
        yield World(shared, other)


def _stop(starting: Future[EmbeddedServer]) -> None:
    if not starting.cancel():
        with contextlib.suppress(Exception):  # what did not start has been told to the caller
            starting.result().stop()


async def furnish(world: World) -> None:
    """Roles, databases, the tenantry schema, the product's tables with their policies, and rows in them."""
    for server, databases in ((world.shared, ("product", CONTROL)), (world.other, (OWNED, HEAVY))):
        connection = await asyncpg.connect(server.dsn())
        try:
            await connection.execute(_ROLES)
            for database in databases:
                owner = CONTROL if database == CONTROL else "postgres"
                await connection.execute(f"CREATE DATABASE {database} OWNER {owner}")
        finally:
            await connection.close()
    async with world.connection(CONTROL, CONTROL) as connection:
        await install_control(connection)
    owned = product.named(OWNED)
    sharing = [customer for customer in product.customers() if customer is not owned]
    await _furnish_data(world, SHARED, Kind.SHARED, sharing)
    await _furnish_data(world, OWNED, Kind.DEDICATED, [owned], tenant=owned.id)
    store = Store(world.dsn(CONTROL, CONTROL))
    try:
        for name, kind in ((SHARED, Kind.SHARED), (OWNED, Kind.DEDICATED), (HEAVY, Kind.DEDICATED)):
            await store.put_database(name, kind, "config")
    finally:
        await store.close()


async def _furnish_data(
    world: World, name: str, kind: Kind, customers: Sequence[Customer], tenant: UUID | None = None
) -> None:
    async with world.connection(name) as connection:
        await install_data(
            connection,
            name=name,
            kind=kind,
            setting=SETTING,
            id_type=IdType.UUID,
            application_role=APP,
            tenant=None if tenant is None else str(tenant),
        )
        async with connection.transaction():
            await _make_tables(connection)
            await _fill_tables(connection, customers)
        await connection.execute(f"ANALYZE {', '.join(product.TABLES)}")


async def _make_tables(connection: Connection) -> None:
    await connection.execute(product.text("schema"))
    tenancy = Tenancy(setting=SETTING)
    for table in product.TABLES:
        for statement in table_sql("public", table, "tenant_id", tenancy, role=APP):
            await connection.execute(statement)
    tables = ", ".join(product.TABLES)
    await connection.execute(
        f"GRANT SELECT ON {tables} TO {REPORTS}; GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {OPERATOR}"
    )


async def _fill_tables(connection: Connection, customers: Sequence[Customer]) -> None:
    await connection.execute(
        "CREATE TEMP TABLE customer (id uuid, name text, plan text, routes int, consumers int, logged int) "
        "ON COMMIT DROP"
    )
    rows: list[tuple[Any, ...]] = [(c.id, c.name, c.plan, c.routes, c.consumers, c.logged) for c in customers]
    await connection.copy_records_to_table("customer", records=rows)
    await connection.execute(product.text("fill"))
