"""RLS on, forced, the tenant policy and the guard: the step that closes a table, in one transaction.

Policies of the product's own are kept; the guard goes beside them.
"""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.catalog.tables import Undecided
from tenantry.catalog.values import Column, Relation
from tenantry.isolation.equality import bound_tenant
from tenantry.isolation.facts import OBSERVE, OURS, Facts
from tenantry.isolation.guard import GUARD, SUPERSEDED, Guard, guard_sql
from tenantry.isolation.plan.step import PlanContext, PlanStep, choice
from tenantry.isolation.policy import POLICY, policy_sql
from tenantry.isolation.policy_set import ACTIONS
from tenantry.isolation.policy_verdict import ExpressionVerdict
from tenantry.runtime.sqltext import identifier, literal


def steps(context: PlanContext) -> Iterator[PlanStep | Undecided]:
    """Close every tenant table, and guard it."""
    for relation, column in context.facts.tenant_tables:
        found = policy(context.facts, relation, column)
        if found is not None:
            yield found


def policy(facts: Facts, relation: Relation, column: Column) -> PlanStep | Undecided | None:
    """What is to be done about one table's policies, or None."""
    if facts.tenancy.citus:
        return _alone(facts, relation, column)
    own, observing = facts.own_policy(relation.oid), facts.observing(relation.oid)
    others = facts.other_policies(relation.oid)
    table = f"ALTER TABLE {relation.sql}"
    switches = [] if relation.rls else [f"{table} ENABLE ROW LEVEL SECURITY"]
    switches += [] if relation.forced else [f"{table} FORCE ROW LEVEL SECURITY"]
    kept = any(other.permissive for other in others)
    if kept:
        doubt = _doubt(facts, relation)
        if doubt is not None:
            return _undecided(facts, relation, column, doubt)
    # The guard comes first and old policies go last: the lock is held from the first statement on, and whoever
    # reads the script sees that the table is never without.
    statements = [] if facts.guarded_well(relation.oid) else [*guarding(facts, relation, column)]
    drifted = own is not None and facts.drifted(own, column)
    if drifted or (own is None and not kept):  # where they do the template's work, theirs is kept
        statements += [_drop(POLICY, relation)] if drifted else []
        statements += [policy_sql(relation.schema, relation.name, column.name, facts.tenancy, column.type)]
    statements += [_drop(old.name, relation) for old in (facts.superseded(relation.oid), observing) if old]
    statements += switches
    why = "its own policies are kept; the guard holds them to the bound tenant and to a move's fence"
    return _step(relation, statements, why if kept and own is None else None) if statements else None


def _alone(facts: Facts, relation: Relation, column: Column) -> PlanStep | Undecided | None:
    """The same on Citus, where the tenant policy holds everything, and no other may stand beside it."""
    kept = [other.name for other in facts.other_policies(relation.oid) if other.permissive]
    if kept:
        return Undecided(
            relation.key,
            f"has policies of its own ({', '.join(kept)}), and on Citus no guard can hold them: "
            "whatever they let in is let in",
            (
                choice("put the template in their place", replacement(facts, relation, column)),
                "keep the table off Citus, in another shared database",
            ),
            "policy",
        )
    statements = []
    table, own = f"ALTER TABLE {relation.sql}", facts.own_policy(relation.oid)
    if own is None or facts.drifted(own, column):
        statements += [] if own is None else [_drop(POLICY, relation)]
        statements += [policy_sql(relation.schema, relation.name, column.name, facts.tenancy, column.type)]
    olds = (facts.guard(relation.oid), facts.superseded(relation.oid), facts.observing(relation.oid))
    statements += [_drop(old.name, relation) for old in olds if old]
    statements += [] if relation.rls else [f"{table} ENABLE ROW LEVEL SECURITY"]
    statements += [] if relation.forced else [f"{table} FORCE ROW LEVEL SECURITY"]
    return _step(relation, statements) if statements else None


def guarding(facts: Facts, relation: Relation, column: Column) -> Iterator[str]:
    """The statements that give a table the guard that it wants; on Citus none does."""
    if facts.tenancy.citus:
        return
    if facts.guard(relation.oid) is not None:
        yield _drop(GUARD, relation)
    wanted = facts.guard_wanted(relation.oid)
    yield guard_sql(relation.schema, relation.name, column.name, facts.tenancy, wanted, column.type)


