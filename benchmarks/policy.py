"""The policy template's shapes against an explicit WHERE: by type of the ids, by index and by scan.

All shapes are policies on one table, each for a role of its own, so that data and cache are the same for all; the
explicit WHERE runs as a role that bypasses row-level security. The sides take turns within one transaction that
is bound to a tenant. `python -m benchmarks policy` prints what docs/explanation/policy.md shows.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from time import perf_counter
from typing import Any, Final, NamedTuple

import asyncpg

from benchmarks import stage
from benchmarks.contract import Options, Row
from tenantry.catalog.tenancy import Tenancy
from tenantry.ids import IdType, Kind
from tenantry.isolation.equality import predicate
from tenantry.isolation.guard import Guard, expressions
from tenantry.runtime.sqltext import identifier, literal
from tenantry.schema import install_data

TENANTS: Final = 1000
#: Of all rows, the part that belongs to the largest tenant.
LARGEST: Final = 0.6
PAYLOAD: Final = 100
EXPLICIT: Final = "explicit WHERE, no RLS"


class Shape(NamedTuple):
    """One way to write the policy."""

    name: str
    expression: str
    guard: str = ""
    """The restrictive policy beside it; empty for none."""


class Side(NamedTuple):
    """A role and the query that it sends."""

    name: str
    role: str
    query: str


class Measured(NamedTuple):
    """The medians of one access path."""

    kind: IdType
    access: str
    microseconds: dict[str, float]
    ratios: dict[str, float]
    """Against the explicit WHERE, the median of each round's own ratio."""
    estimates: dict[str, int]
    """The rows that the planner expects of the largest tenant; its real rows under the key "real"."""


async def run(options: Options) -> list[Row]:
    """Every id type, by index and by scan."""
    rows, rounds = (30_000, 3) if options.quick else (300_000, 11)
    found = []
    with stage.server(options.version) as server:
        for kind in IdType:
            name = f"policy_{kind.value}"
            async with Connected(server.dsn()) as admin:
                await admin.execute(f"CREATE DATABASE {name}")
            async with Connected(server.dsn(name)) as connection:
                sides = await prepare(connection, kind, rows)
                estimates = await estimate(connection, kind, sides)
                for access in ("index", "scan"):
                    found.append(await measure(connection, kind, access, sides, rounds, estimates))
    return [row for measured in found for row in told(measured, rounds, rows)]


