"""A PostgreSQL with the product in it: the README's steps, from Python."""

from __future__ import annotations

import asyncio
import os
import secrets
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config as Migrations

from examples.school.app import CONFIG
from tenantry import Operations
from tenantry.testing import Server

_INI = Path(__file__).parent.parent / "alembic.ini"


class CanNotStart(Exception):
    """The example can't start; the text says why."""


async def furnish(server: Server) -> None:
    """Role, database, tenantry's schema, the product's, and its rights; and the environment that names them."""
    await _run(server.dsn(), "CREATE ROLE school LOGIN", "CREATE DATABASE school")
    os.environ["SCHOOL_DSN"] = server.dsn("school", "school")
    os.environ["SCHOOL_OPERATOR_DSN"] = os.environ["TENANTRY_MIGRATE_URL"] = server.dsn("school")
    os.environ["SCHOOL_JWT_KEY"] = secrets.token_hex(32)
    async with Operations.open(CONFIG, actor="make example") as operations:
        for done in await operations.init(["quotas"]):
            if done.error is not None:
                raise CanNotStart(f"{done.database}: {done.error}")
        await operations.apply()
        await asyncio.to_thread(command.upgrade, Migrations(_INI), "head")
        await operations.rls.apply(foreign_keys=True)


async def _run(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
