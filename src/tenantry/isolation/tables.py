"""Which tables hold tenants' rows, and by which column. Pure.

A table that can't be placed is listed with the choices, never guessed at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tenantry.isolation.catalog import Catalog, Column, Relation
from tenantry.isolation.policy import IGNORE, REFERENCE, Tenancy, compared_in


class Undecided(NamedTuple):
    """Something that the catalogs don't answer, with what can be done about it."""

    object: str
    """`schema.name` of the table, or the key of whatever it is about."""
    problem: str
    choices: tuple[str, ...]
    topic: str = "table"
    """table, column, nulls, key, foreign key, unique, view, policy, schema: what kind of question.
    """


@dataclass(frozen=True)
class Survey:
    """Every table of the product, placed."""

    tenants: Mapping[int, Column]
    """Tenant tables by oid, with their tenant column."""
    reference: frozenset[int]
    ignored: frozenset[int]
    undecided: tuple[Undecided, ...]

    def placed(self, oid: int) -> bool:
        """True for a table that needs no decision."""
        return oid in self.tenants or oid in self.reference or oid in self.ignored


def spelling(name: str) -> str:
    """What different spellings of one column name have in common: tenant_id, tenantId, "TenantID"."""
    return name.replace("_", "").replace("-", "").replace(" ", "").lower()


def survey(catalog: Catalog, tenancy: Tenancy) -> Survey:
    """Place every table by override, by column, or among the undecided."""
    tenants: dict[int, Column] = {}
    reference: set[int] = set()
    ignored: set[int] = set()
    without: list[Relation] = []
    undecided: list[Undecided] = []
    for relation in catalog.relations.values():
        if relation.kind not in ("r", "p", "f"):
            continue
        override = _override(catalog, tenancy, relation)
        if override == IGNORE:
            ignored.add(relation.oid)
        elif override == REFERENCE:
            reference.add(relation.oid)
        else:
            found = _columns(catalog, tenancy, relation, override)
            problem = _problem(relation, found, override, tenancy)
            if problem is not None:
                undecided.append(problem)
            elif found:
                tenants[relation.oid] = found[0]
            else:
                without.append(relation)
    undecided.extend(_without(catalog, tenants, relation) for relation in without)
    undecided.extend(_unmatched(catalog, tenancy))
    return Survey(tenants, frozenset(reference), frozenset(ignored), tuple(undecided))


def _override(catalog: Catalog, tenancy: Tenancy, relation: Relation) -> str | None:
    for oid in (relation.oid, *catalog.ancestors(relation.oid)):
        if (found := tenancy.tables.get(catalog.relations[oid].key)) is not None:
            return found
    return None


def _columns(catalog: Catalog, tenancy: Tenancy, relation: Relation, override: str | None) -> tuple[Column, ...]:
    wanted = override or tenancy.column
    exact = catalog.column(relation.oid, wanted)
    if exact is not None:
        return (exact,)
    if override is not None:
        return ()
    return tuple(
        column for column in catalog.columns.get(relation.oid, ()) if spelling(column.name) == spelling(wanted)
    )


def _problem(
    relation: Relation, found: tuple[Column, ...], override: str | None, tenancy: Tenancy
) -> Undecided | None:
    if override is not None and not found:
        return Undecided(
            relation.key,
            f"the override names the column {override!r}, which the table does not have",
            ("correct the override",),
        )
    if len(found) > 1:
        names = " and ".join(repr(column.name) for column in found)
        return Undecided(
            relation.key,
            f"{names} could both be the tenant column",
            tuple(f"tables: {{{relation.key}: {column.name}}}" for column in found),
            "column",
        )
    if not found:
        return None
    column = found[0]
    if relation.kind == "f":
        return Undecided(
            relation.key,
            "a foreign table takes no policies",
            (
                "revoke it from the application role and read it through the operator's scope",
                _as(relation, IGNORE),
            ),
        )
    if compared_in(column.type, tenancy.id_type) is None or not column.deterministic:
        return Undecided(
            relation.key,
            f"the tenant column {column.name!r} is {column.type}"
            + ("" if column.deterministic else " under a nondeterministic collation")
            + f", which can't be compared safely with ids of type {tenancy.id_type.value}",
            (f"change the column to {tenancy.id_type.value}", _as(relation, IGNORE)),
            "column",
        )
    return None


def _as(relation: Relation, choice: str) -> str:
    return f"tables: {{{relation.key}: {choice}}}"


def _without(catalog: Catalog, tenants: Mapping[int, Column], relation: Relation) -> Undecided:
    registry = _registry_column(catalog, tenants, relation)
    if registry is not None:
        return Undecided(
            relation.key,
            "looks like the list of tenants itself (tenant columns refer to it)",
            (
                f"{_as(relation, registry)}: each tenant sees its own row",
                f"{_as(relation, REFERENCE)}: every tenant sees all of it",
                _as(relation, IGNORE),
            ),
        )
    through = [
        constraint
        for constraint in catalog.constraints.get(relation.oid, ())
        if constraint.kind == "f" and constraint.target in tenants
    ]
    if through:
        parent = catalog.relations[through[0].target]
        return Undecided(
            relation.key,
            f"belongs to a tenant only through its foreign key {through[0].name} to {parent.key}",
            (
                f"add the tenant column and fill it from {parent.key}",
                f"{_as(relation, REFERENCE)}: every tenant sees all of it",
                f"{_as(relation, IGNORE)}: it stays as it is, with whatever policy it has",
            ),
        )
    return Undecided(
        relation.key,
        "has no tenant column",
        (
            "add the tenant column",
            f"{_as(relation, REFERENCE)}: every tenant sees all of it",
            _as(relation, IGNORE),
        ),
    )


def _registry_column(catalog: Catalog, tenants: Mapping[int, Column], relation: Relation) -> str | None:
    for oid, column in tenants.items():
        for constraint in catalog.constraints.get(oid, ()):
            if (
                constraint.kind == "f"
                and constraint.target == relation.oid
                and constraint.columns == (column.number,)
            ):
                return catalog.names(relation.oid, constraint.target_columns)[0]
    return None


def _unmatched(catalog: Catalog, tenancy: Tenancy) -> list[Undecided]:
    return [
        Undecided(key, "the override names a table that is not there", ("remove the override",))
        for key in tenancy.tables
        if key not in catalog.by_key
    ]