def observe(context: PlanContext) -> Iterator[PlanStep | Undecided]:
    """Let every table record what would be refused; tables that refuse already are left alone."""
    facts = context.facts
    if facts.tenancy.citus:
        yield Undecided(
            "database",
            "has Citus, whose policies take no sub-select, so none can record what it would refuse",
            ("plan it without observing",),
            "policy",
        )
        return
    for relation, column in facts.tenant_tables:
        if facts.observing(relation.oid) is not None or facts.own_policy(relation.oid) is not None:
            continue
        if relation.rls or facts.other_policies(relation.oid):
            yield Undecided(
                relation.key,
                "has policies of its own, beside which one that allows everything would open it",
                ("plan it without observing",),
                "policy",
            )
            continue
        table = f"ALTER TABLE {relation.sql}"
        yield _step(
            relation,
            [
                observing_policy(facts, relation, column),
                f"{table} ENABLE ROW LEVEL SECURITY",
                f"{table} FORCE ROW LEVEL SECURITY",
            ],
            "allow everything, and record what the policy would refuse",
        )


def observing_policy(facts: Facts, relation: Relation, column: Column) -> str:
    """A policy that lets everything pass; the sub-select runs at the first foreign row only."""
    mine = f"{identifier(column.name)} = {bound_tenant(facts.tenancy, column.type)}"

    def expression(kind: str) -> str:
        called = f"tenantry.observe({literal(relation.key)}, {literal(kind)}, "
        setting = f"current_setting({literal(facts.tenancy.setting)}, true))"
        return f"coalesce({mine}, false) OR (SELECT {called}{setting})"

    return (
        f"CREATE POLICY {OBSERVE} ON {relation.sql} AS PERMISSIVE FOR ALL TO PUBLIC\n"
        f"    USING ({expression('read')})\n"
        f"    WITH CHECK ({expression('write')})"
    )


def replacement(facts: Facts, relation: Relation, column: Column) -> tuple[str, ...]:
    """The template in the place of every permissive policy: the fix for policies that open a
    table.
    """
    hides = facts.policy_set.hiding(relation.oid)
    gone = [
        p
        for p in facts.catalog.policies.get(relation.oid, ())
        if p.permissive or p == hides or p.name in (GUARD, SUPERSEDED)
    ]
    table = f"ALTER TABLE {relation.sql}"
    return (
        *(_drop(policy.name, relation) for policy in gone),
        policy_sql(relation.schema, relation.name, column.name, facts.tenancy, column.type),
        *(
            ()
            if facts.tenancy.citus
            else [guard_sql(relation.schema, relation.name, column.name, facts.tenancy, Guard.FENCE, column.type)]
        ),
        f"{table} ENABLE ROW LEVEL SECURITY",
        f"{table} FORCE ROW LEVEL SECURITY",
    )


def _doubt(facts: Facts, relation: Relation) -> str | None:
    """Why somebody has to decide about policies of the product's own, although the guard holds them to the tenant:
    they were meant for more than the bound tenant, for another setting, or don't work. None: they are kept.
    """
    hiding = facts.policy_set.hiding(relation.oid)
    if hiding is not None:
        return f"the policy {hiding.name!r} lets no row of the bound tenant through"
    openings = [o for action in ACTIONS for o in facts.policy_set.openings(relation.oid, action)]
    strange = [o for o in openings if o.policy.name not in OURS]
    for found in strange:
        if found.verdict is ExpressionVerdict.FOREIGN:
            foreign = ", ".join(sorted(facts.foreign_settings(found.policy)))
            return f"the policy {found.policy.name!r} reads {foreign}, not ours"
        if found.verdict is ExpressionVerdict.OPEN:
            return f"the policy {found.policy.name!r} lets rows of other tenants through ({found.action})"
    if facts.own_policy(relation.oid) is None and facts.fails_unbound(relation.oid):
        return "its policies fail on an unset or empty setting"
    return None


def _undecided(facts: Facts, relation: Relation, column: Column, doubt: str) -> Undecided:
    kept = [*guarding(facts, relation, column)]
    kept += [] if relation.rls else [f"ALTER TABLE {relation.sql} ENABLE ROW LEVEL SECURITY"]
    kept += [] if relation.forced else [f"ALTER TABLE {relation.sql} FORCE ROW LEVEL SECURITY"]
    broken = facts.policy_set.hiding(relation.oid) is not None or facts.fails_unbound(relation.oid)
    beside = () if broken else (choice("keep it, and hold it to the bound tenant by the guard", kept),)
    return Undecided(
        relation.key,
        doubt,
        (
            *beside,
            choice("put the template in its place", replacement(facts, relation, column)),
            "rewrite it by hand, and plan again",
        ),
        "policy",
    )


def _step(relation: Relation, statements: list[str], why: str | None = None) -> PlanStep:
    why = why or "rows are kept apart by tenant, for the owner too"
    return PlanStep(relation.key, "policy", tuple(statements), why)


def _drop(name: str, relation: Relation) -> str:
    return f"DROP POLICY {identifier(name)} ON {relation.sql}"
