"""Every write: nothing that one tenant does changes, adds or takes away another's rows.

A policy may tie reads and leave a write open, and a statement without WHERE and RETURNING is held by the write's
policy alone. So success is told by how many rows a statement reached, and a constraint's complaint counts as a
leak: PostgreSQL checks policies first, so the row had passed them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from tenantry.isolation.catalog import Index
from tenantry.isolation.effect import Action
from tenantry.runtime.sqltext import identifier, literal
from tenantry.testing.report import Attempt, Outcome, Report
from tenantry.testing.scene import Scene, Table, rolled_back
from tenantry.testing.tries import affected, ask, own_rows


class Attack(NamedTuple):
    """One statement, and what it must not do."""

    name: str
    right: str
    """The privilege without which it isn't even tried."""
    statement: str
    args: tuple[Any, ...] = ()
    most: int = 0
    """Rows that it may reach: the tenant's own."""
    passes: bool = True
    """True when a constraint can complain only of a row that policies have let pass."""
    excused: int | None = None
    """By how many its own rows then grow if a trigger of the product has made the row its own: no leak."""


_FIX: Final = "SELECT, INSERT, UPDATE, DELETE"


async def writes(scene: Scene) -> Report:
    """Try every write on B's rows in a scope of A; all of it is rolled back."""
    attempts: list[Attempt] = []
    async with rolled_back(scene.router, scene.a) as connection:
        for table in scene.tables:
            if "TRUNCATE" in table.rights:
                why = f"policies don't hold it; grant {_FIX} only"
                attempts.append(Attempt(table.name, "truncate", Outcome.LEAKED, why))
            for attack in _attacks(scene, table):
                attempts.append(await _try(scene, connection, table, attack))
    return Report(tuple(attempts), scene.problems())


async def _try(scene: Scene, connection: Any, table: Table, attack: Attack) -> Attempt:
    if attack.right not in table.rights:
        return Attempt(table.name, attack.name, Outcome.HELD, f"no right to {attack.right}")

    async def work() -> tuple[int, int]:
        reached = affected(await connection.execute(attack.statement, *attack.args))
        return reached, await own_rows(
            connection, table, str(scene.a)
        ) if "SELECT" in table.rights else table.rows[0]

    answer = await ask(connection, work)
    if answer.refused:
        return Attempt(table.name, attack.name, Outcome.HELD)
    if answer.constraint and attack.passes and _rewritten(scene, table):
        why = f"a trigger may have made the row its writer's own before a constraint stopped it ({answer.why})"
        return Attempt(table.name, attack.name, Outcome.UNTRIED, why)
    if answer.constraint and attack.passes:
        why = f"its policies let it pass, only a constraint stopped it ({answer.why})"
        return Attempt(table.name, attack.name, Outcome.LEAKED, why)
    if answer.error is not None:
        return Attempt(table.name, attack.name, Outcome.UNTRIED, answer.why)
    reached, own = answer.value
    rewritten = attack.excused is not None and own == table.rows[0] + attack.excused
    if reached <= attack.most or rewritten:
        return Attempt(table.name, attack.name, Outcome.HELD)
    why = f"reached {reached} rows, {attack.most} at most are its own"
    return Attempt(table.name, attack.name, Outcome.LEAKED, why)


def _rewritten(scene: Scene, table: Table) -> bool:
    """True when triggers may change a row before policies see it, and the policies as written would hold."""
    oid = table.relation.oid
    actions: tuple[Action, ...] = ("insert", "update", "update check")
    return bool(scene.catalog.triggers.get(oid)) and not any(
        scene.facts.effects.openings(oid, action) for action in actions
    )


def _attacks(scene: Scene, table: Table) -> Iterator[Attack]:
    a, b = literal(str(scene.a)), literal(str(scene.b))
    column = identifier(table.column.name)
    own, other = f"{a}::{table.column.type}", f"{b}::{table.column.type}"
    target = f"{table.sql} AS t"
    theirs = f"{table.tenant} = {b}"
    if table.rows[0]:
        yield Attack("update the tenant column", "UPDATE", f"UPDATE {target} SET {column} = {other}", excused=0)
        yield Attack(
            "update without a WHERE", "UPDATE", f"UPDATE {target} SET {column} = {own}", most=table.rows[0]
        )
    yield Attack("update the other's rows", "UPDATE", f"UPDATE {target} SET {column} = {own} WHERE {theirs}")
    yield Attack("delete without a WHERE", "DELETE", f"DELETE FROM {target}", most=table.rows[0], passes=False)
    yield Attack("delete the other's rows", "DELETE", f"DELETE FROM {target} WHERE {theirs}", passes=False)
    yield Attack(
        "merge over the other's rows",
        "DELETE",
        f"MERGE INTO {target} USING (SELECT 1) AS s ON {theirs} WHEN MATCHED THEN DELETE",
        passes=False,
    )
    if table.samples[1] is not None:
        yield from _inserts(scene, table, own, other)


def _inserts(scene: Scene, table: Table, own: str, other: str) -> Iterator[Attack]:
    """B's row, written by A: as it is, over its own keys, and as A's."""
    column = identifier(table.column.name)
    names = [
        identifier(one.name) for one in scene.catalog.columns[table.relation.oid] if one.generated in ("", "\0")
    ]
    listed = ", ".join(names)
    values = ", ".join(other if name == column else f"r.{name}" for name in names)
    claimed = ", ".join(own if name == column else f"r.{name}" for name in names)
    source = f"jsonb_populate_record(NULL::{table.sql}, $1::text::jsonb) AS r"
    into = f"INSERT INTO {table.sql} AS t ({listed}) OVERRIDING SYSTEM VALUE"
    args = (table.samples[1],)
    yield Attack("insert for the other", "INSERT", f"{into} SELECT {values} FROM {source}", args, excused=1)
    yield Attack(
        "merge a row in for the other",
        "INSERT",
        f"MERGE INTO {table.sql} AS t USING {source} ON false WHEN NOT MATCHED THEN "
        f"INSERT ({listed}) OVERRIDING SYSTEM VALUE VALUES ({values})",
        args,
        excused=1,
    )
    for index in _arbiters(scene, table):
        keys = ", ".join(map(identifier, scene.catalog.names(table.relation.oid, index.keys)))
        over = f"ON CONFLICT ({keys}) DO UPDATE SET {column} = {own}"
        yield Attack(
            f"upsert over the other's key ({index.name})",
            "UPDATE",
            f"{into} SELECT {values} FROM {source} {over}",
            args,
            excused=0,
        )
        if table.column.number not in index.keys:
            yield Attack(
                f"upsert that takes the other's row ({index.name})",
                "UPDATE",
                f"{into} SELECT {claimed} FROM {source} {over}",
                args,
                passes=False,
            )


def _arbiters(scene: Scene, table: Table) -> list[Index]:
    return [
        index
        for index in scene.catalog.indexes.get(table.relation.oid, ())
        if index.unique and index.valid and index.immediate and index.predicate is None and 0 not in index.keys
    ]
