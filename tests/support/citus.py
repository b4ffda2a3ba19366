"""Citus: databases that say that they have it, for what hangs on the catalog alone; and a real one, where it is.

A real one is named by TENANTRY_TEST_CITUS_DSN: a superuser's, of a database with Citus on a coordinator, whose
workers let that user in by the same name and password. The tests make databases and roles of their own there.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg

from tests.support.programs import missing

VARIABLE: Final = "TENANTRY_TEST_CITUS_DSN"
#: A row of the catalog as CREATE EXTENSION citus leaves it, and an empty table by the name of Citus's own catalog.
PRETEND: Final = """
INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
SELECT 4242424, 'citus', oid, 'public'::regnamespace, false, '13.2' FROM pg_roles WHERE rolname = current_user;
SET allow_system_table_mods = on;
CREATE TABLE pg_catalog.pg_dist_partition (logicalrelid regclass, partkey text);
RESET allow_system_table_mods
"""


async def pretend(connection: Any, **distributed: str) -> None:
    """Make a database say that it has Citus. `distributed`: tables, and the columns that distribute them."""
    await connection.execute(PRETEND)
    for table, column in distributed.items():
        await connection.execute(
            "INSERT INTO pg_catalog.pg_dist_partition "
            "SELECT attrelid, '{VAR :varno 1 :varattno ' || attnum || ' }' FROM pg_attribute "
            "WHERE attrelid = $1::text::regclass AND attname = $2",
            table,
            column,
        )


def dsn() -> str:
    """The real one's; without it the test is skipped."""
    found = os.environ.get(VARIABLE, "")
    return found or missing("citus", f"no Citus here: {VARIABLE} names none")


def at(dsn: str, *, database: str | None = None, user: str | None = None, place: str | None = None) -> str:
    """A DSN with another database, user, or host and port."""
    parts = urlsplit(dsn)
    login, _, there = parts.netloc.rpartition("@")
    login = login if user is None else user
    netloc = f"{login}@{place or there}" if login else place or there
    return urlunsplit(parts._replace(netloc=netloc, path=parts.path if database is None else f"/{database}"))


@asynccontextmanager
async def database() -> AsyncIterator[str]:
    """An empty database on the coordinator and its workers, with Citus; its DSN. Dropped at the end."""
    home, name = dsn(), f"tenantry_{uuid4().hex[:12]}"
    coordinator = await asyncpg.connect(home)
    rows = await coordinator.fetch(
        "SELECT groupid, format('%s:%s', nodename, nodeport) AS place FROM pg_dist_node "
        "WHERE noderole = 'primary' ORDER BY groupid"
    )
    places = {row["groupid"]: row["place"] for row in rows}
    try:
        for place in places.values():
            await _each(at(home, place=place), f"CREATE DATABASE {name}")
            await _each(at(home, place=place, database=name), "CREATE EXTENSION citus")
        made = await asyncpg.connect(at(home, place=places[0], database=name))
        try:
            for group, place in places.items():
                host, _, port = place.rpartition(":")
                add = "citus_set_coordinator_host" if group == 0 else "citus_add_node"
                await made.fetchval(f"SELECT {add}($1::text, $2::int)", host, int(port))
        finally:
            await made.close()
        yield at(home, place=places[0], database=name)
    finally:
        await coordinator.close()
        for place in places.values():
            await _each(at(home, place=place), f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


async def _each(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
