"""Schemas as products have them, for the isolation tests: big, old, and of several minds."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tenantry.catalog.tenancy import Tenancy
from tenantry.ids import IdType


class Schema(NamedTuple):
    """One product's schema, with rows of two tenants."""

    name: str
    tenancy: Tenancy
    tenants: tuple[str, str]
    """The two tenants that have rows."""

    @property
    def sql(self) -> str:
        """Everything that makes it."""
        return (Path(__file__).parent / f"{self.name}.sql").read_text(encoding="utf-8")


SHOP = Schema(
    "shop",
    Tenancy(
        tables={
            "public.tenants": "id",
            "public.countries": "reference",
            "audit.schema_history": "ignore",
        }
    ),
    ("11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"),
)
LEGACY = Schema(
    "legacy",
    Tenancy(
        column="tenant_id",
        id_type=IdType.BIGINT,
        setting="app.current_org_id",
        tables={"crm.Region": "reference", "crm.note": "org"},
    ),
    ("7", "9000000000"),
)
STYLES = Schema(
    "styles",
    Tenancy(id_type=IdType.TEXT, tables={"public.membership": "reference"}),
    ("acme", "it's"),
)
SCHEMAS = (SHOP, LEGACY, STYLES)
WORKSHOP = Schema(
    "workshop",
    Tenancy(tables={"public.countries": "reference", "public.membership": "ignore"}),
    ("11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"),
)
