"""Databases that live for one test."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager

from tenantry.embedded import EmbeddedServer

_numbers = itertools.count(1)

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

_DROP_SLOTS = """
SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots
WHERE database = '{name}' AND active_pid IS NOT NULL;
SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '{name}';
SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts WHERE database = '{name}'
"""


def new_database(server: EmbeddedServer, prefix: str = "t") -> str:
    """Makes an empty database with a name of its own on that server, and returns the name."""
    name = f"{prefix}_{os.getpid()}_{next(_numbers)}"
    # Its files are copied: half the time of writing each page to the log.
    server.psql(f'CREATE DATABASE "{name}" TEMPLATE template0 STRATEGY file_copy')
    return name


def drop_database(server: EmbeddedServer, name: str) -> None:
    """Drops a database with all that would hold it: clients, subscriptions, slots, prepared."""
    if not server.psql(_DROP_FREE.format(name=name)):
        return
    if subscriptions := server.psql(_DROP_SUBSCRIPTIONS, name):
        server.psql(subscriptions, name)
    answers = server.psql(_DROP_SLOTS.format(name=name)).splitlines()
    for rollback in (line for line in answers if line.startswith("ROLLBACK")):
        server.psql(rollback, name)
    server.psql(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextmanager
def database(server: EmbeddedServer, prefix: str = "t") -> Iterator[str]:
    """A new database's name; the database is gone at the end, whatever the test left in it."""
    name = new_database(server, prefix)
    try:
        yield name
    finally:
        if server.pid is not None:
            drop_database(server, name)
