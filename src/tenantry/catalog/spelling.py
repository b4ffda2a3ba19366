"""Ids in tenant columns of text that are spelt otherwise than their normal form (`ids`). Pure.

Policies compare the column with the id's normal form. A uuid in capitals or a number with zeros before it is no
spelling of an id then, and their rows are no tenant's. A text is itself; but one that is no tenant's, and is one's
but for capitals, blanks at its ends or the composition of its accents, is likely to be meant as it.
"""

from __future__ import annotations

from tenantry.catalog.tenancy import Tenancy
from tenantry.catalog.values import Column
from tenantry.ids import IdType
from tenantry.runtime.sqltext import identifier, literal

_UUID = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
_BIGINT = r"^(0|-?[1-9][0-9]{0,18})$"
_READABLE_UUID = r"^\s*\{?[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}\}?\s*$"
_READABLE_BIGINT = r"^\s*[-+]?[0-9]{1,18}\s*$"
_TEXTS = ("text", "character varying")


def can_be_misspelt(column: Column) -> bool:
    """True for a tenant column that takes any text."""
    return column.type.startswith(_TEXTS)


def misspelt_sql(column: str, id_type: IdType) -> str:
    """The predicate of rows whose tenant is spelt otherwise; `column` is unquoted. Reads `tenantry.placement`."""
    value = f'{identifier(column)}::text COLLATE "C"'
    if id_type is IdType.UUID:
        return f"{value} !~ {literal(_UUID)}"
    if id_type is IdType.BIGINT:
        return f"{value} !~ {literal(_BIGINT)}"
    known = f"EXISTS (SELECT FROM tenantry.placement AS tenantry_p WHERE tenantry_p.tenant = {value})"
    own = folded_sql(f"{identifier(column)}::text", id_type)
    near = folded_sql("tenantry_p.tenant", id_type)
    meant = f"EXISTS (SELECT FROM tenantry.placement AS tenantry_p WHERE {near} = {own})"
    return f"({value} = '' OR octet_length({value}) > 255 OR NOT {known} AND {meant})"


def near_sql(column: str, tenant: str, id_type: IdType) -> str:
    """The predicate of rows whose tenant is this one, spelt otherwise; of text ids those that are nobody's."""
    value = f"{identifier(column)}::text"
    alike = (
        f"{folded_sql(value, id_type)} = {folded_sql(literal(tenant), id_type)} AND {value} <> {literal(tenant)}"
    )
    if id_type is IdType.TEXT:
        alike += (
            f" AND NOT EXISTS (SELECT FROM tenantry.placement AS tenantry_p WHERE tenantry_p.tenant = {value})"
        )
    return f"({alike})"


def folded_sql(value: str, id_type: IdType) -> str:
    """What spellings of one id have in common: of text, which has to be UTF8, its composed form in small letters,
    without the blanks at its ends.
    """
    if id_type is IdType.UUID:
        return f"lower(translate(btrim({value}), '{{}}-', ''))"
    if id_type is IdType.BIGINT:
        return f"regexp_replace(btrim({value}), '^([-]?)[+]?0*(?=[0-9])', '\\1')"
    return f"lower(btrim(normalize({value})))"


def respell_sql(table: str, column: str, tenancy: Tenancy) -> tuple[str, ...]:
    """Statements that bring a column into the normal form, as far as its values can be read. None for ids of text:
    whose a row is, is for people to say."""
    name = identifier(column)
    if tenancy.id_type is IdType.TEXT:
        return ()
    kind, readable = ("uuid", _READABLE_UUID) if tenancy.id_type is IdType.UUID else ("bigint", _READABLE_BIGINT)
    return (
        f"UPDATE {table} SET {name} = btrim({name}::text)::{kind}::text "  # noqa: S608  every part is quoted
        f"WHERE {misspelt_sql(column, tenancy.id_type)} AND {name}::text ~ {literal(readable)}",
    )
