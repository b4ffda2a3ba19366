"""A router for one tenant only: a partner's portal, booted from the operator's code base."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tenantry.errors import RouterPinned
from tenantry.ids import IdType, TenantId


def pinned_to(tenant: TenantId, ids: IdType) -> Callable[[Any], TenantId]:
    """What takes the place of `ids.validate`: every other tenant's id raises RouterPinned."""
    only = ids.validate(tenant)

    def validate(asked: Any) -> TenantId:
        if ids.validate(asked) != only:
            raise RouterPinned(only, "another tenant")
        return only

    return validate
