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
from tenantry.move.plan_format import every_direction
from tenantry.runtime.connection_errors import DATABASE_ERRORS

#: Seconds for one database's answer: a scrape waits for it.
PATIENCE: Final = 2.0


class FollowedMove(NamedTuple):
    """A move whose other side follows."""

    move: str
    tenant: str
    home: str
    """Database where the tenant lives now."""
    flipped: bool
    """True: what follows is the old home, by the reverse direction's slot."""


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
                slots = [f"tenantry_{move.move}_{name}" for name in every_direction(int(move.flipped))]
                lag: int | None = await connection.fetchval(sql.query("server/lag"), slots)
                return lag
            finally:
                connection.terminate()
    except (ValueError, *DATABASE_ERRORS):
        return None
