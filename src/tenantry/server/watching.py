"""What `tenantry serve` watches: each database's own totals, and who is active in it.

Without the totals the rule has no denominator, and every verdict is "unknown". One process of the fleet leads for
each database (an advisory lock), so `serve` may run several times.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

from tenantry.config import Config, DatabaseSection
from tenantry.directory import Store
from tenantry.usage import Watches


async def watch(store: Store, config: Config) -> Watches:
    """Watch every database of the configuration from now on. To be closed."""
    watches = Watches(await store.pool(), column=config.tenancy.column)
    await watches.follow({name: connector(section) for name, section in config.databases.items()})
    return watches


def connector(section: DatabaseSection) -> Callable[[], Awaitable[Any]]:
    """Opens a connection that sees other sessions: by the most direct and most able DSN there is.

    The service's own role will do for the sessions of that role, and for the totals. Others are seen by members
    of pg_monitor; estimating storage takes a role that bypasses row-level security.
    """
    dsn = section.direct_dsn or section.operator_dsn or section.dsn

    async def connect() -> Any:
        return await asyncpg.connect(
            dsn.get_secret_value(),
            timeout=5.0,
            statement_cache_size=0,
            server_settings={"application_name": "tenantry watch"},
        )

    return connect
