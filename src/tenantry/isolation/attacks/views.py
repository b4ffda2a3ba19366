"""Every view, and every function that runs as somebody else: what they show in a scope, and without one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg

from tenantry.catalog.values import Function, Relation
from tenantry.ids import IdType
from tenantry.isolation.attacks.attempt import Attack, AttackAnswer, attempt, judge
from tenantry.isolation.attacks.report import Attempt, Outcome
from tenantry.isolation.attacks.scene import AttackTarget, Connection, Scene, undone
from tenantry.isolation.plan.views import invoker, readable
from tenantry.runtime.sqltext import identifier

_ROWS = 10_000
"""Rows of a function that are looked at."""


async def view(scene: Scene, found: Relation, free: Connection) -> list[Attempt]:
    """Read a view over tenant tables as the attacker, and without any tenant."""
    if not readable(scene.facts, found):
        return [Attempt(found.key, "read view", Outcome.HELD, "the role may not read it")]
    if found.kind == "m":
        why = "a materialized view holds every tenant's rows and takes no policy: revoke it"
        return [Attempt(found.key, "read view", Outcome.BROKEN, why)]
    target = _first_target(scene, found)
    if target is None:
        return [
            Attempt(found.key, "read view", Outcome.UNTRIED, "the tables that it reads have no rows to attack")
        ]
    attempts = []
    async with scene.binder.bound(target.attacker) as connection:
        attempts += await _as_tenant(scene, connection, found, target)
    some = Attack(
        "read view without a tenant", (f"SELECT count(*) FROM (SELECT 1 FROM {found.sql} LIMIT 1) AS v",)
    )
    tried = await attempt(free, found.key, some)
    if tried.outcome is Outcome.BROKEN and _as_caller(scene, found):
        # An aggregate shows a row of no tenant's.
        tried = tried._replace(outcome=Outcome.HELD, detail="it reads with its caller's rights")
    return [*attempts, tried]


async def _as_tenant(scene: Scene, connection: Connection, found: Relation, target: AttackTarget) -> list[Attempt]:
    names = {column.name for column in scene.facts.tables.tenants.values()}
    shown = next((one.name for one in scene.facts.catalog.columns.get(found.oid, ()) if one.name in names), None)
    rows = await attempt(
        connection, found.key, Attack("read view", (f"SELECT count(*) FROM {found.sql}",), most=-1)
    )
    if rows.outcome is Outcome.HELD:
        return [rows._replace(outcome=Outcome.UNTRIED, detail="it shows the tenant no rows")]
    if shown is None:
        return []  # whose rows it shows can't be told; without a tenant it must show none
    other = f"v.{identifier(shown)}::text <> {target.id(target.attacker)}::text"
    return [
        await attempt(
            connection, found.key, Attack("read view", (f"SELECT count(*) FROM {found.sql} AS v WHERE {other}",))
        )
    ]


def _first_target(scene: Scene, found: Relation) -> AttackTarget | None:
    todo, seen = [found.oid], set[int]()
    while todo:
        oid = todo.pop(0)
        if oid in scene.targets:
            return scene.targets[oid]
        if oid not in seen:
            seen.add(oid)
            todo.extend(scene.facts.catalog.reads.get(oid, ()))
    return None


def _as_caller(scene: Scene, found: Relation) -> bool:
    """True when policies hold for what the view reads."""
    return invoker(found) or not _past_policies(scene, found.owner)


def _past_policies(scene: Scene, owner: str) -> bool:
    acts_as = scene.facts.catalog.acts_as(owner)
    unforced = any(table.owner in acts_as and not table.forced for table, _ in scene.facts.tenant_tables)
    return unforced or scene.facts.bypasses(owner)


async def function(scene: Scene, found: Function, free: Connection) -> list[Attempt]:
    """Call a SECURITY DEFINER function that takes no arguments, as the attacker and without any tenant.

    Functions that run as their caller are held by the policies. Of the others, those that can't be called are
    named as not tried where their owner is past policies.
    """
    assert scene.facts.role is not None
    executable = "EXECUTE" in scene.facts.catalog.allowed(scene.facts.role, "function", found.oid)
    fires = found.result in ("trigger", "event_trigger")
    if not found.definer or found.schema == "tenantry" or found.kind != "f" or not executable or fires:
        return []
    if not _past_policies(scene, found.owner):
        return [Attempt(found.key, "call", Outcome.HELD, "policies hold its owner")]
    why = f"it runs as {found.owner}, whom no policy holds"
    if found.inputs:
        return [Attempt(found.key, "call", Outcome.UNTRIED, f"{why}, and takes arguments: read it")]
    if found.volatility == "v" and not scene.binder.calls_volatile:
        why = f"{why}, and may have effects: `assert_isolated` calls it on a test database"
        return [Attempt(found.key, "call", Outcome.UNTRIED, why)]
    target = next(iter(scene.targets.values()), None)
    if target is None:
        return [Attempt(found.key, "call", Outcome.UNTRIED, "no table has rows to attack")]
    return await _call(scene, found, target, free)


async def _call(scene: Scene, found: Function, target: AttackTarget, free: Connection) -> list[Attempt]:
    victims = {one.victim for one in scene.targets.values()} - {target.attacker}
    async with scene.binder.bound(target.attacker) as connection:
        bound = await _shows(connection, found, "call", lambda row: _of(scene, row, victims))
    return [bound, await _shows(free, found, "call without a tenant", _tells)]


async def _shows(connection: Connection, found: Function, attack: str, shows: Callable[[Any], bool]) -> Attempt:
    """Call it, and count the rows that `shows` is true of."""
    name = f"{identifier(found.schema)}.{identifier(found.name)}()"
    try:
        async with undone(connection):
            rows = await connection.fetch(f"SELECT to_jsonb(f)::text AS row FROM {name} AS f LIMIT {_ROWS}")
    except asyncpg.PostgresError as error:
        answer = AttackAnswer(error=error)
    else:
        answer = AttackAnswer(sum(shows(json.loads(row["row"] or "null")) for row in rows))
    return Attempt(found.key, attack, *judge(Attack(attack, ()), answer))


def _values(row: Any) -> Iterator[tuple[str, Any]]:
    """The plain values in a row with the names that they stand under."""
    if isinstance(row, dict):
        for name, value in row.items():
            for under, plain in _values(value):
                yield under or name, plain
    elif isinstance(row, list):
        for value in row:
            yield from _values(value)
    else:
        yield "", row


def _tells(row: Any) -> bool:
    """False for NULL, 0, false, '' and rows of such."""
    return any(value for _, value in _values(row))


def _of(scene: Scene, row: Any, victims: set[str]) -> bool:
    """True when a row is another tenant's: by its tenant column, or by an id that stands for nothing else."""
    columns = {column.name for column in scene.facts.tables.tenants.values()}
    for name, value in _values(row):
        text = str(value)
        if (name in columns or scene.facts.tenancy.id_type is IdType.TEXT) and text in victims:
            return True
        if scene.facts.tenancy.id_type is IdType.UUID and any(victim in text for victim in victims):
            return True
    return False
