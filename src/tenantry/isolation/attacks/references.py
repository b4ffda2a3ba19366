"""Attacks along keys: joins that forget the tenant, and rows that refer to another tenant's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from tenantry.catalog.values import Constraint
from tenantry.isolation.attacks.attempt import Attack, Proof
from tenantry.isolation.attacks.report import Attempt, Outcome
from tenantry.isolation.attacks.scene import AttackTarget, Scene, typed
from tenantry.isolation.attacks.tables import NO_OWN, UNCHANGED
from tenantry.runtime.sqltext import identifier, literal

_CANDIDATES = 500
"""Rows of the victim among which one is looked for that the attacker has no like of."""


class Join(NamedTuple):
    """Two tables and what joins them."""

    name: str
    left: AttackTarget
    right: AttackTarget
    condition: str
    """On `l` and `r`."""

    @property
    def pair(self) -> str:
        """The join, after FROM."""
        return f"{self.left.relation.sql} AS l JOIN {self.right.relation.sql} AS r ON {self.condition}"


def joins(scene: Scene) -> Iterator[Join]:
    """Along each foreign key, and of each table with itself by its primary key; never by the tenant."""
    readable = {
        oid: target for oid, target in scene.targets.items() if target.rights.may("SELECT", target.column.name)
    }
    for oid, table in readable.items():
        for key in scene.facts.catalog.constraints.get(oid, ()):
            other = readable.get(key.target)
            if key.kind == "f" and not key.inherited and other is not None:
                pairs = _without_tenant(key, table, other.column.number) or [
                    *zip(key.columns, key.target_columns, strict=True)
                ]
                yield Join(f"along {key.name}", table, other, _equal(scene, table, other, pairs))
        primary = scene.facts.primary(oid)
        rest = [number for number in primary.keys if number != table.column.number] if primary else []
        if rest and 0 not in rest:
            pairs = [(number, number) for number in rest]
            yield Join("with itself by its key", table, table, _equal(scene, table, table, pairs))


def across(join: Join) -> Iterator[Attack]:
    """Look for another tenant on either side of a join."""
    attacker = join.left.id(join.left.attacker)
    left, right = (
        f"l.{join.left.quoted} <> {attacker}",
        f"r.{join.right.quoted} <> {join.right.id(join.left.attacker)}",
    )
    for kind in ("JOIN", "LEFT JOIN", "RIGHT JOIN"):
        pair = join.pair.replace(" JOIN ", f" {kind} ", 1)
        yield Attack(f"{kind.lower()} {join.name}", (f"SELECT count(*) FROM {pair} WHERE {left} OR {right}",))
    within = f"EXISTS (SELECT FROM {join.right.relation.sql} AS r WHERE {join.condition} AND ({left} OR {right}))"
    yield Attack(f"semi-join {join.name}", (f"SELECT count(*) FROM {join.left.relation.sql} AS l WHERE {within}",))


async def refers(scene: Scene, target: AttackTarget) -> list[Attack | Attempt]:
    """Make an own row refer to a row of the victim, along each foreign key to a tenant table."""
    found: list[Attack | Attempt] = []
    for key in scene.facts.catalog.constraints.get(target.relation.oid, ()):
        column = scene.facts.tables.tenants.get(key.target)
        if key.kind != "f" or key.inherited or column is None:
            continue
        pairs = [pair for pair in _without_tenant(key, target, column.number) if pair[0] != target.column.number]
        if pairs:
            found.append(await _refer(scene, target, key, pairs))
    return found


async def _refer(
    scene: Scene, target: AttackTarget, key: Constraint, pairs: list[tuple[int, int]]
) -> Attack | Attempt:
    catalog = scene.facts.catalog
    parent = catalog.relations[key.target]
    name, table = f"refer along {key.name}", target.relation.key
    columns = catalog.names(target.relation.oid, [pair[0] for pair in pairs])
    if not all(target.rights.may("UPDATE", column) for column in columns):
        return Attempt(table, name, Outcome.HELD, "the role has no right to UPDATE it")
    if target.own is None:
        return Attempt(table, name, Outcome.UNTRIED, NO_OWN)
    names = catalog.names(parent.oid, [pair[1] for pair in pairs])
    chosen = await _victims_key(scene, target, key.target, names)
    if chosen is None:
        why = f"the other tenant has no row in {parent.key}, with a whole key, that is its alone"
        return Attempt(table, name, Outcome.UNTRIED, why)
    source = f"jsonb_populate_record(NULL::{parent.sql}, {literal(json.dumps(chosen))}::jsonb) AS s"
    pairs_sql = [(identifier(mine), identifier(theirs)) for mine, theirs in zip(columns, names, strict=True)]
    assigned = ", ".join(f"{mine} = s.{theirs}" for mine, theirs in pairs_sql)
    same = " AND ".join(f"t.{mine} = s.{theirs}" for mine, theirs in pairs_sql)
    update = f"UPDATE {target.relation.sql} AS t SET {assigned} FROM {source} WHERE {target.own.at}"
    # Deferred keys are checked before the answer is believed; a trigger may have put other values there.
    mine = f"t.{target.quoted} = {target.id(target.attacker)}"
    refers = f"SELECT count(*) FROM {target.relation.sql} AS t, {source} WHERE {same} AND {mine}"
    statements = (update, "SET CONSTRAINTS ALL IMMEDIATE", refers)
    return Attack(name, statements, error=Proof.KEY, without=UNCHANGED)


async def _victims_key(
    scene: Scene, target: AttackTarget, parent: int, names: tuple[str, ...]
) -> dict[str, Any] | None:
    """The key of a row that is the victim's alone.

    A key with a NULL in it is none: PostgreSQL does not check it (MATCH SIMPLE), and it refers to nothing.
    """
    relation, column = scene.facts.catalog.relations[parent], scene.facts.tables.tenants[parent]
    tenant = f"{identifier(column.name)} = "
    whole = " AND ".join(f"p.{identifier(name)} IS NOT NULL" for name in names)
    async with scene.binder.seeing(target.victim) as connection:
        found = await connection.fetchval(
            f"SELECT jsonb_agg(to_jsonb(c))::text FROM (SELECT * FROM {relation.sql} AS p WHERE p.{tenant}"
            f"{typed(scene.facts, column, target.victim)} AND {whole} LIMIT {_CANDIDATES}) AS c"
        )
    if found is None:
        return None
    same = " AND ".join(f"q.{identifier(name)} = c.{identifier(name)}" for name in names)
    async with scene.binder.seeing(target.attacker) as connection:
        alone = await connection.fetchval(
            f"SELECT to_jsonb(c)::text FROM jsonb_populate_recordset(NULL::{relation.sql}, "
            f"{literal(found)}::jsonb) AS c WHERE NOT EXISTS (SELECT FROM {relation.sql} AS q WHERE q.{tenant}"
            f"{typed(scene.facts, column, target.attacker)} AND {same}) LIMIT 1"
        )
    values = None if alone is None else json.loads(alone)
    return None if values is None else {name: values[name] for name in names}


def _without_tenant(key: Constraint, target: AttackTarget, other: int) -> list[tuple[int, int]]:
    """A key's pairs of columns but the tenants': what somebody joins by who forgets the tenant."""
    pairs = zip(key.columns, key.target_columns, strict=True)
    return [(mine, theirs) for mine, theirs in pairs if (mine, theirs) != (target.column.number, other)]


def _equal(scene: Scene, left: AttackTarget, right: AttackTarget, pairs: list[tuple[int, int]]) -> str:
    names = scene.facts.catalog.names
    mine = names(left.relation.oid, [pair[0] for pair in pairs])
    theirs = names(right.relation.oid, [pair[1] for pair in pairs])
    return " AND ".join(f"l.{identifier(a)} = r.{identifier(b)}" for a, b in zip(mine, theirs, strict=True))
