"""G18: the comparison sees every row and every byte of what a move carries, on any pair of servers, and names what
differs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

import pytest

from tenantry.catalog.read import read_tables
from tenantry.catalog.tables import tenant_tables
from tenantry.catalog.tenancy import Tenancy
from tenantry.embedded import EmbeddedServer
from tenantry.ids import Kind
from tenantry.move import Endpoint, Limits, MovePlan, Progress
from tenantry.move.catalog import Side
from tenantry.move.context import Direction, MoveContext
from tenantry.move.journal import Journal
from tenantry.move.lease import Lease
from tenantry.move.plan import Mechanism, TablePlan, select, table_plan
from tenantry.move.preflight.read_side import read_side
from tenantry.move.progress import Compared
from tenantry.move.session import Connection, session
from tenantry.move.steps.copy import copy_table
from tenantry.move.steps.verify import compare_table
from tenantry.runtime.sqltext import literal
from tests.support.databases import drop_database, new_database
from tests.support.every_type import NOT_STORED, TYPES, VALUES, WITHOUT_BINARY

TENANT = UUID("11111111-1111-4111-8111-111111111111")
OTHER = UUID("22222222-2222-4222-8222-222222222222")

#: Settings that would make equal values look different, or different ones equal, if a session of ours took them.
ODD_SETTINGS = {
    "DateStyle": "German, DMY",
    "IntervalStyle": "iso_8601",
    "TimeZone": "Asia/Kathmandu",
    "extra_float_digits": "-15",
    "bytea_output": "escape",
    "lc_monetary": "C.UTF-8",
    "quote_all_identifiers": "on",
    "search_path": "odd, public",
    "xmlbinary": "hex",
    "client_encoding": "LATIN1",
}


class _NoLease(Lease):
    def __init__(self) -> None:
        """Nobody else is here."""


@dataclass
class Pair:
    """Two databases with the same tables, and sessions of a mover with both."""

    work: MoveContext
    here: Connection
    there: Connection
    events: list[Progress] = field(default_factory=list)

    async def define(self, ddl: str) -> None:
        """On both sides; by the end, `here` first."""
        for connection in (self.here, self.there):
            await connection.execute(ddl)

    async def plans(self) -> dict[str, TablePlan]:
        """As preflight would make them."""
        side: Side = await read_side(self.here)
        return {
            table.name: table_plan(table, column, int(table.rows))
            for table, column in select(side.tables, tenant_tables(await read_tables(self.here), Tenancy())).tenant
        }

    async def plan(self) -> TablePlan:
        """The only table's."""
        (plan,) = (await self.plans()).values()
        return plan

    async def copied(self) -> TablePlan:
        """The only table, copied."""
        plan = await self.plan()
        await copy_table(self.work, plan, self.here, self.there)
        return plan

    async def compare(self, table: TablePlan, way: Direction | None = None) -> tuple[int, list[str]]:
        """In the mover's sessions."""
        return await compare_table(self.work, way or self.work.forward, table, self.here, self.there)

    async def after(self, table: TablePlan, change: str, *args: Any) -> list[str]:
        """The differences after a change there, which is then undone."""
        await self.there.execute("BEGIN")
        done = await self.there.execute(change, *args)
        assert not done.endswith(" 0"), f"{change} changed nothing"
        _, differences = await self.compare(table)
        await self.there.execute("ROLLBACK")
        return differences


def _plan(tenant: UUID) -> MovePlan:
    return MovePlan(
        id="m1", tenant=str(tenant), source="shared", target="acme", source_kind=Kind.SHARED, epoch=1,
        target_kind=Kind.DEDICATED, mechanism=Mechanism.REPLICATION, setting="", id_type="uuid", tables=(),
        references=(), sequences=(), load_schema=False, shape="", storage="", pause=0.8, findings=(),
    )  # fmt: skip


