"""How a product's tables tell their tenants apart: the configuration that decides. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tenantry.errors import ConfigError
from tenantry.ids import IdType
from tenantry.proof import HARDENED_ON_CITUS

#: Override of a table that holds nothing of tenantry's concern.
IGNORE: Final = "ignore"
#: Override of a table that all tenants read and none owns.
REFERENCE: Final = "reference"
#: Override of a table that a new database gets a copy of, and that then goes its own way: what a migration
#: tool keeps of its own.
ONCE: Final = "once"

_SETTING = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)+")
_INTEGERS = frozenset({"smallint", "integer", "bigint"})
_TEXTS = frozenset({"text", "character varying"})
_COMPARED_IN: Mapping[IdType, Mapping[str, str]] = {
    IdType.UUID: {"uuid": "uuid"} | dict.fromkeys(_TEXTS, "text"),
    IdType.BIGINT: dict.fromkeys(_INTEGERS, "bigint") | dict.fromkeys(_TEXTS, "text"),
    IdType.TEXT: dict.fromkeys(_TEXTS, "text"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Tenancy:
    """How a product's tables tell their tenants apart."""

    column: str = "tenant_id"
    """The tenant column. Other spellings of the same words (`tenantId`, `"TenantID"`) are found
    too.
    """
    id_type: IdType = IdType.UUID
    setting: str = "app.current_tenant"
    """The setting that policies read and `tenantry.bind` sets."""
    hardened: bool = False
    """True where `bind` proves who set the setting; the policy then believes the proof alone."""
    citus: bool = False
    """True in a database with Citus, whose policies take no sub-select; never together with `hardened`."""
    tables: Mapping[str, str] = field(default_factory=dict)
    """`schema.table` (names as they are, unquoted) -> its tenant column, "reference", "once" or "ignore". It
    counts for the table's partitions and inheritance children too, unless they have one of their own.
    """

    def __post_init__(self) -> None:
        if not _SETTING.fullmatch(self.setting):
            raise ConfigError(
                f"{self.setting!r} is no name of a setting of ours: two or more words of a-z, 0-9 "
                "and _ joined by dots, such as app.current_tenant",
                key="tenancy.setting",
            )
        if not self.column:
            raise ConfigError("the tenant column has no name", key="tenancy.column")
        if self.hardened and self.citus:
            raise ConfigError(HARDENED_ON_CITUS, key="tenancy.hardened")


def compared_in(column_type: str, id_type: IdType) -> str | None:
    """The type in which a column of `column_type` is compared with the setting, or None if it can't
    be.

    An integer column is compared as bigint: a tenant beyond its range then matches no row, where a
    cast to integer would raise an error, and the column's index serves all the same. A varchar(n)
    column is compared as text: a cast to varchar(n) would cut a longer id and let it read another
    tenant's rows. char(n) can't be compared safely (it ignores trailing blanks), nor can citext (it
    ignores case).
    """
    base = re.sub(r"\(.*\)", "", column_type).strip()
    return _COMPARED_IN[id_type].get(base)
