"""What one customer's scope leaves on the connection for the next one: nothing."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import asyncpg

from tenantry.demo.product import named
from tenantry.demo.stage import Demo
from tenantry.demo.world import APP, POOL, REPORTS, SHARED
from tenantry.wiring import Router

FIRST: Final = "alder"
NEXT: Final = "willow"

_LEAVE: Final = (
    "SET app.theme = 'dark'",
    "CREATE TEMP TABLE basket AS SELECT * FROM consumers",
    "SELECT pg_advisory_lock(42)",
    f"SET ROLE {REPORTS}",
)
_LOOK: Final = (
    "SELECT pg_backend_pid() AS pid, nullif(current_setting('app.theme', true), '') AS setting, "
    "to_regclass('pg_temp.basket')::text AS temp_table, current_user::text AS role, "
    "(SELECT count(*)::int FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory' "
    "AND classid = 0 AND objid = 42) AS locks"
)


class SessionSeen(NamedTuple):
    """What the next one finds on the connection."""

    pid: int
    setting: str | None
    temp_table: str | None
    role: str
    locks: int

    @property
    def clean(self) -> bool:
        """Nothing of the one before."""
        return (self.setting, self.temp_table, self.role, self.locks) == (None, None, APP, 0)

    def words(self) -> str:
        """For the story."""
        return (
            f"setting {self.setting or '(empty)'}, temporary table {self.temp_table or '(none)'}, "
            f"role {self.role}, {self.locks} session locks"
        )


async def run(demo: Demo) -> None:
    """Leave things behind in one scope, and look from the next one on the same connection."""
    section = demo.story.section("leftovers", "What one customer leaves on a connection")
    section.claim("A setting, a temporary table, a session lock, a change of role: nothing outlives its scope.")
    section.did(f"A router with one single connection; {FIRST} runs this, then {NEXT} comes:")
    section.quote("\n".join(_LEAVE))
    left, found = await _through_router(demo)
    section.saw(f"{FIRST} on backend {left.pid}: {left.words()}.")
    section.saw(f"{NEXT} on backend {found.pid}: {found.words()}.")
    section.check(left.pid == found.pid and found.clean and not left.clean, "same server process, nothing left")
    plain = await _through_plain_pool(demo)
    section.saw(
        f"For comparison, an asyncpg pool with its own reset, next user on backend {plain.pid}: {plain.words()}."
    )
    section.facts(
        pid_first=left.pid,
        pid_next=found.pid,
        left=left._asdict(),
        found=found._asdict(),
        plain_pool=plain._asdict(),
    )


async def _through_router(demo: Demo) -> tuple[SessionSeen, SessionSeen]:
    config = demo.world.config(pools={**POOL, SHARED: 1})
    async with Router.open(config, metrics=False) as router:
        async with router.tenant(named(FIRST).id) as connection:
            await connection.execute("; ".join(_LEAVE))
            left = SessionSeen(**await connection.fetchrow(_LOOK))
        async with router.tenant(named(NEXT).id) as connection:
            return left, SessionSeen(**await connection.fetchrow(_LOOK))


async def _through_plain_pool(demo: Demo) -> SessionSeen:
    pool: asyncpg.Pool[Any] = await asyncpg.create_pool(demo.world.dsn(SHARED), min_size=1, max_size=1)
    try:
        async with pool.acquire() as connection:
            await connection.execute("; ".join(_LEAVE))
        async with pool.acquire() as connection:
            row = await connection.fetchrow(_LOOK)
            assert row is not None
            return SessionSeen(**row)
    finally:
        await pool.close()
