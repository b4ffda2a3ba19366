"""What a user writes, for strict type checkers: `make check` reads it, and test_typing.py with the built wheel.

The ignored lines are mistakes. A strict checker complains of an ignore without one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tenantry import Router, ScopedConnection, TenantMoving

if TYPE_CHECKING:
    import uuid

    import asyncpg


async def names(conn: asyncpg.Connection[asyncpg.Record]) -> list[str]:
    """Written for asyncpg, long before tenantry."""
    return [str(row["name"]) for row in await conn.fetch("SELECT name FROM students WHERE id > $1", 7)]


async def serve(router: Router, tenant: uuid.UUID) -> list[str]:
    """Scopes are handed to what takes asyncpg's connections."""
    async with router.tenant(tenant, readonly=True) as conn:
        return await names(conn)


async def write(conn: ScopedConnection) -> str:
    """Everything of asyncpg's that a scope has."""
    async with conn.transaction():
        await conn.execute("INSERT INTO students (name) VALUES ($1)", "Ada", timeout=1.0)
    await conn.executemany("INSERT INTO students (name) VALUES ($1)", [("Ben",), ("Cyd",)])
    await conn.copy_records_to_table("students", records=[(1, "Dan")], columns=("id", "name"))
    async for row in conn.cursor("SELECT name FROM students"):
        print(row["name"])
    conn.fetchh("SELECT 1")  # type: ignore[attr-defined]  # pyright: ignore
    await names("no connection")  # type: ignore[arg-type]  # pyright: ignore
    return str(conn.get_server_version())


async def run(router: Router, tenant: uuid.UUID) -> Any:
    """One-shots, repeated work, errors with attributes."""
    try:
        rows: list[str] = await router.run(tenant, lambda conn: names(conn))
        assert await router.fetchrow(tenant, "SELECT 1") is not None
    except TenantMoving as error:
        return error.tenant
    return rows
