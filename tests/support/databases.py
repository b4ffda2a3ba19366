"""Databases that live for one test: empty ones, and copies of templates that are prepared once per server."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial

import asyncpg

from tenantry.embedded import EmbeddedServer
from tests.support.installing import make_control

_numbers = itertools.count(1)

# Mutable state of this module: the templates, by their server and what they are for.
_templates: dict[tuple[EmbeddedServer, str], str] = {}

#: In one process where nothing holds it, which is nearly always.
_DROP_FREE = """
SELECT EXISTS (SELECT FROM pg_database WHERE datname = '{name}') AND NOT (
    EXISTS (SELECT FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = '{name}')
    OR EXISTS (SELECT FROM pg_replication_slots WHERE database = '{name}')
    OR EXISTS (SELECT FROM pg_prepared_xacts WHERE database = '{name}')
) AS free \\gset
\\if :free
    DROP DATABASE "{name}" WITH (FORCE);
\\endif
SELECT 1 FROM pg_database WHERE datname = '{name}'
"""

_DROP_SUBSCRIPTIONS = """
SELECT format('ALTER SUBSCRIPTION %1$I DISABLE; ALTER SUBSCRIPTION %1$I SET (slot_name = NONE);'
              ' DROP SUBSCRIPTION %1$I;', subname)
FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database()
"""

_PREPARED = "SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts WHERE database = '{name}'"

#: Again and again: a subscriber that has been cut off may be back before its slot is dropped.
_DROP_SLOTS = """
DO $$ BEGIN
    FOR attempt IN 1..15000 LOOP
        BEGIN
            -- Not waited for: pg_terminate_backend looks again after 100 ms only, when a reader may be back.
            PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots
            WHERE {which} AND active_pid IS NOT NULL;
            PERFORM pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE {which};
            RETURN;
        EXCEPTION WHEN object_in_use THEN
            PERFORM pg_sleep(0.002);
        END;
    END LOOP;
    RAISE 'slots are in use';
END $$
"""


def new_database(server: EmbeddedServer, prefix: str = "t") -> str:
    """Makes an empty database with a name of its own on that server, and returns the name."""
    name = f"{prefix}_{os.getpid()}_{next(_numbers)}"
    # Its files are copied: half the time of writing each page to the log.
    server.psql(f'CREATE DATABASE "{name}" TEMPLATE template0 STRATEGY file_copy')
    return name


def new_database_like(
    server: EmbeddedServer, kind: str, prepare: Callable[[str], Awaitable[None]], prefix: str = "t"
) -> str:
    """Makes a copy of a database that is prepared once per server, and returns the copy's name.

    Installing a schema takes ten times as long as copying a database that has it.

    `kind`: what the template is for; `prepare` is awaited with the template's name at the first use of it, on an
    event loop of its own, and must leave no connection.
    """
    if (server, kind) not in _templates:
        template = new_database(server, "template")
        # In a thread: the caller may be inside an event loop already.
        failed: list[BaseException] = []

        def work() -> None:
            try:
                asyncio.run(_awaited(prepare(template)))
            except BaseException as error:
                failed.append(error)

        worker = threading.Thread(target=work)
        worker.start()
        worker.join()
        if failed:
            raise failed[0]
        _templates[server, kind] = template
    name = f"{prefix}_{os.getpid()}_{next(_numbers)}"
    server.psql(f'CREATE DATABASE "{name}" TEMPLATE "{_templates[server, kind]}" STRATEGY file_copy')
    return name


async def prepare_control(server: EmbeddedServer, database: str) -> None:
    """Makes the control database's tables: a `prepare` of `new_database_like`."""
    connection = await asyncpg.connect(server.dsn(database))
    try:
        await make_control(connection)
    finally:
        await connection.close()


@contextmanager
def control_database(server: EmbeddedServer) -> Iterator[str]:
    """A database's name in which the control database's tables are, and nothing in them; gone at the end."""
    name = new_database_like(server, "control", partial(prepare_control, server), "control")
    try:
        yield name
    finally:
        if server.pid is not None:
            drop_database(server, name)


async def _awaited(work: Awaitable[None]) -> None:
    await work


def drop_database(server: EmbeddedServer, name: str) -> None:
    """Drops a database with all that would hold it: clients, subscriptions, slots, prepared."""
    if not server.psql(_DROP_FREE.format(name=name)):
        return
    if subscriptions := server.psql(_DROP_SUBSCRIPTIONS, name):
        server.psql(subscriptions, name)
    drop_slots(server, f"database = '{name}'")
    for rollback in server.psql(_PREPARED.format(name=name)).splitlines():
        server.psql(rollback, name)
    server.psql(f'DROP DATABASE "{name}" WITH (FORCE)')


def drop_slots(server: EmbeddedServer, which: str) -> None:
    """Drops replication slots, those in use too. `which`: a condition on pg_replication_slots."""
    server.psql(_DROP_SLOTS.format(which=which))


@contextmanager
def database(server: EmbeddedServer, prefix: str = "t") -> Iterator[str]:
    """A new database's name; the database is gone at the end, whatever the test left in it."""
    name = new_database(server, prefix)
    try:
        yield name
    finally:
        if server.pid is not None:
            drop_database(server, name)
