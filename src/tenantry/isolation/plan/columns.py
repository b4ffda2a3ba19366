"""The tenant column: NOT NULL without a blocking scan, and filled by default with the bound tenant."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.catalog.tables import Undecided
from tenantry.catalog.values import Column, Relation
from tenantry.isolation.facts import Facts
from tenantry.isolation.plan.step import Context, Step
from tenantry.isolation.policy import derived_name
from tenantry.runtime.sqltext import identifier


def steps(context: Context) -> Iterator[Step | Undecided]:
    """NOT NULL and DEFAULT where they are missing."""
    facts = context.facts
    for relation, column in facts.tenant_tables:
        if not column.not_null and not _covered(facts, relation):
            if context.nulls.isdisjoint(_family(facts, relation)):
                yield from not_null(facts, relation, column)
            else:
                yield _with_nulls(relation, column)
        if lacks_default(facts, relation, column):
            yield Step(
                relation.key,
                "default",
                (
                    f"ALTER TABLE ONLY {relation.sql} ALTER COLUMN {identifier(column.name)} "
                    "SET DEFAULT tenantry.current_tenant()",
                ),
                "an INSERT that does not name the tenant writes for the bound one",
            )


def not_null(facts: Facts, relation: Relation, column: Column) -> Iterator[Step]:
    """A check that is not validated blocks nobody; validating it does not either; then it proves
    the rest.
    """
    name = derived_name(relation.name, "tenantry_not_null")
    constraints = facts.catalog.constraints.get(relation.oid, ())
    known = next((c for c in constraints if c.name == name), None)
    table, check = f"ALTER TABLE {relation.sql}", identifier(name)
    if known is None:
        add = f"{table} ADD CONSTRAINT {check} CHECK ({identifier(column.name)} IS NOT NULL)"
        yield Step(
            relation.key,
            "not null",
            (f"{add} NOT VALID",),
            "from now on every row has a tenant",
        )
    if known is None or not known.validated:
        yield Step(
            relation.key,
            "not null",
            (f"{table} VALIDATE CONSTRAINT {check}",),
            "every row that is there has a tenant",
            patient=True,
        )
    yield Step(
        relation.key,
        "not null",
        (
            f"{table} ALTER COLUMN {identifier(column.name)} SET NOT NULL",
            f"{table} DROP CONSTRAINT {check}",
        ),
        "the tenant column is NOT NULL (no scan: the check proves it)",
    )


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


def _with_nulls(relation: Relation, column: Column) -> Undecided:
    name = identifier(column.name)
    orphans = f"{relation.sql} … WHERE {name} IS NULL"
    return Undecided(
        relation.key,
        f"has rows without a tenant ({name} IS NULL), which no tenant will see",
        (
            f"give them a tenant: UPDATE {orphans}",
            "move them to a table of their own, listed under `tables:` as reference",
            f"delete those rows of {relation.sql}",
        ),
        "nulls",
    )
