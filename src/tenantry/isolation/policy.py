"""The policy template: what every tenant table looks like, as SQL. Pure, no I/O.

    tenantry_tenant  PERMISSIVE   tenant_id = <the setting, cast, empty read as NULL>   (`equality`)
    tenantry_guard   RESTRICTIVE  (SELECT tenantry.admitted()), and its kin             (`guard`)

On Citus there is the tenant policy alone, and it says both.

`docs/explanation/policy.md` has the measurements.
"""

from __future__ import annotations

import hashlib

from tenantry.catalog.tenancy import Tenancy
from tenantry.isolation.equality import standard
from tenantry.isolation.guard import GUARD, SUPERSEDED, Guard, guard_sql
from tenantry.runtime.sqltext import identifier, literal, qualified

#: Name of the policy that this template makes, on every table.
POLICY = "tenantry_tenant"

_NAME_MAX_BYTES = 63


def derived_name(table: str, suffix: str) -> str:
    """A name for what we add to `table`, at most 63 bytes, distinct for distinct tables."""
    name = f"{table}_{suffix}"
    if len(name.encode()) <= _NAME_MAX_BYTES:
        return name
    digest = hashlib.md5(table.encode(), usedforsecurity=False).hexdigest()[:8]
    room = _NAME_MAX_BYTES - len(suffix) - len(digest) - 2
    return f"{table.encode()[:room].decode(errors='ignore')}_{digest}_{suffix}"


def policy_sql(schema: str, table: str, column: str, tenancy: Tenancy, column_type: str | None = None) -> str:
    """The statement that makes the tenant policy of one table."""
    expression = standard(column, tenancy, column_type)
    return (
        f"CREATE POLICY {POLICY} ON {qualified(schema, table)} AS PERMISSIVE FOR ALL TO PUBLIC\n"
        f"    USING ({expression})\n"
        f"    WITH CHECK ({expression})"
    )


def grant_sql(schema: str, table: str, role: str) -> str:
    """The statement that gives an application role what it needs on a tenant table."""
    target, grantee = qualified(schema, table), identifier(role)
    return f"GRANT SELECT, INSERT, UPDATE, DELETE ON {target} TO {grantee}"


def revoke_sql(schema: str, table: str, role: str) -> str:
    """The statement that takes away what ignores row-level security."""
    target, grantee = qualified(schema, table), identifier(role)
    return f"REVOKE TRUNCATE, REFERENCES, TRIGGER ON {target} FROM {grantee}"


def table_sql(
    schema: str,
    table: str,
    column: str,
    tenancy: Tenancy,
    *,
    role: str | None = None,
    column_type: str | None = None,
) -> list[str]:
    """The statements that bring one table to the standard, in order; harmless when run again.

    For fresh schemas, demos and tests: it takes its locks at once and scans for NULLs. A living
    product uses `plan`, which reads the catalogs and does the same in steps that do not block.

    Args:
        role: the application role that gets the grants, or None.
        column_type: the tenant column's type as `format_type` prints it; None means the id type.
    """
    target, name = qualified(schema, table), identifier(column)
    statements = [
        f"ALTER TABLE {target} ALTER COLUMN {name} SET NOT NULL",
        f"ALTER TABLE {target} ALTER COLUMN {name} SET DEFAULT tenantry.current_tenant()",
        f"ALTER TABLE {target} ENABLE ROW LEVEL SECURITY",
        f"ALTER TABLE {target} FORCE ROW LEVEL SECURITY",
        *(f"DROP POLICY IF EXISTS {policy} ON {target}" for policy in (POLICY, GUARD, SUPERSEDED)),
        policy_sql(schema, table, column, tenancy, column_type),
        *(() if tenancy.citus else (guard_sql(schema, table, column, tenancy, Guard.FENCE, column_type),)),
        _index_unless_served(schema, table, column),
    ]
    if role is not None:
        grantee = identifier(role)
        statements += [
            f"GRANT USAGE ON SCHEMA {identifier(schema)} TO {grantee}",
            grant_sql(schema, table, role),
            revoke_sql(schema, table, role),
            _grant_owned_sequences(schema, table, role),
        ]
    return statements


def _index_unless_served(schema: str, table: str, column: str) -> str:
    target = literal(qualified(schema, table))
    create = literal(
        f"CREATE INDEX {identifier(derived_name(table, 'tenantry_idx'))} "
        f"ON {qualified(schema, table)} ({identifier(column)})"
    )
    return (
        "DO $do$ BEGIN\n"
        "    IF NOT EXISTS (\n"
        "        SELECT FROM pg_index AS i JOIN pg_attribute AS a\n"
        "            ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]\n"
        f"        WHERE i.indrelid = {target}::regclass AND a.attname = {literal(column)}\n"
        "            AND i.indisvalid AND i.indpred IS NULL\n"
        f"    ) THEN EXECUTE {create}; END IF;\n"
        "END $do$"
    )


def _grant_owned_sequences(schema: str, table: str, role: str) -> str:
    target = literal(qualified(schema, table))
    return "\n".join(
        (
            "DO $do$ DECLARE owned regclass; BEGIN",
            "    FOR owned IN",
            "        SELECT d.objid::regclass",
            "        FROM pg_depend AS d JOIN pg_class AS c ON c.oid = d.objid",
            f"        WHERE d.refobjid = {target}::regclass AND c.relkind = 'S'",
            "            AND d.deptype IN ('a', 'i')",
            "    LOOP",
            f"        EXECUTE format('GRANT USAGE ON SEQUENCE %s TO %I', owned, {literal(role)});",
            "    END LOOP;",
            "END $do$",
        )
    )
