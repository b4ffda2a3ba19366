"""Every view, and every function that runs as somebody else: what they show in a scope, and without one."""

from __future__ import annotations

import json
from typing import Any

from tenantry.isolation.catalog import Function, Relation
from tenantry.isolation.tables import spelling
from tenantry.runtime.sqltext import identifier
from tenantry.testing.report import Attempt, Outcome, Report
from tenantry.testing.scene import Scene, rolled_back, unbound
from tenantry.testing.tries import ask, nothing_seen


async def views(scene: Scene) -> Report:
    """Read every view over tenant tables in a scope of A, and on a connection without any tenant."""
    attempts: list[Attempt] = []
    async with rolled_back(scene.router, scene.a) as bound, unbound(scene.router, scene.a) as free:
        for view in scene.facts.views:
            may = await bound.fetchval("SELECT has_table_privilege($1::bigint::oid, 'SELECT')", view.oid)
            if not may:
                attempts.append(Attempt(view.key, "select", Outcome.HELD, "no right to read it"))
            elif view.kind == "m":
                why = "a materialized view holds every tenant's rows and takes no policy: revoke it"
                attempts.append(Attempt(view.key, "select", Outcome.LEAKED, why))
            else:
                attempts += await _view(scene, bound, free, view)
    return Report(tuple(attempts), scene.problems())


async def _view(scene: Scene, bound: Any, free: Any, view: Relation) -> list[Attempt]:
    attempts = []
    column = next(
        (
            one.name
            for one in scene.catalog.columns.get(view.oid, ())
            if spelling(one.name) == spelling(scene.tenancy.column)
        ),
        None,
    )
    if column is not None:
        statement = f"SELECT count(*) FROM {view.sql} AS v WHERE v.{identifier(column)}::text <> $1"
        answer = await ask(bound, lambda: bound.fetchval(statement, str(scene.a)))
        attempts.append(nothing_seen(view.key, "select from the view", answer))
    counted = f"SELECT count(*) FROM {view.sql}"
    if not await bound.fetchval(counted):
        attempts.append(Attempt(view.key, "select from the view", Outcome.UNTRIED, "it shows the tenant no rows"))
    answer = await ask(free, lambda: free.fetchval(counted))
    if answer.value and _as_caller(scene, view):
        # An aggregate shows a row of no tenant's.
        return [*attempts, Attempt(view.key, "whose rights it reads with", Outcome.HELD, "its caller's")]
    attempts.append(nothing_seen(view.key, "select from the view without a tenant", answer))
    return attempts


def _as_caller(scene: Scene, view: Relation) -> bool:
    """True when policies hold for what the view reads."""
    invoker = any(
        option.replace(" ", "") in ("security_invoker=true", "security_invoker=on") for option in view.options
    )
    return invoker or not _past_policies(scene, view.owner)


def _past_policies(scene: Scene, owner: str) -> bool:
    unforced = any(
        table.relation.owner in scene.catalog.acts_as(owner) and not table.relation.forced
        for table in scene.tables
    )
    return unforced or scene.facts.bypasses(owner)


async def functions(scene: Scene) -> Report:
    """Call every SECURITY DEFINER function that the application may call and that takes no arguments.

    Functions that run as their caller are held by the policies. Of the others, those with arguments are named as
    not tried where their owner is past policies.
    """
    attempts: list[Attempt] = []
    async with rolled_back(scene.router, scene.a) as bound, unbound(scene.router, scene.a) as free:
        for function in scene.catalog.functions.values():
            if not function.definer or function.schema == "tenantry" or function.kind != "f":
                continue
            may = await bound.fetchval("SELECT has_function_privilege($1::bigint::oid, 'EXECUTE')", function.oid)
            if not may or function.result in ("trigger", "event_trigger"):
                continue
            if not _past_policies(scene, function.owner):
                attempts.append(Attempt(function.key, "call", Outcome.HELD, "policies hold its owner"))
            elif function.inputs:
                why = f"it runs as {function.owner}, whom no policy holds, and takes arguments: read it"
                attempts.append(Attempt(function.key, "call", Outcome.UNTRIED, why))
            else:
                attempts += await _call(scene, bound, free, function)
    return Report(tuple(attempts), scene.problems())


async def _call(scene: Scene, bound: Any, free: Any, function: Function) -> list[Attempt]:
    name = f"{identifier(function.schema)}.{identifier(function.name)}()"
    statement = f"SELECT to_jsonb(f)::text AS row FROM {name} AS f LIMIT 10000"
    own = await ask(bound, lambda: bound.fetch(statement))
    others = None if own.error is not None else [row for row in own.value if str(scene.b) in (row["row"] or "")]
    attempts = [nothing_seen(function.key, "call", own._replace(value=len(others or ())))]
    answer = await ask(free, lambda: free.fetch(statement))
    rows = [] if answer.error is not None else [row for row in answer.value if not _empty(row["row"])]
    attempts.append(nothing_seen(function.key, "call without a tenant", answer._replace(value=len(rows))))
    return attempts


def _empty(row: str | None) -> bool:
    """True for a result that tells nothing: NULL, 0, false, '' or a row of such."""
    value = None if row is None else json.loads(row)
    parts = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else [value]
    return not any(parts)
