"""What the policy costs a one-row query that has its index: against a WHERE that nobody forgot, without RLS.

The bare query runs in one bound transaction on one connection, so that only the query differs. The same query in
a scope of its own, through the router, says what a service notices.
"""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, Final
from uuid import UUID

import asyncpg

from benchmarks import stage
from benchmarks.contract import Options, Row, verdict
from tenantry import Router
from tenantry.runtime.sqltext import literal

ROWS: Final = 2000
BOUND: Final = 1.03
GUARDED: Final = "SELECT id, name FROM ours WHERE id = $1"
EXPLICIT: Final = "SELECT id, name FROM open WHERE tenant_id = $1 AND id = $2"

#: The same queries without a client: PL/pgSQL runs them in a loop, each prepared once, and tells microseconds.
LOOP: Final = """
CREATE FUNCTION {name}(tenant uuid, turns int) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
    started CONSTANT timestamptz := clock_timestamp();
    found text;
BEGIN
    FOR n IN 1..turns LOOP
        SELECT t.name INTO STRICT found FROM {table} AS t WHERE {where} t.id = n % {rows} + 1;
    END LOOP;
    RETURN extract(epoch FROM clock_timestamp() - started) * 1e6 / turns;
END $$
"""


async def run(options: Options) -> list[Row]:
    """At the client, and inside the server."""
    rounds = 10 if options.quick else 150
    with stage.server(options.version) as server:
        scene = await stage.prepare(server)
        tenants = stage.tenant_ids(20)
        async with scene.owner() as owner:
            await stage.settle(owner, tenants)
            await stage.fill(owner, ("ours", "open"), tenants, rows=ROWS)
            await stage.protect(owner, "ours")
            await owner.execute(f"GRANT SELECT ON open TO {stage.APP}")
            for name, table, where in (
                ("loop_ours", "ours", ""),
                ("loop_open", "open", "t.tenant_id = tenant AND"),
            ):
                await owner.execute(LOOP.format(name=name, table=table, where=where, rows=ROWS))
            await owner.execute("VACUUM ANALYZE")
        connection = await asyncpg.connect(scene.app_dsn)
        try:
            lines = await measure(connection, tenants[7], rounds)
        finally:
            await connection.close()
        return [*lines, await in_scopes(scene, tenants[7], rounds)]


async def measure(connection: Any, tenant: UUID, rounds: int) -> list[Row]:
    """Chunks of 100 queries by turns, in a new transaction each round as scopes are."""
    client: list[tuple[float, float]] = []
    server: list[tuple[float, float]] = []

    async def guarded(turn: int) -> Any:
        return await connection.fetchrow(GUARDED, turn % ROWS + 1)

    async def explicit(turn: int) -> Any:
        return await connection.fetchrow(EXPLICIT, tenant, turn % ROWS + 1)

    for number in range(rounds + 3):
        await connection.execute(f"BEGIN; SELECT tenantry.bind({literal(str(tenant))})")
        chunk = [(guarded, 0), (explicit, 1)] if number % 2 else [(explicit, 1), (guarded, 0)]
        times = [0.0, 0.0]
        for query, place in chunk:
            times[place] = await per_query(query)
        inside = [
            await connection.fetchval(f"SELECT {name}($1, 500)", tenant) for name in ("loop_ours", "loop_open")
        ]
        await connection.execute("COMMIT")
        if number >= 3:  # prepared, planned, cached
            client.append((times[0], times[1]))
            server.append((inside[0], inside[1]))
    return rows(client, server)


async def per_query(query: Callable[[int], Awaitable[Any]], turns: int = 100) -> float:
    """Microseconds."""
    started = perf_counter()
    for turn in range(turns):
        assert await query(turn) is not None
    return (perf_counter() - started) * 1e6 / turns


async def in_scopes(scene: stage.Stage, tenant: UUID, rounds: int) -> Row:
    """The same two queries, each in a scope of its own, through the router."""
    ratios = []
    async with Router.open(scene.config(size=1), metrics=False) as router:

        async def guarded(turn: int) -> Any:
            return await router.fetchrow(tenant, GUARDED, turn % ROWS + 1)

        async def explicit(turn: int) -> Any:
            return await router.fetchrow(tenant, EXPLICIT, tenant, turn % ROWS + 1)

        for number in range(rounds + 1):
            if number % 2:
                with_us, without_us = await per_query(guarded, 50), await per_query(explicit, 50)
            else:
                without_us, with_us = await per_query(explicit, 50), await per_query(guarded, 50)
            if number:
                ratios.append(with_us / without_us)
    ratio = statistics.median(ratios)
    return Row(
        "the same query in a scope of its own, through the router",
        f"{(ratio - 1) * 100:+.1f} %",
        "",
        "shown",
        "a scope with the explicit WHERE on a table without RLS",
        f"one caller, median over {len(ratios)} rounds of 50 scopes by turns",
        {"ratio": ratio},
    )


def rows(client: list[tuple[float, float]], server: list[tuple[float, float]]) -> list[Row]:
    """The table's lines."""
    seen = statistics.median(a / b for a, b in client)
    inside = statistics.median(a / b for a, b in server)
    with_us, without_us = (statistics.median(pair[side] for pair in client) for side in (0, 1))
    in_us, out_us = (statistics.median(pair[side] for pair in server) for side in (0, 1))
    return [
        Row(
            "cost of RLS with a tenant-leading index, one-row query, at the client",
            f"{(seen - 1) * 100:+.1f} % ({with_us:.0f} µs against {without_us:.0f} µs)",
            f"at most {(BOUND - 1) * 100:.0f} %",
            verdict(seen <= BOUND),
            "explicit WHERE on a table without RLS",
            f"median over {len(client)} rounds of 100 queries by turns, one connection, one bound transaction",
            {"ratio": seen, "with microseconds": with_us, "without microseconds": without_us},
        ),
        Row(
            "the same inside the server, no client, no network",
            f"+{in_us - out_us:.1f} µs per statement ({in_us:.1f} µs against {out_us:.1f} µs, {inside:.2f} x)",
            "",
            "shown",
            "explicit WHERE on a table without RLS",
            "a PL/pgSQL loop over the prepared query: all that the policy adds, of the smallest query there is",
            {"ratio": inside, "with microseconds": in_us, "without microseconds": out_us},
        ),
    ]
