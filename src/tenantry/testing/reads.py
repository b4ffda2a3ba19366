"""Every read: no way to look at a table shows another tenant's rows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tenantry.testing.report import Attempt, Outcome, Report
from tenantry.testing.scene import Scene, Table, rolled_back
from tenantry.testing.tries import ask, nothing_seen


async def reads(scene: Scene) -> Report:
    """Look for B's rows in a scope of A, in every way, in every table."""
    attempts: list[Attempt] = []
    async with rolled_back(scene.router, scene.a) as connection:
        for table in scene.tables:
            if "SELECT" not in table.rights:
                attempts.append(Attempt(table.name, "select", Outcome.HELD, "no right to read it"))
                continue
            for attack, work in _ways(connection, table, str(scene.a), str(scene.b)):
                answer = await ask(connection, work)
                attempts.append(nothing_seen(table.name, attack, answer))
    return Report(tuple(attempts), scene.problems())


def _ways(connection: Any, table: Table, a: str, b: str) -> list[tuple[str, Callable[[], Awaitable[Any]]]]:
    others = f"{table.sql} AS t WHERE {table.tenant} IS DISTINCT FROM $1"

    def count(statement: str, *args: str) -> Callable[[], Awaitable[Any]]:
        return lambda: connection.fetchval(statement, *args)

    async def by_cursor() -> int:
        rows = connection.cursor(f"SELECT {table.tenant} AS tenant FROM {table.sql} AS t", prefetch=1000)
        return len([row async for row in rows if row["tenant"] != a])

    async def by_copy() -> int:
        lines = bytearray()

        async def keep(data: bytes) -> None:
            lines.extend(data)

        await connection.copy_from_query(
            f"SELECT count(*) FROM {table.sql} AS t WHERE {table.tenant} IS DISTINCT FROM $1", a, output=keep
        )
        return int(lines.decode().strip())

    ways = [
        ("select without a WHERE", count(f"SELECT count(*) FROM {others}", a)),
        (
            "select by the other's id",
            count(f"SELECT count(*) FROM {table.sql} AS t WHERE {table.tenant} = $1", b),
        ),
        (
            "exists in a sub-query",
            count(
                f"SELECT (EXISTS (SELECT FROM {table.sql} AS t WHERE {table.tenant} IS DISTINCT FROM $1))::int", a
            ),
        ),
        (
            "aggregate per tenant",
            count(
                f"SELECT count(*) FROM (SELECT {table.tenant} AS it FROM {table.sql} AS t GROUP BY 1) AS g "
                "WHERE it IS DISTINCT FROM $1",
                a,
            ),
        ),
        ("cursor", by_cursor),
        ("COPY TO", by_copy),
    ]
    if table.relation.kind == "r":
        sample = f"{table.sql} AS t TABLESAMPLE SYSTEM (100) WHERE {table.tenant} IS DISTINCT FROM $1"
        ways.append(("TABLESAMPLE", count(f"SELECT count(*) FROM {sample}", a)))
    if "UPDATE" in table.rights:
        locked = f"SELECT count(*) FROM (SELECT 1 FROM {others} FOR UPDATE) AS l"
        ways.append(("SELECT FOR UPDATE", count(locked, a)))
    return ways
