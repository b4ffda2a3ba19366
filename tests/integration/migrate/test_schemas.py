"""Fingerprints of schemas: equal where the schemas are, different where anything is; what `check` says of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import asyncpg
import pytest

from tenantry.catalog.fingerprint import Fingerprint, drifts
from tenantry.catalog.read import read_fingerprint
from tenantry.embedded import EmbeddedServer
from tenantry.operations import MigrationStopped, Operations
from tests.support.herd import Herd

BASE = """
CREATE TYPE colour AS ENUM ('red', 'blue');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE a (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL, c colour, n positive,
    t text COLLATE "C" DEFAULT 'x', g int GENERATED ALWAYS AS (length('abc')) STORED);
CREATE TABLE b (id bigint PRIMARY KEY, a bigint REFERENCES a, CHECK (id > 0));
CREATE INDEX b_a ON b (a) WHERE a IS NOT NULL;
CREATE VIEW v AS SELECT a.id, b.id AS other FROM a JOIN b ON b.a = a.id;
CREATE FUNCTION f(i int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT i + 1';
CREATE FUNCTION g() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW EXECUTE FUNCTION g();
CREATE TABLE p (id int, d date) PARTITION BY RANGE (d);
CREATE SEQUENCE s;
"""
#: What changes a fingerprint, and how its difference is named.
CHANGES = {
    "ALTER TABLE a ADD extra int": "has another table public.a",
    "ALTER TABLE a ALTER t SET DEFAULT 'y'": "has another table public.a",
    "ALTER TABLE a ALTER t SET NOT NULL": "has another table public.a",
    "ALTER TABLE a ALTER t TYPE varchar(9)": "has another table public.a",
    "ALTER TABLE a RENAME n TO m": "has another table public.a",
    "ALTER TABLE b DROP CONSTRAINT b_a_fkey": "has another table public.b",
    "ALTER TABLE b DROP CONSTRAINT b_id_check": "has another table public.b",
    "DROP INDEX b_a": "has another table public.b",
    "CREATE UNIQUE INDEX ON b (a)": "has another table public.b",
    "ALTER TYPE colour ADD VALUE 'green'": "has another type public.colour",
    "ALTER DOMAIN positive ADD CHECK (VALUE < 9)": "has another type public.positive",
    "CREATE OR REPLACE VIEW v AS SELECT a.id, a.id AS other FROM a": "has another view text public.v",
    "DROP FUNCTION f": "lacks function public.f(i integer)",
    "ALTER FUNCTION f STABLE": "has another function public.f(i integer)",
    "DROP TRIGGER t ON a": "has another table public.a",
    "ALTER TABLE a DISABLE TRIGGER t": "has another table public.a",
    "ALTER SEQUENCE s INCREMENT 2": "has another sequence public.s",
    "CREATE TABLE more ()": "has table public.more besides",
    "DROP VIEW v": "lacks view public.v",
    # What has a check of its own, and what differs by right.
    "ALTER TABLE a ENABLE ROW LEVEL SECURITY; CREATE POLICY x ON a; GRANT SELECT ON a TO PUBLIC": None,
    "CREATE INDEX a_tenantry_idx ON a (tenant_id)": None,
    "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')": None,
    "ALTER SEQUENCE s RESTART 1000; INSERT INTO b VALUES (1)": None,
    "ALTER TABLE a DROP t, DROP g, ADD g int GENERATED ALWAYS AS (length('abc')) STORED, "
    "ADD t text COLLATE \"C\" DEFAULT 'x'": None,
}


async def read(server: EmbeddedServer, database: str) -> Fingerprint:
    connection = await asyncpg.connect(server.dsn(database))
    try:
        return await read_fingerprint(connection)
    finally:
        await connection.close()


async def test_every_change_of_the_schema_is_seen_and_named_and_nothing_else(
    pg18: EmbeddedServer, make_database: Callable[[EmbeddedServer], str]
) -> None:
    database = make_database(pg18)
    pg18.psql(BASE, database)
    connection = await asyncpg.connect(pg18.dsn(database))
    base = await read_fingerprint(connection)
    for change, said in CHANGES.items():
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(change)
        changed = await read_fingerprint(connection)
        assert (changed.differences(base)[:1] or (None,)) == (said,), change
        assert (changed.digest != base.digest) == (said is not None and "view text" not in said), change
        await transaction.rollback()
    assert await read_fingerprint(connection) == base
    await connection.close()


async def test_equal_schemas_have_one_digest_on_every_version(
    pg16: EmbeddedServer, pg18: EmbeddedServer, make_database: Callable[[EmbeddedServer], str]
) -> None:
    found = []
    for server in (pg16, pg18):
        database = make_database(server)
        server.psql(BASE, database)
        found.append(await read(server, database))
    assert found[0].digest == found[1].digest
    assert found[0].differences(found[1]) == ()


async def test_a_locked_table_costs_patience_and_no_more(
    pg18: EmbeddedServer, make_database: Callable[[EmbeddedServer], str]
) -> None:
    database = make_database(pg18)
    pg18.psql(BASE, database)
    holder, reader = [await asyncpg.connect(pg18.dsn(database)) for _ in range(2)]
    await holder.execute("BEGIN; LOCK a")
    with pytest.raises(asyncpg.LockNotAvailableError):
        await asyncio.wait_for(read_fingerprint(reader, patience=0.05), 20)
    await holder.close()
    await reader.close()


def test_most_databases_are_the_measure_and_empty_ones_wait_for_their_product() -> None:
    usual = Fingerprint(18, {("table", "public.a"): "1"})
    odd = Fingerprint(18, {("table", "public.a"): "2"})
    (found,) = drifts([("x", odd), ("y", usual), ("z", usual), ("new", Fingerprint(18, {}))])
    assert (found.database, found.reference, found.differences) == ("x", "y", ("has another table public.a",))
    assert drifts([]) == ()
    assert [one.database for one in drifts([("shared", odd), ("acme", usual)])] == ["acme"]


async def test_check_names_who_is_apart_in_what_and_who_is_behind(herd: Herd) -> None:
    table = "CREATE TABLE orders (tenant_id uuid, id bigint, PRIMARY KEY (tenant_id, id))"
    async with Operations.open(herd.config) as ops:
        with pytest.raises(MigrationStopped):
            await ops.migrations.run(
                [herd.script(f"[ $TENANTRY_MIGRATE_DATABASE != tenant3 ] && psql -qc '{table}'")]
            )
        herd.psql("tenant2", "ALTER TABLE orders ADD by_hand text; CREATE TABLE scratch ()")
        found = {(one.database, one.code): one for one in (await ops.check()).findings}
        drift = found.pop(("tenant2", "schema-drift"))
        assert "it has another table public.orders, has table public.scratch besides" in drift.problem
        assert found[("tenant3", "schema-behind")].problem.endswith("is not done here (failed)")
        assert not [key for key in found if key[1] == "schema-drift"], "an empty one waits for its product"