@contextlib.asynccontextmanager
async def made(near: EmbeddedServer, far: EmbeddedServer, kind: Kind = Kind.DEDICATED) -> AsyncIterator[Pair]:
    names = [(near, new_database(near, "here")), (far, new_database(far, "there"))]
    far.psql("".join(f"ALTER DATABASE {names[1][1]} SET {k} = {v!r};" for k, v in ODD_SETTINGS.items()))
    try:
        source = Endpoint("shared", Kind.SHARED, near.dsn(names[0][1]))
        target = Endpoint("acme", kind, far.dsn(names[1][1]))
        async with session(source, "test") as here, session(target, "test") as there:
            pair = Pair(cast("MoveContext", None), here, there)
            pair.work = MoveContext(
                _plan(TENANT), source, target, Journal(source.dsn), _NoLease(), Limits(), pair.events.append, None
            )
            yield pair
    finally:
        for server, name in names:
            drop_database(server, name)


@pytest.fixture
async def pair(pg16: EmbeddedServer, far18: EmbeddedServer) -> AsyncIterator[Pair]:
    """From the older to the newer major, with odd settings over there."""
    async with made(pg16, far18) as pair:
        yield pair


@pytest.mark.parametrize("form", ["binary", "text"])
async def test_every_type_compares_equal_across_majors_and_settings_and_differs_by_the_least(
    pair: Pair, form: str
) -> None:
    await pair.define(TYPES)
    chosen = VALUES if form == "text" else [name for name in VALUES if not WITHOUT_BINARY.match(name)]
    types = {f"c{number}": name for number, name in enumerate(chosen)}
    known = await pair.there.fetch(
        "SELECT typname FROM pg_type WHERE oid < 10000 AND typtype IN ('b', 'r', 'm') AND typelem = 0 "
        "OR typname IN ('point', 'lseg', 'box', 'line', 'name', 'int2vector', 'oidvector')"
    )
    assert {row[0] for row in known} - NOT_STORED - {name.strip('"') for name in VALUES} == set()
    columns = "".join(f', "{column}" {name}' for column, name in types.items())
    await pair.define(
        f'CREATE TABLE "My App"."All" (tenant_id uuid NOT NULL, "Id" int NOT NULL{columns}, '
        'twice int GENERATED ALWAYS AS ("Id" * 2) STORED, PRIMARY KEY (tenant_id, "Id"))'
    )
    literals = ", ".join(literal(VALUES[name][0]) for name in types.values())
    await pair.here.execute(f'INSERT INTO "My App"."All" VALUES (\'{TENANT}\', 1, {literals})')
    await pair.here.execute(f'INSERT INTO "My App"."All" VALUES (\'{TENANT}\', 2)')
    table = await pair.copied()
    assert table.binary is (form == "binary")
    assert await pair.compare(table) == (2, [])
    for column, name in types.items():
        for other in (literal(VALUES[name][1]), "NULL"):
            found = await pair.after(table, f'UPDATE "My App"."All" SET "{column}" = {other} WHERE "Id" = 1')
            assert found == ['"My App"."All" row (1) differs'], (name, other)


KEYS: dict[str, tuple[str, Callable[[int], str]]] = {
    "uuid": ("uuid", lambda i: f"md5('{i}')::uuid"),
    "bigint": ("bigint", str),
    "identity": ("bigint GENERATED ALWAYS AS IDENTITY", str),
    "text": ("text", lambda i: f"chr({1 + i % 300} + 64) || '-{i}'"),
}


