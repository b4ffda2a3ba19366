"""The guard: the restrictive policy beside whatever else a tenant table has. Pure, no I/O.

Restrictive policies are AND-ed to all others, so the guard holds whatever the product's own policies allow, for
everything that row-level security holds: routers of any version, psql, scripts.

- It checks that the tenant may be worked for here and now: `tenantry.admitted()` takes the tenant's lock and looks
  at its placement where no bind has done so in the transaction. That is the fence of a move. The check stands in a
  sub-select, so that it runs once for each statement and not for each row.
- In hardened mode, and beside policies that are not proven to keep to the bound tenant, it compares the rows'
  tenant as well: the border.

In hardened mode the tenant comes from the proof, taken once for each statement. The comparison stands in a
coalesce, because the planner merges two plain equalities on one column into a check that it makes once: a
`set_config` in a target list would then change what later rows are compared with.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from tenantry.catalog.tenancy import Tenancy, compared_in
from tenantry.catalog.values import Policy
from tenantry.ids import IdType
from tenantry.isolation.equality import bound_tenant, canonical, predicate, printed_column
from tenantry.isolation.expression import tokens_of
from tenantry.runtime.sqltext import identifier, qualified

#: Name of the guard, on every tenant table.
GUARD: Final = "tenantry_guard"
#: Name of a policy of earlier versions that the guard replaces.
SUPERSEDED: Final = "tenantry_only"

_ADMITTED: Final = "(SELECT tenantry.admitted())"
_ADMITTED_PRINTED: Final = "( SELECT tenantry.admitted() AS admitted)"


class Guard(IntEnum):
    """How much a guard holds, the least first."""

    FENCE = 0
    """The tenant is admitted here. Enough where the table's other policies keep to the bound tenant."""
    BORDER_AND_NOBODY = 1
    """Also: rows are the bound tenant's, or, for reading, nobody's (NULL), of which the other policies decide."""
    BORDER = 2
    """Also: rows are the bound tenant's."""


def guard_sql(
    schema: str, table: str, column: str, tenancy: Tenancy, guard: Guard, column_type: str | None = None
) -> str:
    """The statement that makes the guard of one table."""
    using, check = expressions(column, tenancy, guard, column_type)
    return (
        f"CREATE POLICY {GUARD} ON {qualified(schema, table)} AS RESTRICTIVE FOR ALL TO PUBLIC\n"
        f"    USING ({using})\n"
        f"    WITH CHECK ({check})"
    )


def expressions(column: str, tenancy: Tenancy, guard: Guard, column_type: str | None = None) -> tuple[str, str]:
    """The guard's USING and WITH CHECK. In hardened mode there is no guard without the border."""
    check = _strict(column, tenancy, guard, column_type)
    if guard is not Guard.BORDER_AND_NOBODY:
        return check, check
    nobody = f"{identifier(column)} IS NULL"
    if tenancy.hardened:
        return f"coalesce({_proven(column, tenancy, column_type)}, {nobody} AND {_ADMITTED})", check
    return f"({predicate(column, tenancy, column_type)} OR {nobody}) AND {_ADMITTED}", check


def _strict(column: str, tenancy: Tenancy, guard: Guard, column_type: str | None) -> str:
    if tenancy.hardened:
        return f"coalesce({_proven(column, tenancy, column_type)}, false)"
    if guard is Guard.FENCE:
        return _ADMITTED
    return f"{predicate(column, tenancy, column_type)} AND {_ADMITTED}"


def _proven(column: str, tenancy: Tenancy, column_type: str | None) -> str:
    bound_tenant(tenancy, column_type)  # refuses columns that can't be compared
    return f"{identifier(column)} = (SELECT tenantry.admitted_tenant(){_cast(tenancy, column_type)})"


def _cast(tenancy: Tenancy, column_type: str | None) -> str:
    as_text = compared_in(column_type or tenancy.id_type.value, tenancy.id_type) == "text"
    return "::text" if as_text and tenancy.id_type is not IdType.TEXT else ""


def guard_of(policy: Policy, column: str, tenancy: Tenancy, column_type: str) -> Guard | None:
    """What a policy of the guard's name holds; None where it is not one of ours, or was changed."""
    whole = not policy.permissive and policy.command == "*" and policy.roles == ("public",)
    if not whole or policy.using is None:
        return None
    check = policy.using if policy.check is None else policy.check
    found = (tokens_of(policy.using), tokens_of(check))
    for guard in reversed(Guard):
        for cast in (False, True):
            if found == tuple(map(tokens_of, _printed(column, tenancy, guard, column_type, cast=cast))):
                return guard
    return None


def of_both_halves(policy: Policy, column: str, tenancy: Tenancy, column_type: str) -> bool:
    """True for a tenant policy of earlier versions, which held the guard's half too."""
    texts = {policy.using, policy.using if policy.check is None else policy.check}
    wanted = {
        tokens_of(f"({canonical(column, tenancy, column_type, cast=cast)} AND {guard})")
        for cast in (False, True)
        for guard in _printed(column, tenancy, Guard.FENCE, column_type, cast=cast)
    }
    return all(text is not None and tokens_of(text) in wanted for text in texts)


def _printed(column: str, tenancy: Tenancy, guard: Guard, column_type: str, *, cast: bool) -> tuple[str, str]:
    """`expressions` as PostgreSQL prints them back."""
    nobody = f"({identifier(column)} IS NULL)"
    if tenancy.hardened:
        name = printed_column(column, tenancy, column_type, cast=cast)
        call = "tenantry.admitted_tenant()"
        call = f"({call})::text" if _cast(tenancy, column_type) else call
        proven = f"({name} = ( SELECT {call} AS admitted_tenant))"
        check = f"COALESCE({proven}, false)"
        using = f"COALESCE({proven}, ({nobody} AND {_ADMITTED_PRINTED}))"
    else:
        mine = canonical(column, tenancy, column_type, cast=cast)
        check = _ADMITTED_PRINTED if guard is Guard.FENCE else f"({mine} AND {_ADMITTED_PRINTED})"
        using = f"(({mine} OR {nobody}) AND {_ADMITTED_PRINTED})"
    return (using if guard is Guard.BORDER_AND_NOBODY else check), check
