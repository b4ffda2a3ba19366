"""The tenant column: NOT NULL without a blocking scan, and filled by default with the bound tenant."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tenantry.catalog.tables import Undecided
from tenantry.catalog.values import Column, Relation
from tenantry.isolation.facts import Facts
from tenantry.isolation.plan.step import PlanContext, PlanStep, choice
from tenantry.isolation.policy import derived_name
from tenantry.runtime.sqltext import identifier


def steps(context: PlanContext) -> Iterator[PlanStep | Undecided]:
    """NOT NULL and DEFAULT where they are missing."""
    facts = context.facts
    for relation, column in facts.tenant_tables:
        if not column.not_null and not _covered(facts, relation):
            meant = nobody_meant(facts, relation, column)
            if not context.nulls.isdisjoint(_family(facts, relation)):
                yield _with_nulls(relation, column)
            elif meant is not None:
                yield _meant_nullable(facts, relation, column, f"takes rows without a tenant, and {meant}")
            elif not context.not_null:
                problem = f"takes rows without a tenant ({identifier(column.name)} may be NULL); none is there"
                yield _meant_nullable(facts, relation, column, problem)
            else:
                yield from not_null(facts, relation, column)
        if lacks_default(facts, relation, column) and facts.distribution(relation.oid) != column.name:
            yield PlanStep(
                relation.key,
                "default",
                (
                    f"ALTER TABLE ONLY {relation.sql} ALTER COLUMN {identifier(column.name)} "
                    "SET DEFAULT tenantry.current_tenant()",
                ),
                "an INSERT that does not name the tenant writes for the bound one",
            )


def not_null(facts: Facts, relation: Relation, column: Column) -> Iterator[PlanStep]:
    """A check that is not validated blocks nobody; validating it does not either; then it proves
    the rest.
    """
    name = derived_name(relation.name, "tenantry_not_null")
    constraints = facts.catalog.constraints.get(relation.oid, ())
    known = next((c for c in constraints if c.name == name), None)
    table, check = f"ALTER TABLE {relation.sql}", identifier(name)
    if known is None:
        add = f"{table} ADD CONSTRAINT {check} CHECK ({identifier(column.name)} IS NOT NULL)"
        yield PlanStep(
            relation.key,
            "not null",
            (f"{add} NOT VALID",),
            "from now on every row has a tenant",
        )
    if known is None or not known.validated:
        yield PlanStep(
            relation.key,
            "not null",
            (f"{table} VALIDATE CONSTRAINT {check}",),
            "every row that is there has a tenant",
            patient=True,
        )
    yield PlanStep(
        relation.key,
        "not null",
        (
            f"{table} ALTER COLUMN {identifier(column.name)} SET NOT NULL",
            f"{table} DROP CONSTRAINT {check}",
        ),
        "the tenant column is NOT NULL (no scan: the check proves it)",
    )


def nobody_meant(facts: Facts, relation: Relation, column: Column) -> str | None:
    """What says that rows of nobody are meant, where no such row is there yet; None where nothing does."""
    if column.not_null:
        return None
    null = re.compile(rf'(?<![\w"])"?{re.escape(column.name.replace(chr(34), chr(34) * 2))}"? IS NULL')
    for policy in facts.other_policies(relation.oid):
        if any(text is not None and null.search(text) for text in (policy.using, policy.check)):
            return f"the policy {policy.name!r} asks for rows without a tenant"
    for index in facts.catalog.indexes.get(relation.oid, ()):
        if index.predicate is not None and null.search(index.predicate):
            return f"the index {index.name!r} is for rows without a tenant"
    for constraint in facts.catalog.constraints.get(relation.oid, ()):
        if constraint.kind == "c" and null.search(constraint.definition):
            return f"the constraint {constraint.name!r} speaks of rows without a tenant"
        empties = "ON DELETE SET NULL" in constraint.definition
        if constraint.kind == "f" and empties and column.number in constraint.columns:
            return f"the foreign key {constraint.name!r} takes the tenant from rows"
    return None


def lacks_default(facts: Facts, relation: Relation, column: Column) -> bool:
    """True where a default is wanted: not for generated columns, nor where the column is the whole
    key.
    """
    primary = facts.primary(relation.oid)
    whole_key = primary is not None and primary.keys == (column.number,)
    return column.default is None and not (column.generated or column.identity or whole_key)


def _covered(facts: Facts, relation: Relation) -> bool:
    """True when an ancestor's step reaches this table too."""
    tenants = facts.tables.tenants
    return any(oid in tenants and not tenants[oid].not_null for oid in facts.catalog.ancestors(relation.oid))


def _family(facts: Facts, relation: Relation) -> set[int]:
    found, todo = {relation.oid}, [relation.oid]
    while todo:
        for child in facts.catalog.children.get(todo.pop(), ()):
            found.add(child)
            todo.append(child)
    return found


def _meant_nullable(facts: Facts, relation: Relation, column: Column, problem: str) -> Undecided:
    statements = (text for step in not_null(facts, relation, column) for text in step.statements)
    return Undecided(
        relation.key,
        problem,
        (
            choice("every row has a tenant", statements),
            "keep it: such rows are nobody's; every tenant may read them where a policy says so, no move has them",
        ),
        "nulls",
    )


def _with_nulls(relation: Relation, column: Column) -> Undecided:
    name = identifier(column.name)
    orphans = f"FROM {relation.sql} WHERE {name} IS NULL"
    lists, delete = f"SELECT * {orphans}", f"DELETE {orphans}"
    return Undecided(
        relation.key,
        f"has rows without a tenant, which no tenant will see; this lists them: {lists}",
        (
            f"give them a tenant: UPDATE {relation.sql} SET {name} = … WHERE {name} IS NULL",  # noqa: S608  the same
            "move them to a table of their own, listed under `tables:` as reference",
            choice("delete them", [delete]),
        ),
        "nulls",
    )
