"""Foreign keys between tenant tables compare the tenants too.

PostgreSQL checks foreign keys without row-level security: by a key of one column a row can refer to
another tenant's row, and the answer tells whether that row exists.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tenantry.catalog.tables import Undecided
from tenantry.catalog.values import Constraint, Relation
from tenantry.isolation.facts import Facts
from tenantry.isolation.plan.step import PlanContext, PlanStep, choice
from tenantry.isolation.policy import derived_name
from tenantry.runtime.sqltext import identifier, qualified

_TAIL = re.compile(r"FOREIGN KEY \(.*?\) REFERENCES .*?\(.*?\)(?P<tail>.*)", re.DOTALL)


def steps(context: PlanContext) -> Iterator[PlanStep | Undecided]:
    """With `foreign_keys` the steps; without, the question."""
    facts = context.facts
    made: set[str] = set()
    for relation, _ in facts.tenant_tables:
        for key in facts.crossing(relation.oid):
            found = list(fix(facts, relation, key))
            if context.foreign_keys:
                # Two keys may want the same index on their target.
                yield from (step for step in found if not made.intersection(step.statements))
                made.update(statement for step in found for statement in step.statements)
            else:
                yield _question(facts, relation, key, found)


def fix(facts: Facts, relation: Relation, key: Constraint) -> Iterator[PlanStep]:
    """A key that compares the tenants beside the old one, validated, then the old one dropped."""
    target = facts.catalog.relations[key.target]
    child, parent = facts.tables.tenants[relation.oid], facts.tables.tenants[key.target]
    referring = facts.catalog.names(relation.oid, key.columns)
    referred = facts.catalog.names(key.target, key.target_columns)
    yield from _target(facts, target, (parent.name, *referred))
    name = derived_name(key.name, "tenantry")
    tail = _tail(key, referring)
    # A partitioned table takes a foreign key only with its rows checked at once.
    late = " NOT VALID" if relation.kind == "r" else ""
    table = f"ALTER TABLE {relation.sql}"
    known = next((c for c in facts.catalog.constraints.get(relation.oid, ()) if c.name == name), None)
    if known is None:
        yield PlanStep(
            relation.key,
            "foreign key",
            (
                f"{table} ADD CONSTRAINT {identifier(name)} "
                f"FOREIGN KEY ({_list((child.name, *referring))}) "
                f"REFERENCES {target.sql} ({_list((parent.name, *referred))}){tail}{late}",
            ),
            f"new rows refer to rows of {target.key} of their own tenant only",
        )
    if late and (known is None or not known.validated):
        yield PlanStep(
            relation.key,
            "foreign key",
            (f"{table} VALIDATE CONSTRAINT {identifier(name)}",),
            "and so do the rows that are there",
            patient=True,
        )
    yield PlanStep(
        relation.key,
        "foreign key",
        (f"{table} DROP CONSTRAINT {identifier(key.name)}",),
        f"the key without the tenant has become needless: {key.name}",
    )


def _target(facts: Facts, target: Relation, columns: tuple[str, ...]) -> Iterator[PlanStep]:
    """A unique index on exactly the columns referred to, unless one is there or being made."""
    for index in facts.catalog.indexes.get(target.oid, ()):
        names = facts.catalog.names(target.oid, index.keys)
        whole = index.unique and index.valid and index.immediate and index.predicate is None
        if whole and set(names) == set(columns) and len(names) == len(index.keys):
            return
    wanted = facts.key_wanted(target, facts.tables.tenants[target.oid])
    if wanted is not None and set(wanted) == set(columns):
        return  # the index phase makes it
    name = derived_name(f"{target.name}_{'_'.join(columns)}", "tenantry_key")
    late = "CONCURRENTLY " if target.kind == "r" else ""
    yield PlanStep(
        target.key,
        "index",
        (f"CREATE UNIQUE INDEX {late}{identifier(name)} ON {target.sql} ({_list(columns)})",),
        "what foreign keys that compare the tenants refer to",
        alone=bool(late),
        patient=bool(late),
        sweep=f"DROP INDEX CONCURRENTLY IF EXISTS {qualified(target.schema, name)}" if late else None,
    )


def _tail(key: Constraint, referring: tuple[str, ...]) -> str:
    """The old key's actions; SET NULL and SET DEFAULT must leave the tenant column alone."""
    match = _TAIL.match(key.definition)
    tail = (match["tail"] if match else "").replace(" NOT VALID", "")
    return re.sub(
        r"ON DELETE SET (NULL|DEFAULT)(?: \([^)]*\))?",
        lambda found: f"ON DELETE SET {found[1]} ({_list(referring)})",
        tail,
    )


def _question(facts: Facts, relation: Relation, key: Constraint, found: list[PlanStep]) -> Undecided:
    return Undecided(
        f"{relation.key}.{key.name}",
        f"this foreign key to {facts.catalog.relations[key.target].key} does not compare the tenants",
        (
            choice("plan with foreign keys", (s for step in found for s in step.statements)),
            "accept it: a row may then refer to another tenant's row",
        ),
        "foreign key",
    )


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(identifier(name) for name in names)
