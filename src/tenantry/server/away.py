"""What a database that is away raises, one way or another."""

from __future__ import annotations

from typing import Final

import asyncpg

from tenantry.errors import TenantryError
from tenantry.link import LINK_BROKEN

AWAY: Final = (TenantryError, asyncpg.PostgresError, *LINK_BROKEN)