@pytest.mark.parametrize("key", KEYS)
async def test_every_row_is_compared_whatever_the_key_and_the_differing_one_is_named(pair: Pair, key: str) -> None:
    kind, value = KEYS[key]
    await pair.define(
        f"CREATE TABLE public.t (tenant_id uuid, id {kind}, note text, PRIMARY KEY (tenant_id, id)) "
        "PARTITION BY HASH (tenant_id, id); "
        "CREATE TABLE public.t0 PARTITION OF public.t FOR VALUES WITH (MODULUS 2, REMAINDER 0); "
        "CREATE TABLE public.t1 PARTITION OF public.t FOR VALUES WITH (MODULUS 2, REMAINDER 1)"
    )
    rows = 3000
    await pair.here.execute(
        "INSERT INTO public.t OVERRIDING SYSTEM VALUE VALUES "
        + ", ".join(f"('{TENANT}', {value(i)}, repeat('n', {i % 200}))" for i in range(1, rows))
        + f", ('{OTHER}', {value(rows)}, 'not mine')"
    )
    await pair.here.execute("ANALYZE public.t")
    table = await pair.copied()
    # A page at once: the partitions' pages, and the last ones, are all read.
    object.__setattr__(pair.work, "limits", Limits(chunk=1))
    assert await pair.compare(table) == (rows - 1, [])
    told = [event.rows for event in pair.events if isinstance(event, Compared)]
    assert told == sorted(told)
    assert told[-1] == rows - 1
    assert len(told) > 40, "told by the page"
    for number in (1, 1500, rows - 1):
        name = await pair.here.fetchval(f"SELECT ROW({value(number)})::text")
        at = f"WHERE id = {value(number)}"
        assert await pair.after(table, f"UPDATE public.t SET note = note || 'x' {at}") == [
            f'"public"."t" row {name} differs'
        ]
        assert await pair.after(table, f"DELETE FROM public.t {at}") == [
            f'"public"."t" row {name} is missing in acme'
        ]
    found = await pair.after(
        table,
        f"INSERT INTO public.t OVERRIDING SYSTEM VALUE VALUES ('{TENANT}', {value(rows + 5)}, NULL)",
    )
    assert len(found) == 1
    assert found[0].endswith(" is only in acme")


async def test_values_swapped_between_rows_are_found_and_both_rows_named(pair: Pair) -> None:
    """The sums of each column's hashes stay the same under a swap: a hash composed of those would not see it."""
    await pair.define(
        "CREATE TABLE public.t (tenant_id uuid, id int, a bigint, b text, PRIMARY KEY (tenant_id, id))"
    )
    await pair.here.execute(
        f"INSERT INTO public.t SELECT '{TENANT}', i, i * 10, 'b' || i FROM generate_series(1, 500) AS i"
    )
    table = await pair.copied()
    for swap in ("a = 4070 - a", "b = 'b' || 407 - id", "a = 4070 - a, b = 'b' || 407 - id"):
        found = await pair.after(table, f"UPDATE public.t SET {swap} WHERE id IN (7, 400)")
        assert found == ['"public"."t" row (400) differs', '"public"."t" row (7) differs'], swap


async def test_a_table_without_a_key_is_compared_with_its_duplicates(pair: Pair) -> None:
    await pair.define("CREATE TABLE public.t (tenant_id uuid, a int, b text)")
    await pair.here.execute(
        f"INSERT INTO public.t SELECT '{TENANT}', i % 100, 'b' || i % 100 FROM generate_series(1, 1000) AS i"
    )
    table = await pair.copied()
    assert table.key == ()
    assert await pair.compare(table) == (1000, [])
    one = "(SELECT min(ctid) FROM public.t WHERE a = 5)"
    found = await pair.after(table, f"DELETE FROM public.t WHERE ctid = {one}")
    assert [line.partition(" of public.t ")[2] for line in found] == ["is 10 times in shared, 9 times in acme"]
    found = await pair.after(table, f"UPDATE public.t SET a = 6 WHERE ctid = {one}")
    assert sorted(line.partition(" of public.t ")[2] for line in found) == [
        "is 10 times in shared, 9 times in acme",
        "is only in acme",
    ]
    # As many rows as before, each as often as another was.
    found = await pair.after(table, "UPDATE public.t SET b = 'b' || 1 - a WHERE a IN (0, 1)")
    assert len(found) == 4, found


