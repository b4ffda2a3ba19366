"""Every join: along each foreign key, and along keys that both tenants use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tenantry.runtime.sqltext import identifier
from tenantry.testing.report import Attempt, Outcome, Report
from tenantry.testing.scene import Scene, Table, rolled_back
from tenantry.testing.tries import ask, nothing_seen


class Join(NamedTuple):
    """Two tables and what joins them."""

    name: str
    left: Table
    right: Table
    condition: str
    """On `l` and `r`."""


async def joins(scene: Scene) -> Report:
    """Join in a scope of A, and look for B on either side."""
    attempts: list[Attempt] = []
    found = list(_joins(scene))
    joined = 0
    async with rolled_back(scene.router, scene.a) as connection:
        for join in found:
            left = f"l.{identifier(join.left.column.name)}::text"
            right = f"r.{identifier(join.right.column.name)}::text"
            for kind in ("JOIN", "LEFT JOIN", "RIGHT JOIN"):
                pair = f"{join.left.sql} AS l {kind} {join.right.sql} AS r ON {join.condition}"
                statement = f"SELECT count(*) FROM {pair} WHERE {left} <> $1 OR {right} <> $1"
                answer = await ask(connection, lambda s=statement: connection.fetchval(s, str(scene.a)))  # type: ignore[misc]
                attempts.append(nothing_seen(join.left.name, f"{kind} {join.name}", answer))
            within = (
                f"SELECT count(*) FROM {join.left.sql} AS l WHERE EXISTS "
                f"(SELECT FROM {join.right.sql} AS r WHERE {join.condition} AND ({left} <> $1 OR {right} <> $1))"
            )
            answer = await ask(connection, lambda s=within: connection.fetchval(s, str(scene.a)))  # type: ignore[misc]
            attempts.append(nothing_seen(join.left.name, f"semi-join {join.name}", answer))
            rows = f"SELECT count(*) FROM {join.left.sql} AS l JOIN {join.right.sql} AS r ON {join.condition}"
            answer = await ask(connection, lambda s=rows: connection.fetchval(s))  # type: ignore[misc]
            joined += answer.value or 0
            if not answer.value:
                why = "the tenant has no rows that it joins"
                attempts.append(Attempt(join.left.name, f"rows for {join.name}", Outcome.UNTRIED, why))
    problems = scene.problems()
    if found and not joined:
        problems += ("no join gives a single row: give the tenants rows that refer to each other",)
    if not found:
        problems += ("no table refers to another or has a key to join by",)
    return Report(tuple(attempts), problems)


def _joins(scene: Scene) -> Iterator[Join]:
    readable = {table.relation.oid: table for table in scene.tables if "SELECT" in table.rights}
    for table in readable.values():
        for key in scene.catalog.constraints.get(table.relation.oid, ()):
            target = readable.get(key.target)
            if key.kind != "f" or key.inherited or target is None:
                continue
            # Without the tenant column: the join that somebody writes who forgets it.
            pairs = [
                (mine, theirs)
                for mine, theirs in zip(key.columns, key.target_columns, strict=True)
                if (mine, theirs) != (table.column.number, target.column.number)
            ] or list(zip(key.columns, key.target_columns, strict=True))
            yield Join(f"along {key.name}", table, target, _equal(scene, table, target, pairs))
        for index in scene.catalog.indexes.get(table.relation.oid, ()):
            rest = [number for number in index.keys if number != table.column.number]
            if index.primary and 0 not in index.keys and rest:
                condition = _equal(scene, table, table, [(number, number) for number in rest])
                yield Join(f"with itself by {index.name}", table, table, condition)


def _equal(scene: Scene, left: Table, right: Table, pairs: list[tuple[int, int]]) -> str:
    found = []
    for mine, theirs in pairs:
        (one,) = scene.catalog.names(left.relation.oid, [mine])
        (other,) = scene.catalog.names(right.relation.oid, [theirs])
        found.append(f"l.{identifier(one)} = r.{identifier(other)}")
    return " AND ".join(found)
