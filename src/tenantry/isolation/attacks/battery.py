"""The battery: every attack on every tenant table, view and function of a scene."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Final

from tenantry.isolation.attacks.attempt import Attack, ask, attempt
from tenantry.isolation.attacks.references import across, joins, refers
from tenantry.isolation.attacks.report import Attempt, Outcome, Report
from tenantry.isolation.attacks.scene import AttackTarget, Connection, NotBound, Scene
from tenantry.isolation.attacks.tables import reads, unbound, writes
from tenantry.isolation.attacks.views import function, view
from tenantry.isolation.policy_set import ACTIONS
from tenantry.runtime.sqltext import identifier

PARTS: Final = ("reads", "writes", "joins", "views", "functions")
"""What the battery can be asked for alone."""

Progress = Callable[[str], None]


async def battery(scene: Scene, parts: Collection[str] = PARTS, *, progress: Progress | None = None) -> Report:
    """Attack everything in the scene; nothing of it stays.

    What is asked without a tenant comes first: a setting that a session has had once reads as '' for ever, and
    never again as never set.

    Args:
        progress: told the name of each object.
    """
    report = Report(tuple(_not_attacked(scene, parts)), scene.problems)
    if "reads" in parts:
        async with scene.binder.unbound() as free:
            report = report.plus(Report(tuple(await _unbound(scene, free))))
    for oid, target in scene.targets.items():
        if progress is not None:
            progress(target.relation.key)
        report = report.plus(await _table(scene, oid, target, parts))
    if "joins" in parts:
        report = report.plus(await _joins(scene))
    report = report.plus(await _views(scene, parts))
    return report if report.held or report.broken else report.plus(Report((), ("nothing was tried",)))


def _not_attacked(scene: Scene, parts: Collection[str]) -> Iterator[Attempt]:
    """What is said of tables that are no target."""
    for oid, why in scene.missing.items() if {"reads", "writes"} & {*parts} else ():
        outcome = Outcome.UNTRIED if scene.rights[oid].any else Outcome.HELD
        yield Attempt(scene.facts.catalog.relations[oid].key, "all", outcome, why)
    for table, why in scene.forbidden if "joins" in parts else ():
        yield Attempt(table, "rows under the same key", Outcome.UNTRIED, why)
    if "writes" in parts:
        yield from _unguarded(scene)


def _unguarded(scene: Scene) -> Iterator[Attempt]:
    """Tables that can be written past a move's fence. No attack shows it while nobody moves: the catalog does."""
    facts = scene.facts
    functions = facts.catalog.functions.values()
    installed = any((one.schema, one.name) == ("tenantry", "admitted") for one in functions)
    for relation, _ in facts.tenant_tables if installed else ():
        rights = scene.rights[relation.oid]
        if rights.any and facts.observing(relation.oid) is None and facts.guard_held(relation.oid) is None:
            why = (
                "it has no guard: who writes past the routers goes on while a tenant moves (`tenantry rls apply`)"
            )
            yield Attempt(relation.key, "past the fence", Outcome.BROKEN, why)


async def _unbound(scene: Scene, free: Connection) -> list[Attempt]:
    found = []
    for relation, column in scene.facts.tenant_tables:
        if scene.rights[relation.oid].may("SELECT", column.name):
            for attack in unbound(scene.facts.tenancy.setting, relation.sql, identifier(column.name)):
                found.append(await attempt(free, relation.key, attack))
    return found


async def _table(scene: Scene, oid: int, target: AttackTarget, parts: Collection[str]) -> Report:
    """The attacks on one table, in one transaction that is rolled back."""
    made: list[Attack | Attempt] = [*(reads(target) if "reads" in parts else ())]
    if "writes" in parts:
        made += [*writes(scene.facts, target), *await refers(scene, target)]
    if not made:
        return Report()
    name = target.relation.key
    triggers = bool(scene.facts.catalog.triggers.get(oid))
    closed = triggers and not any(scene.facts.policy_set.openings(oid, action) for action in ACTIONS)
    try:
        async with scene.binder.bound(target.attacker) as connection:
            if target.own is not None and target.rights.may("SELECT", target.column.name):
                row = f"SELECT count(*) FROM {target.relation.sql} AS t WHERE {target.own.at}"
                seen = await ask(connection, Attack("own row", (row,)))
                if not seen.reached and not seen.refused:
                    return Report(
                        (), (f"{name}: its tenant does not see its own row, so nothing would be proven",)
                    )
            done = [
                await attempt(connection, name, one, triggers=triggers, closed=closed)
                if isinstance(one, Attack)
                else one
                for one in made
            ]
    except NotBound as error:
        return Report((Attempt(name, "all", Outcome.UNTRIED, str(error)),), (str(error),))
    return Report(tuple(done))


async def _joins(scene: Scene) -> Report:
    """Every join, as the attacker of its left table; a join that gives the attacker no row proves nothing."""
    attempts: list[Attempt] = []
    for join in joins(scene):
        name = join.left.relation.key
        try:
            async with scene.binder.bound(join.left.attacker) as connection:
                tried = [await attempt(connection, name, attack) for attack in across(join)]
                rows = f"SELECT count(*) FROM (SELECT 1 FROM {join.pair} LIMIT 1) AS j"
                if not (await ask(connection, Attack("rows", (rows,)))).reached:
                    tried = [_proves_nothing(one) for one in tried]
        except NotBound as error:
            return Report(tuple(attempts), (str(error),))
        attempts += tried
    return Report(tuple(attempts))


def _proves_nothing(attempt: Attempt) -> Attempt:
    if attempt.outcome is not Outcome.HELD:
        return attempt
    return attempt._replace(outcome=Outcome.UNTRIED, detail="the tenant has no rows that it joins")


async def _views(scene: Scene, parts: Collection[str]) -> Report:
    views = scene.facts.views if "views" in parts else ()
    functions = scene.facts.catalog.functions.values() if "functions" in parts else ()
    attempts: list[Attempt] = []
    try:
        async with scene.binder.unbound() as free:
            for found in views:
                attempts += await view(scene, found, free)
            for called in functions:
                attempts += await function(scene, called, free)
    except NotBound as error:
        return Report(tuple(attempts), (str(error),))
    return Report(tuple(attempts))
