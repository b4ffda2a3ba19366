"""Whoever asks which tables are tenants', and by which column, gets the same answer."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import asyncpg
import pytest

from tenantry.catalog.read import read, read_tables
from tenantry.catalog.tables import spelling, tenant_tables
from tenantry.catalog.tenancy import Tenancy
from tenantry.catalog.values import Catalog
from tenantry.embedded import EmbeddedServer
from tenantry.isolation.facts import Facts
from tenantry.move.plan import select
from tenantry.move.preflight.read_side import read_side
from tenantry.move.shape import read_kin
from tenantry.router import roles
from tenantry.runtime.sqltext import identifier
from tenantry.usage import storage
from tests.integration.isolation.conftest import Connection, install
from tests.schemas import SCHEMAS, WORKSHOP, Schema

#: Shapes that the schemas lack: spellings, two of them, parents and children that differ, names that want quoting.
ODD = """
CREATE SCHEMA "Odd.schema";
CREATE TABLE "Odd.schema"."note" ("tenant-id" uuid NOT NULL, "Tenant ID" uuid, id int);
CREATE TABLE "Odd.schema"."table ""one"" more" ("TENANT-ID" uuid NOT NULL, id int);
CREATE TABLE twice ("tenantId" uuid, "TenantID" uuid, org uuid);
CREATE TABLE parent ("tenantId" uuid, org uuid);
CREATE TABLE child (tenant_id uuid) INHERITS (parent);
CREATE TABLE loose (id int);
CREATE TABLE late (tenant_id uuid) INHERITS (loose);
CREATE TABLE parts (tenant_id uuid, org uuid, id int) PARTITION BY HASH (id);
CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 0) PARTITION BY LIST (org);
CREATE TABLE parts_00 PARTITION OF parts_0 DEFAULT;
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE padded (tenant_id char(36), org uuid);
CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);
"""


def tenancies(catalog: Catalog, given: Tenancy) -> Iterator[Tenancy]:
    """The schema's own, and others: each with its column spelt another way, or with overrides at random."""
    yield given
    for spelt in ("tenantId", "TENANT_ID", "tenant-id", "Tenant Id", "org", "nothing"):
        yield replace(given, column=spelt)
    tables = sorted(one.key for one in catalog.relations.values() if one.kind in ("r", "p", "f"))
    names = sorted({column.name for columns in catalog.columns.values() for column in columns})
    dice = random.Random(len(tables))
    for _ in range(25):
        overrides = {dice.choice(tables): dice.choice(["reference", "once", "ignore", *names]) for _ in range(6)}
        yield replace(given, tables={**given.tables, **overrides, "public.not there": dice.choice(names)})


@pytest.mark.parametrize("schema", [*SCHEMAS, WORKSHOP, None], ids=lambda one: one.name if one else "odd")
async def test_all_who_ask_get_the_same_tables_by_the_same_column(
    pg: EmbeddedServer, database: str, connection: Connection, role: str, schema: Schema | None
) -> None:
    given = Tenancy() if schema is None else schema.tenancy
    await install(connection, given.id_type, setting=given.setting)
    await connection.execute("SELECT tenantry.grant_application($1)", role)
    await connection.execute(ODD if schema is None else schema.sql)
    await _give_away(connection, role)
    catalog, bare, side = await read(connection), await read_tables(connection), await read_side(connection)
    known = {one.oid: one for one in catalog.relations.values()}
    application = await asyncpg.connect(pg.dsn(database, user=role))
    try:
        facts = await application.fetchrow(roles.query(), True, given.setting)
    finally:
        await application.close()
    assert facts is not None
    differing = 0
    for tenancy in tenancies(catalog, given):
        rls = Facts(catalog, tenancy).tables
        by_rls = {known[oid].key: column.name for oid, column in rls.tenants.items()}
        # The mover: partitions travel with their parents.
        assert side.details is not None
        moved = select(side.tables, tenant_tables(side.details, tenancy))
        assert moved == select(side.tables, tenant_tables(bare, tenancy))
        assert {f"{one.schema}.{one.name}": column for one, column in moved.tenant} == {
            key: column for key, column in by_rls.items() if not catalog.by_key[key].partition
        }
        doubts = {question.object for question in rls.unclear.values()}
        assert {question.object for _, question in moved.unclear} == {
            key for key in doubts if not catalog.by_key[key].partition
        }
        assert moved.unmatched == (*rls.unmatched, *rls.waved_through.values())
        # The estimate of storage: those that hold rows themselves.
        shared_out = await storage.tables(connection, tenancy)
        assert {f"{one.schema}.{one.name}": one.column for one in shared_out} == {
            key: column for key, column in by_rls.items() if catalog.by_key[key].kind == "r"
        }
        # The router's check of its role, which owns them all and is not held; doubt is refused too.
        problems = roles.problems(dict(facts), tenancy)
        names = {problem.removeprefix("it owns ").partition(", whose")[0] for problem, _ in problems}
        suspects = [key for key in (*by_rls, *doubts) if catalog.by_key[key].kind in ("r", "p")]
        assert names == {await _shown(connection, catalog.by_key[key].oid) for key in suspects}
        # A table of the kind that is made while a move is on its way stops it.
        columns, carried = [column for _, column in moved.tenant], [one.quoted for one, _ in moved.tenant]
        kin = set(await read_kin(connection, columns, carried))
        assert {await connection.fetchval("SELECT format('kin %I.%I', $1::text, $2::text)", one.schema, one.name)
                for one, _ in moved.tenant} <= kin  # fmt: skip
        differing += by_rls != {known[oid].key: c.name for oid, c in Facts(catalog, given).tables.tenants.items()}
    assert differing > 20, "the tenancies tried differ too little to prove anything"


async def _give_away(connection: Connection, role: str) -> None:
    """Let the application's role own every table, with nothing that holds it."""
    for one in (await read_tables(connection)).relations.values():
        if one.kind in ("r", "p"):
            await connection.execute(f"ALTER TABLE {one.sql} OWNER TO {identifier(role)}")
            await connection.execute(f"ALTER TABLE {one.sql} DISABLE ROW LEVEL SECURITY")


async def _shown(connection: Connection, oid: int) -> str:
    return str(await connection.fetchval("SELECT $1::bigint::oid::regclass::text", oid))


@pytest.mark.parametrize(
    "name", ["tenant_id", "tenantId", "Tenant-ID", "tenant id", "TENANTİD", "teñant_id", "tenant__-- id"]
)
async def test_the_server_folds_spellings_as_we_do(connection: Connection, name: str) -> None:
    await connection.execute(f"CREATE TABLE t ({identifier(name)} uuid)")
    for wanted in ("tenant_id", "teñant_id", "TENANTİD"):
        kin = await read_kin(connection, [wanted], [])
        assert (kin == ["kin public.t"]) == (spelling(name) == spelling(wanted))


async def test_the_tables_are_read_while_somebody_has_locked_one(
    pg: EmbeddedServer, database: str, connection: Connection
) -> None:
    await connection.execute("CREATE TABLE t (tenant_id uuid DEFAULT gen_random_uuid(), n int CHECK (n > 0))")
    other = await asyncpg.connect(pg.dsn(database))
    try:
        await connection.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        await other.execute("SET lock_timeout = '100ms'")
        assert [one.key for one in (await read_tables(other)).relations.values()] == ["public.t"]
    finally:
        await other.close()
