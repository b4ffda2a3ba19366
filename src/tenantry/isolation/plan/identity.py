"""Replica identities that hold the tenant column.

A move publishes a table filtered by tenant; if the filter's column is not in the table's replica
identity, UPDATE and DELETE then fail for every tenant at once. So it is made fit beforehand.
"""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.catalog.tables import Undecided
from tenantry.catalog.values import Column, Relation
from tenantry.isolation.facts import Facts
from tenantry.isolation.plan.columns import nobody_meant
from tenantry.isolation.plan.step import PlanContext, PlanStep
from tenantry.runtime.sqltext import identifier

_INCOMPARABLE = frozenset({"json", "xml", "point", "box", "polygon", "path", "line", "circle"})


def steps(context: PlanContext) -> Iterator[PlanStep | Undecided]:
    """One step for each table that is written to and whose identity does not fit."""
    facts = context.facts
    for relation, column in facts.tenant_tables:
        if not wanted(facts, relation, column):
            continue
        if not context.nulls.isdisjoint({relation.oid, *facts.catalog.ancestors(relation.oid)}):
            continue  # a nullable column can't be part of it; the plan asks about those rows first
        if nobody_meant(facts, relation, column) is not None or not (context.not_null or column.not_null):
            continue  # the same
        yield identity(facts, relation, column)


def wanted(facts: Facts, relation: Relation, column: Column) -> bool:
    """True where a row-filtered publication would refuse UPDATE and DELETE."""
    logged = relation.persistence == "p"
    return facts.leaf(relation) and logged and not facts.identity_fits(relation, column)


def identity(facts: Facts, relation: Relation, column: Column) -> PlanStep | Undecided:
    """The step for one table."""
    index = facts.identity_index(relation, column)
    if index is not None or facts.primary(relation.oid) is not None:
        name = index.name if index is not None else _made(facts, relation)
        using = f"USING INDEX {identifier(name)}"
    elif any(c.type in _INCOMPARABLE for c in facts.catalog.columns.get(relation.oid, ())):
        return Undecided(
            relation.key,
            "has no primary key, and a column without equality: a move could not follow its changes",
            ("add a primary key that holds the tenant column",),
            "key",
        )
    else:
        using = "FULL"
    return PlanStep(
        relation.key,
        "identity",
        (f"ALTER TABLE {relation.sql} REPLICA IDENTITY {using}",),
        "a move can follow its updates and deletes"
        + ("; without a primary key whole rows identify" if using == "FULL" else ""),
    )


def _made(facts: Facts, relation: Relation) -> str:
    return facts.key_name(relation)
