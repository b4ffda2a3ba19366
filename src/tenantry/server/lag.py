"""How far behind the other side of each unfinished move is: asked of the database where the tenant lives.

Any role may read it, so the routers' DSN will do. What can't be asked is left out: a move goes on without us.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import asyncpg

from tenantry import sql
from tenantry.config import ResolvedDatabase
from tenantry.runtime.connection_errors import DATABASE_ERRORS

#: Seconds for one database's answer: a scrape waits for it.
PATIENCE: Final = 2.0


class FollowedMove(NamedTuple):
    """A move whose other side follows."""

    move: str
    tenant: str
    home: str
    """Database where the tenant lives now."""
    direction: str
    """"out" before the flip, "back" after it."""


async def lags(databases: Mapping[str, ResolvedDatabase], moves: Iterable[FollowedMove]) -> dict[str, int]:
    """Bytes of log that the other side has not confirmed, by tenant."""
    wanted = list(moves)
    found = await asyncio.gather(*(_lag(databases.get(move.home), move) for move in wanted))
    return {move.tenant: lag for move, lag in zip(wanted, found, strict=True) if lag is not None}


async def _lag(home: ResolvedDatabase | None, move: FollowedMove) -> int | None:
    dsn = home.best_dsn if home is not None else None
    if dsn is None:
        return None
    try:
        async with asyncio.timeout(PATIENCE):
            connection = await asyncpg.connect(
                dsn,
                statement_cache_size=0,
                server_settings={"application_name": "tenantry serve"},
            )
            try:
                slot = f"tenantry_{move.move}_{move.direction}"
                lag: int | None = await connection.fetchval(sql.query("server/lag"), slot)
                return lag
            finally:
                connection.terminate()
    except (ValueError, *DATABASE_ERRORS):
        return None
