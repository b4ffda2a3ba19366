"""What the application role needs on tenant tables, and nothing that ignores row-level security."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.catalog.tables import Undecided
from tenantry.catalog.values import PUBLIC, Relation
from tenantry.isolation.facts import Facts
from tenantry.isolation.plan.step import PlanContext, PlanStep
from tenantry.isolation.policy import grant_sql
from tenantry.runtime.sqltext import identifier, literal

#: Privileges that row-level security does not hold; TRIGGER runs code of the grantee as other
#: users.
UNHELD = ("TRUNCATE", "REFERENCES", "TRIGGER")


def steps(context: PlanContext) -> Iterator[PlanStep | Undecided]:
    """Grants for the role, and the revokes."""
    facts = context.facts
    if facts.role is not None:
        yield from _schemas(facts, facts.role)
    yield from strangers(facts)
    for relation, _ in facts.tenant_tables:
        statements = list(revokes(facts, relation))
        if facts.role is not None:
            statements = [*_grants(facts, relation, facts.role), *statements]
        if statements:
            yield PlanStep(
                relation.key,
                "grant",
                tuple(statements),
                "the application role reads and writes rows, and does nothing that ignores policies",
            )


def strangers(facts: Facts) -> Iterator[Undecided]:
    """Roles that will be held by the policies and may not call what the policies call.

    To them a tenant table would not be empty: it would be an error. Owners are among them once the table is
    forced.
    """
    wanted = "admitted_tenant" if facts.tenancy.hardened else "admitted"
    called = [f for f in facts.catalog.functions.values() if (f.schema, f.name) == ("tenantry", wanted)]
    schema = facts.catalog.schemas.get("tenantry")
    if not called or schema is None:
        return
    held: set[str] = set() if facts.role is None else {facts.role}
    for relation, _ in facts.tenant_tables:
        held.update(facts.catalog.privileges.get(("relation", relation.oid), {}))
    for role in sorted(held - {PUBLIC}):
        ready = "USAGE" in facts.catalog.allowed(role, "schema", schema) and all(
            "EXECUTE" in facts.catalog.allowed(role, "function", f.oid) for f in called
        )
        if not ready and not facts.bypasses(role):
            yield Undecided(
                role,
                "works with tenant tables and may not call what their policies call: it will get errors",
                (
                    f"let it bind tenants: SELECT tenantry.grant_application({literal(role)})",
                    f"let it bypass the policies: ALTER ROLE {identifier(role)} BYPASSRLS",
                    f"take the tables from it: DROP OWNED BY {identifier(role)}, or REVOKE",
                ),
                "role",
            )


def revokes(facts: Facts, relation: Relation) -> Iterator[str]:
    """Take what ignores row-level security from the role, and from whatever gives it to the role."""
    held = facts.catalog.privileges.get(("relation", relation.oid), {})
    who = {PUBLIC} if facts.role is None else {PUBLIC, *facts.catalog.acts_as(facts.role)}
    for grantee in sorted(who.intersection(held)):
        known = facts.catalog.roles.get(grantee)
        what = [privilege for privilege in UNHELD if privilege in held[grantee]]
        if what and not (known is not None and known.superuser):
            name = "PUBLIC" if grantee == PUBLIC else identifier(grantee)
            yield f"REVOKE {', '.join(what)} ON {relation.sql} FROM {name}"


def _schemas(facts: Facts, role: str) -> Iterator[PlanStep]:
    for schema in sorted({relation.schema for relation, _ in facts.tenant_tables}):
        oid = facts.catalog.schemas.get(schema)
        if oid is not None and "USAGE" not in facts.catalog.allowed(role, "schema", oid):
            yield PlanStep(
                schema,
                "grant",
                (f"GRANT USAGE ON SCHEMA {identifier(schema)} TO {identifier(role)}",),
                "the application role may name what is in it",
            )


def _grants(facts: Facts, relation: Relation, role: str) -> Iterator[str]:
    """A role that has some privileges keeps exactly those: somebody chose them."""
    if relation.parents:
        return  # reached through its parent
    allowed = facts.catalog.allowed(role, "relation", relation.oid)
    if allowed.isdisjoint({"SELECT", "INSERT", "UPDATE", "DELETE"}):
        yield grant_sql(relation.schema, relation.name, role)
        allowed = frozenset({"INSERT"})
    drawn = any("nextval(" in (column.default or "") for column in facts.catalog.columns[relation.oid])
    if "INSERT" in allowed and drawn:
        for sequence in facts.catalog.relations.values():
            if sequence.owned_by == relation.oid and facts.catalog.allowed(
                role, "relation", sequence.oid
            ).isdisjoint({"USAGE", "UPDATE"}):
                yield f"GRANT USAGE ON SEQUENCE {sequence.sql} TO {identifier(role)}"