class Connected:
    """A connection for one block."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn

    async def __aenter__(self) -> Any:
        self.connection = await asyncpg.connect(self.dsn)
        return self.connection

    async def __aexit__(self, *_: object) -> None:
        await self.connection.close()


def ids(kind: IdType) -> tuple[str, str]:
    """The largest tenant and one of the small ones, as text."""
    return tenant(kind, 0), tenant(kind, TENANTS // 2)


def tenant(kind: IdType, number: int) -> str:
    """The id of a tenant by number."""
    if kind is IdType.UUID:
        return f"00000000-0000-4000-8000-{number:012x}"
    return str(number + 1) if kind is IdType.BIGINT else f"customer-{number:06d}"


def shapes(kind: IdType) -> Iterator[Shape]:
    """What is compared."""
    bound = "nullif(current_setting('app.current_tenant', true), '')"
    bound = bound if kind is IdType.TEXT else f"{bound}::{kind.value}"
    yield Shape("bare equality", f"tenant_id = {bound}")
    yield Shape("wrapped equality", f"tenant_id = (SELECT {bound})")
    for name, tenancy in (
        ("template", Tenancy(id_type=kind)),
        ("template, hardened", Tenancy(id_type=kind, hardened=True)),
    ):
        guard, _ = expressions("tenant_id", tenancy, Guard.FENCE)
        yield Shape(name, predicate("tenant_id", tenancy), guard)
    distinct = "tenant_id IS NOT DISTINCT FROM (SELECT tenantry.admitted_tenant())"
    yield Shape("IS NOT DISTINCT FROM", f"tenant_id = {bound} AND {distinct}")


async def prepare(connection: Any, kind: IdType, rows: int) -> list[Side]:
    """The table, a policy and a role for each shape, and the role that bypasses."""
    await install_data(
        connection,
        name="shared",
        kind=Kind.SHARED,
        setting="app.current_tenant",
        id_type=kind,
        application_role=None,
    )
    for number in range(TENANTS):
        await connection.execute("SELECT tenantry.enroll($1, 1)", tenant(kind, number))
    names = ", ".join(literal(tenant(kind, number)) for number in range(TENANTS))
    await connection.execute(
        f"CREATE TABLE t (tenant_id {kind.value} NOT NULL, id bigint NOT NULL, payload text);"
        f"INSERT INTO t SELECT (ARRAY[{names}])[CASE WHEN n % 100 < {LARGEST * 100} THEN 1"
        f" ELSE (n / 100 * 40 + n % 100 - 60) % {TENANTS} + 1 END]::{kind.value}, n, repeat('x', {PAYLOAD})"
        f" FROM generate_series(1, {rows}) AS n;"
        "CREATE INDEX ON t (tenant_id, id); ALTER TABLE t ENABLE ROW LEVEL SECURITY"
    )
    sides = [Side(EXPLICIT, f"bypass_{kind.value}", "SELECT count(*) FROM t WHERE tenant_id = {tenant}")]
    await connection.execute(f"CREATE ROLE {sides[0].role} BYPASSRLS; GRANT SELECT ON t TO {sides[0].role}")
    for number, shape in enumerate(shapes(kind)):
        role = identifier(f"shape_{kind.value}_{number}")
        await connection.execute(
            f"CREATE ROLE {role}; GRANT SELECT ON t TO {role};"
            f"CREATE POLICY {role} ON t TO {role} USING ({shape.expression})"
        )
        if shape.guard:
            guard = identifier(f"guard_{kind.value}_{number}")
            await connection.execute(f"CREATE POLICY {guard} ON t AS RESTRICTIVE TO {role} USING ({shape.guard})")
        await connection.execute("SELECT tenantry.grant_application($1)", role.strip('"'))
        await connection.execute(f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA tenantry TO {role}")
        sides.append(Side(shape.name, role, "SELECT count(*) FROM t"))
    await connection.execute("ALTER TABLE t ALTER tenant_id SET STATISTICS 1000")
    await connection.execute("VACUUM ANALYZE t")
    return sides


async def estimate(connection: Any, kind: IdType, sides: list[Side]) -> dict[str, int]:
    """How many rows of the largest tenant the planner expects."""
    largest, _ = ids(kind)
    found: dict[str, int] = {}
    async with connection.transaction():
        await connection.execute(
            f"SELECT tenantry.bind({literal(largest)}); SET LOCAL max_parallel_workers_per_gather = 0"
        )
        for side in sides:
            await connection.execute(f"SET LOCAL ROLE {side.role}")
            query = side.query.replace("count(*)", "*").format(tenant=literal(largest))
            plan = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {query}"))
            found[side.name] = plan[0]["Plan"]["Plan Rows"]
        await connection.execute("RESET ROLE")
        found["real"] = await connection.fetchval(f"SELECT count(*) FROM t WHERE tenant_id = {literal(largest)}")
    return found


async def measure(
    connection: Any, kind: IdType, access: str, sides: list[Side], rounds: int, estimates: dict[str, int]
) -> Measured:
    """Chunks of one side after the other, the order turned each round."""
    largest, small = ids(kind)
    chosen, turns = (small, 100) if access == "index" else (largest, 1)
    times: dict[str, list[float]] = {side.name: [] for side in sides}
    for number in range(rounds + 2):
        async with connection.transaction():
            await connection.execute(f"SELECT tenantry.bind({literal(chosen)})")
            await connection.execute("SET LOCAL max_parallel_workers_per_gather = 0")
            if access == "scan":
                await connection.execute(
                    "SET LOCAL enable_indexscan = off; SET LOCAL enable_indexonlyscan = off;"
                    "SET LOCAL enable_bitmapscan = off"
                )
            turned = sides[number % len(sides) :] + sides[: number % len(sides)]
            for side in turned:
                took = await per_query(connection, side, chosen, turns)
                if number >= 2:  # cached, planned
                    times[side.name].append(took)
    base = times[EXPLICIT]
    return Measured(
        kind,
        access,
        {name: statistics.median(taken) for name, taken in times.items()},
        {
            name: statistics.median(a / b for a, b in zip(taken, base, strict=True))
            for name, taken in times.items()
        },
        estimates,
    )


async def per_query(connection: Any, side: Side, chosen: str, turns: int) -> float:
    """Microseconds for one query, prepared and planned before the clock starts."""
    await connection.execute(f"SET LOCAL ROLE {side.role}")
    statement = await connection.prepare(side.query.format(tenant=literal(chosen)))
    assert await statement.fetchval() > 0
    started = perf_counter()
    for _ in range(turns):
        await statement.fetchval()
    took = (perf_counter() - started) * 1e6 / turns
    await connection.execute("RESET ROLE")
    return took


def told(measured: Measured, rounds: int, rows: int) -> Iterator[Row]:
    """One line for each shape."""
    for name, taken in measured.microseconds.items():
        if name == EXPLICIT:
            continue
        base = measured.microseconds[EXPLICIT]
        yield Row(
            f"policy, {measured.kind.value}, {measured.access}: {name}",
            f"{measured.ratios[name]:.2f} x ({taken:.0f} µs against {base:.0f} µs)",
            "",
            "shown",
            EXPLICIT,
            f"median of {rounds} rounds by turns, {rows} rows, {TENANTS} tenants, one holds {LARGEST:.0%}; "
            f"the planner expects {measured.estimates[name]} rows of the largest, "
            f"{measured.estimates['real']} there are",
            {"ratio": measured.ratios[name], "microseconds": taken, "estimate": measured.estimates[name]},
        )
