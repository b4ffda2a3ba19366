"""RLS on, forced, and one policy: the step that closes a table, in one transaction."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.catalog.tables import Undecided
from tenantry.catalog.values import Column, Policy, Relation
from tenantry.isolation.facts import OBSERVE, Facts
from tenantry.isolation.plan.step import PlanContext, PlanStep, choice
from tenantry.isolation.policy import POLICY, bound_tenant, companion_sql, policy_sql
from tenantry.isolation.policy_set import ACTIONS
from tenantry.isolation.policy_verdict import ExpressionVerdict
from tenantry.runtime.sqltext import identifier, literal


def steps(context: PlanContext) -> Iterator[PlanStep | Undecided]:
    """Close every tenant table whose own policies do not close it already."""
    for relation, column in context.facts.tenant_tables:
        found = policy(context.facts, relation, column)
        if found is not None:
            yield found


def policy(facts: Facts, relation: Relation, column: Column) -> PlanStep | Undecided | None:
    """What is to be done about one table's policies, or None."""
    own, observing = facts.own_policy(relation.oid), facts.observing(relation.oid)
    others = facts.other_policies(relation.oid)
    table = f"ALTER TABLE {relation.sql}"
    switches = [] if relation.rls else [f"{table} ENABLE ROW LEVEL SECURITY"]
    switches += [] if relation.forced else [f"{table} FORCE ROW LEVEL SECURITY"]
    dropped = [] if observing is None else [_drop(OBSERVE, relation)]
    if any(other.permissive for other in others):
        doubt = _doubt(facts, relation, others)
        if doubt is not None:
            return _undecided(facts, relation, column, doubt)
        if own is None:  # they do the template's work, so theirs is kept
            return _step(relation, [*switches, *dropped]) if switches or dropped else None
    drifted = own is not None and facts.drifted(own, column)
    statements = [*dropped]
    if own is None or drifted:
        statements += [_drop(POLICY, relation)] if drifted else []
        statements += [policy_sql(relation.schema, relation.name, column.name, facts.tenancy, column.type)]
    statements += switches
    return _step(relation, statements) if statements else None


def observe(context: PlanContext) -> Iterator[PlanStep | Undecided]:
    """Let every table record what would be refused; tables that refuse already are left alone."""
    facts = context.facts
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
    gone = [p for p in facts.catalog.policies.get(relation.oid, ()) if p.permissive or p == hides]
    table = f"ALTER TABLE {relation.sql}"
    return (
        *(_drop(policy.name, relation) for policy in gone),
        policy_sql(relation.schema, relation.name, column.name, facts.tenancy, column.type),
        f"{table} ENABLE ROW LEVEL SECURITY",
        f"{table} FORCE ROW LEVEL SECURITY",
    )


def _doubt(facts: Facts, relation: Relation, others: tuple[Policy, ...]) -> str | None:
    hiding = facts.policy_set.hiding(relation.oid)
    if hiding is not None:
        return f"the policy {hiding.name!r} lets no row of the bound tenant through"
    openings = [o for action in ACTIONS for o in facts.policy_set.openings(relation.oid, action)]
    strange = [o for o in openings if o.policy.name not in (POLICY, OBSERVE)]
    if strange and strange[0].verdict is ExpressionVerdict.UNPROVEN:
        return f"the policy {strange[0].policy.name!r} is not proven to keep to the bound tenant"
    if strange and strange[0].verdict is ExpressionVerdict.FOREIGN:
        foreign = ", ".join(sorted(facts.foreign_settings(strange[0].policy)))
        return f"the policy {strange[0].policy.name!r} reads {foreign}, not ours"
    if strange:
        return f"the policy {strange[0].policy.name!r} lets rows of other tenants through ({strange[0].action})"
    if facts.own_policy(relation.oid) is None and not facts.isolates(relation.oid):
        return "its policies fail on an unset or empty setting"
    return None


def _undecided(facts: Facts, relation: Relation, column: Column, doubt: str) -> Undecided:
    kept = [companion_sql(relation.schema, relation.name, column.name, facts.tenancy, column.type)]
    kept += [] if relation.rls else [f"ALTER TABLE {relation.sql} ENABLE ROW LEVEL SECURITY"]
    kept += [] if relation.forced else [f"ALTER TABLE {relation.sql} FORCE ROW LEVEL SECURITY"]
    hidden = facts.policy_set.hiding(relation.oid) is not None
    beside = () if hidden else (choice("keep it, and hold it to the bound tenant by another policy", kept),)
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
