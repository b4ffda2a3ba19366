"""A row's tenant compared with the bound one, as SQL: what the tenant policy says. Pure, no I/O.

    tenant_id = nullif(current_setting('app.current_tenant', true), '')::uuid

The equality is bare: it stands in no sub-select, so that the planner reads the tenant's own statistics and the
tenant-leading index.

On Citus the tenant policy stands alone, because no guard can stand beside it: Citus takes no sub-select in the
policy of a table that it distributes, and makes a restrictive policy permissive on the shards, where it lets in
what it was to keep out (13.2.1: its deparser leaves the word away). So the policy holds the guard's half too, as
the mark that a bind leaves in its transaction, by SET LOCAL, which Citus carries to its workers:

    … AND nullif(current_setting('tenantry.bound', true), '') = current_setting('app.current_tenant', true)
"""

from __future__ import annotations

from typing import Final

from tenantry.catalog.tenancy import Tenancy, compared_in
from tenantry.errors import ConfigError
from tenantry.runtime.sqltext import identifier, literal

#: The setting in which a bind leaves the tenant for its transaction.
MARK: Final = "tenantry.bound"


def bound_tenant(tenancy: Tenancy, column_type: str | None = None) -> str:
    """The expression for the bound tenant in the type in which the column is compared; NULL when
    unbound.
    """
    column_type = column_type or tenancy.id_type.value
    wanted = compared_in(column_type, tenancy.id_type)
    if wanted is None:
        raise ConfigError(
            f"a {column_type} column can't hold tenant ids of type {tenancy.id_type.value}; "
            f"change the column to {tenancy.id_type.value}",
            key="tenancy.type",
        )
    setting = f"nullif(current_setting({literal(tenancy.setting)}, true), '')"
    return setting if wanted == "text" else f"{setting}::{wanted}"


def predicate(column: str, tenancy: Tenancy, column_type: str | None = None) -> str:
    """The equality, true for the bound tenant's rows; NULL for all where nobody is bound."""
    return f"{identifier(column)} = {bound_tenant(tenancy, column_type)}"


def standard(column: str, tenancy: Tenancy, column_type: str | None = None) -> str:
    """What the tenant policy of a table says."""
    mine = predicate(column, tenancy, column_type)
    if not tenancy.citus:
        return mine
    bound, setting = (f"current_setting({literal(name)}, true)" for name in (MARK, tenancy.setting))
    return f"{mine} AND nullif({bound}, '') = {setting}"


def standard_printed(column: str, tenancy: Tenancy, column_type: str, *, cast: bool) -> str:
    """`standard` as PostgreSQL prints it back. Arguments as of `canonical`."""
    mine = canonical(column, tenancy, column_type, cast=cast)
    if not tenancy.citus:
        return mine
    bound, setting = (f"current_setting({literal(name)}::text, true)" for name in (MARK, tenancy.setting))
    return f"({mine} AND (NULLIF({bound}, ''::text) = {setting}))"


def canonical(column: str, tenancy: Tenancy, column_type: str, *, cast: bool) -> str:
    """`predicate` as PostgreSQL prints it back, for telling drift; compare by `tokens_of`.

    Args:
        cast: True for columns that are compared by way of a cast: of varchar or of a domain.
    """
    wanted = compared_in(column_type, tenancy.id_type)
    setting = f"NULLIF(current_setting({literal(tenancy.setting)}::text, true), ''::text)"
    value = setting if wanted == "text" else f"({setting})::{wanted}"
    return f"({printed_column(column, tenancy, column_type, cast=cast)} = {value})"


def printed_column(column: str, tenancy: Tenancy, column_type: str, *, cast: bool) -> str:
    """The tenant column in a comparison, as PostgreSQL prints it back."""
    wanted = compared_in(column_type, tenancy.id_type)
    base = "text" if wanted == "text" else column_type
    return f"({identifier(column)})::{base}" if cast else identifier(column)
