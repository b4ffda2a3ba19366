"""What a database that is away raises, one way or another."""

from __future__ import annotations

from typing import Final

import asyncpg

from tenantry.errors import TenantryError

AWAY: Final = (TenantryError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)