STRANGERS = {
    "of the same key": ("PRIMARY KEY (tenant_id, id)", OTHER, 1, "row (1)"),
    "of nobody": ("PRIMARY KEY (id)", None, 2, "row (2)"),
    "without a key": ("CHECK (id > 0)", OTHER, 1, "row at (0,2) of public.t"),
}


@pytest.mark.parametrize("stranger", STRANGERS)
async def test_another_tenants_row_in_a_dedicated_target_is_found_in_either_direction(
    pair: Pair, stranger: str
) -> None:
    constraint, whose, number, name = STRANGERS[stranger]
    await pair.define(f"CREATE TABLE public.t (tenant_id uuid, id int NOT NULL, note text, {constraint})")
    await pair.here.execute(f"INSERT INTO public.t VALUES ('{TENANT}', 1, 'mine'), ('{OTHER}', 5, 'not mine')")
    table = await pair.copied()
    assert await pair.compare(table) == (1, [])
    await pair.there.execute("INSERT INTO public.t VALUES ($1, $2, 'mine')", whose, number)
    row = f'"public"."t" {name} of another tenant ({whose or "NULL"})'
    assert (await pair.compare(table))[1] == [f"{row} is only in acme"]
    # After the flip the tenant lives there, and the comparison goes the other way.
    pair.here, pair.there = pair.there, pair.here
    assert (await pair.compare(table, pair.work.reverse))[1] == [f"{row} is missing in shared"]


async def test_the_rows_of_others_in_a_shared_target_are_none_of_its_business(
    pg16: EmbeddedServer, far18: EmbeddedServer
) -> None:
    async with made(pg16, far18, Kind.SHARED) as pair:
        await pair.define("CREATE TABLE public.t (tenant_id uuid, id int, PRIMARY KEY (tenant_id, id))")
        await pair.here.execute(f"INSERT INTO public.t VALUES ('{TENANT}', 1)")
        table = await pair.copied()
        await pair.there.execute(f"INSERT INTO public.t VALUES ('{OTHER}', 1)")
        assert await pair.compare(table) == (1, [])


async def test_a_tenant_with_a_small_part_of_a_table_is_not_looked_for_on_all_its_pages(pair: Pair) -> None:
    await pair.define("CREATE TABLE public.t (tenant_id uuid, id int, note text, PRIMARY KEY (tenant_id, id))")
    await pair.here.execute(
        f"INSERT INTO public.t SELECT CASE WHEN i % 100 = 0 THEN '{TENANT}' ELSE '{OTHER}' END::uuid, i, "
        "repeat('x', 100) FROM generate_series(1, 20000) AS i"
    )
    await pair.here.execute("ANALYZE public.t")
    plan = await pair.plan()
    table = TablePlan(**{name: getattr(plan, name) for name in TablePlan.__slots__} | {"rows": 200})
    await copy_table(pair.work, table, pair.here, pair.there)
    object.__setattr__(pair.work, "limits", Limits(chunk=8192))
    pair.events.clear()
    assert await pair.compare(table) == (200, [])
    pages = await pair.there.fetchval("SELECT pg_relation_size('public.t') / 8192")
    # One statement here, one for each of the few pages there.
    assert len([event for event in pair.events if isinstance(event, Compared)]) <= 2 + pages


async def test_the_differences_named_are_few_when_everything_differs(pair: Pair) -> None:
    await pair.define("CREATE TABLE public.t (tenant_id uuid, id int, note text, PRIMARY KEY (tenant_id, id))")
    await pair.here.execute(f"INSERT INTO public.t SELECT '{TENANT}', i, 'n' FROM generate_series(1, 50000) AS i")
    table = await pair.copied()
    found = await pair.after(table, "UPDATE public.t SET note = 'm'")
    assert len(found) == 20
    assert all(line.endswith(" differs") for line in found)
    found = await pair.after(table, "DELETE FROM public.t")
    assert len(found) == 20
    assert all(line.endswith(" is missing in acme") for line in found)
