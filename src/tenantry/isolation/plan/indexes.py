"""Tenant-leading indexes, made CONCURRENTLY, and only where none serves.

Where the primary key lacks the tenant column the index is unique over (tenant, primary key): it can
then also be the replica identity, and the target of foreign keys that compare the tenants.
"""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.catalog.tables import Undecided
from tenantry.catalog.values import Column, Index, Relation
from tenantry.isolation.facts import Facts
from tenantry.isolation.plan.step import PlanContext, PlanStep
from tenantry.runtime.sqltext import identifier, qualified


def steps(context: PlanContext) -> Iterator[PlanStep | Undecided]:
    """The index steps of every table; a partition follows its partitioned parent."""
    facts = context.facts
    done: set[int] = set()
    for relation, column in facts.tenant_tables:
        if relation.kind == "p" and not relation.partition and not _tree_served(facts, relation):
            yield from _tree(facts, relation, facts.key_wanted(relation, column), done)
    for relation, column in facts.tenant_tables:
        if facts.leaf(relation) and relation.oid not in done:
            yield from _single(facts, relation, column)


def _single(facts: Facts, relation: Relation, column: Column) -> Iterator[PlanStep]:
    unique = facts.key_wanted(relation, column)
    if unique is None and facts.has_index(relation.oid, column):
        return
    yield from _concurrently(facts, relation, unique or (column.name,), unique is not None)


def _concurrently(facts: Facts, relation: Relation, columns: tuple[str, ...], unique: bool) -> Iterator[PlanStep]:
    name = facts.key_name(relation) if unique else facts.index_name(relation)
    leftover = _existing(facts, relation, name)
    drop = f"DROP INDEX CONCURRENTLY IF EXISTS {qualified(relation.schema, name)}"
    if leftover is not None and leftover.valid:
        return
    kind = "UNIQUE INDEX" if unique else "INDEX"
    keys = ", ".join(identifier(column) for column in columns)
    create = f"CREATE {kind} CONCURRENTLY {identifier(name)} ON {relation.sql} ({keys})"
    yield PlanStep(
        relation.key,
        "index",
        (drop, create) if leftover is not None else (create,),
        "an index led by the tenant column, for the policy" + (" and as replica identity" if unique else ""),
        alone=True,
        patient=True,
        sweep=drop,
    )


def _existing(facts: Facts, relation: Relation, name: str) -> Index | None:
    return next((i for i in facts.catalog.indexes.get(relation.oid, ()) if i.name == name), None)


def _tree_served(facts: Facts, relation: Relation) -> bool:
    column = facts.tables.tenants[relation.oid]
    return facts.has_index(relation.oid, column) and facts.key_wanted(relation, column) is None


def _tree(facts: Facts, relation: Relation, unique: tuple[str, ...] | None, done: set[int]) -> Iterator[PlanStep]:
    """An index on a partitioned table: on the parent alone, on each partition, then attached."""
    column = facts.tables.tenants[relation.oid]
    columns = unique or (column.name,)
    name = facts.key_name(relation) if unique else facts.index_name(relation)
    existing = _existing(facts, relation, name)
    if existing is None:
        keys = ", ".join(identifier(column) for column in columns)
        kind = "UNIQUE INDEX" if unique else "INDEX"
        yield PlanStep(
            relation.key,
            "index",
            (f"CREATE {kind} {identifier(name)} ON ONLY {relation.sql} ({keys})",),
            "an index for the partitions' to be attached to",
        )
    for oid in facts.catalog.children.get(relation.oid, ()):
        child = facts.catalog.relations[oid]
        if oid not in facts.tables.tenants or not child.partition:
            continue
        if child.kind == "p":
            yield from _tree(facts, child, unique, done)
        else:
            yield from _concurrently(facts, child, columns, unique is not None)
            if unique or facts.key_wanted(child, facts.tables.tenants[oid]) is None:
                done.add(oid)
        child_name = facts.key_name(child) if unique else facts.index_name(child)
        attached = _existing(facts, child, child_name)
        if attached is None or attached.parent is None:
            yield PlanStep(
                child.key,
                "index",
                (
                    f"ALTER INDEX {qualified(relation.schema, name)} "
                    f"ATTACH PARTITION {qualified(child.schema, child_name)}",
                ),
                f"attach the partition's index to that of {relation.key}",
            )
