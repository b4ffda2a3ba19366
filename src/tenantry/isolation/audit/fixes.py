"""Fixes that need more than a step of the plan."""

from __future__ import annotations

from collections.abc import Iterable

from tenantry.catalog.values import Column, Constraint, Index, Relation
from tenantry.ids import IdType
from tenantry.isolation.audit.finding import Subject, grantees
from tenantry.isolation.policy import derived_name, table_sql
from tenantry.runtime.sqltext import identifier, literal, qualified


def tenant_index(relation: Relation, column: Column, holding: Iterable[Index] = ()) -> tuple[str, ...]:
    """A plain index led by the tenant; an invalid one of the same name is dropped first."""
    name = derived_name(relation.name, "tenantry_idx")
    drop = f"DROP INDEX CONCURRENTLY {qualified(relation.schema, name)}"
    return (
        *((drop,) if any(index.name == name for index in holding) else ()),
        f"CREATE INDEX CONCURRENTLY {identifier(name)} ON {relation.sql} ({identifier(column.name)})",
    )


def through_parent(subject: Subject, relation: Relation) -> tuple[str, ...]:
    """The tenant column for a table that belongs to a tenant through a foreign key; then plan
    again.
    """
    for key in sorted(_owning(subject, relation), key=lambda key: not mandatory(subject, key)):
        parent_column = subject.tables.tenants[key.target]
        parent = subject.catalog.relations[key.target]
        name = identifier(subject.tenancy.column)
        pairs = zip(
            subject.catalog.names(relation.oid, key.columns),
            subject.catalog.names(parent.oid, key.target_columns),
            strict=True,
        )
        joined = " AND ".join(f"c.{identifier(a)} = p.{identifier(b)}" for a, b in pairs)
        fill = (
            f"UPDATE {relation.sql} AS c SET {name} = p.{identifier(parent_column.name)} "  # noqa: S608  every part is quoted
            f"FROM {parent.sql} AS p WHERE {joined}"
        )
        not_null, *others = table_sql(
            relation.schema,
            relation.name,
            subject.tenancy.column,
            subject.tenancy,
            role=subject.role,
            column_type=parent_column.type,
        )
        return (
            f"ALTER TABLE {relation.sql} ADD COLUMN {name} {parent_column.type}",
            fill,
            *((not_null,) if mandatory(subject, key) else ()),
            *others,
        )
    return ()


def left_without(subject: Subject, relation: Relation) -> str:
    """Which rows `through_parent` leaves without a tenant; empty for none."""
    keys = _owning(subject, relation)
    if not keys or any(mandatory(subject, key) for key in keys):
        return ""
    names = subject.catalog.names(relation.oid, keys[0].columns)
    return f"rows without {' or '.join(map(identifier, names))} are left without a tenant, for you to place"


def mandatory(subject: Subject, key: Constraint) -> bool:
    """True for a foreign key that every row has."""
    columns = {column.number: column for column in subject.catalog.columns.get(key.relation, ())}
    return key.validated and all(columns[number].not_null for number in key.columns)


def _owning(subject: Subject, relation: Relation) -> list[Constraint]:
    """The foreign keys through which a table belongs to a tenant."""
    keys = subject.catalog.constraints.get(relation.oid, ())
    return [key for key in keys if key.kind == "f" and key.target in subject.tables.tenants]


def retyped(subject: Subject, relation: Relation) -> tuple[str, ...]:
    """The tenant column in the type of the ids, where it is one column of another type."""
    wanted = subject.tenancy.id_type.value
    override = subject.tenancy.tables.get(relation.key, subject.tenancy.column)
    column = subject.catalog.column(relation.oid, override)
    if column is None:
        return ()
    name = identifier(column.name)
    value = f"btrim({name}::text)" if column.type.startswith("character(") else f"{name}::text"
    using = value if subject.tenancy.id_type is IdType.TEXT else f"{value}::{wanted}"
    collation = ' COLLATE "default"' if not column.deterministic else ""
    return (f"ALTER TABLE {relation.sql} ALTER COLUMN {name} TYPE {wanted}{collation} USING {using}",)


def unique_per_tenant(subject: Subject, relation: Relation, column: Column, index: Index) -> tuple[str, ...]:
    """The same key within each tenant; empty where it holds an expression or is referred to."""
    names = subject.catalog.names(relation.oid, index.keys)
    referred = any(
        key.kind == "f" and key.target == relation.oid and set(key.target_columns) <= set(index.keys)
        for keys in subject.catalog.constraints.values()
        for key in keys
    )
    if len(names) != len(index.keys) or referred or relation.kind == "p":
        return ()
    made = derived_name(index.name, "tenant")
    columns = ", ".join(identifier(name) for name in (column.name, *names))
    where = "" if index.predicate is None else f" WHERE {index.predicate}"
    create = f"CREATE UNIQUE INDEX CONCURRENTLY {identifier(made)} ON {relation.sql} ({columns}){where}"
    table = f"ALTER TABLE {relation.sql}"
    if index.constraint is None:
        drop = f"DROP INDEX CONCURRENTLY {qualified(relation.schema, index.name)}"
        return (create, drop)
    drop = f"{table} DROP CONSTRAINT {identifier(index.constraint)}"
    if not index.primary:
        return (create, drop, f"{table} ADD UNIQUE USING INDEX {identifier(made)}")
    return (create, f"{drop}, ADD PRIMARY KEY USING INDEX {identifier(made)}")


def taken(subject: Subject, who: frozenset[str]) -> tuple[str, ...]:
    """Take the large objects from these roles, those that they own too."""
    owners = ", ".join(literal(name) for name in sorted(who - {"public"}))
    to, named = literal(f" OWNER TO {identifier(subject.catalog.user)}"), literal(f" FROM {grantees(who)}")
    change = f"EXECUTE 'ALTER LARGE OBJECT ' || object.oid || {to}; "
    moved = f"IF object.owner IN ({owners}) THEN {change}END IF; " if owners else ""
    return (
        "DO $do$ DECLARE object record; BEGIN FOR object IN "  # noqa: S608  every name in it is quoted
        "SELECT oid, pg_get_userbyid(lomowner)::text AS owner FROM pg_largeobject_metadata LOOP "
        f"{moved}EXECUTE 'REVOKE ALL ON LARGE OBJECT ' || object.oid || {named}; "
        "END LOOP; END $do$",
    )
