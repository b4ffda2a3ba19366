"""F25, F26: what operators have set for roles and databases, and a pooler in the way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.move import State
from tenantry.move.errors import Unreachable
from tests.support.estate import Estate
from tests.support.load import check, load
from tests.support.pgbouncer import PgBouncer
from tests.support.programs import require_program

TIMEOUTS = {
    "statement_timeout": "40ms",
    "lock_timeout": "5ms",
    "idle_in_transaction_session_timeout": "40ms",
    "idle_session_timeout": "40ms",
    "DateStyle": "German",
    "extra_float_digits": "-5",
    "default_transaction_isolation": "serializable",
}


@pytest.mark.faults
@pytest.mark.parametrize("what", ["databases", "roles"])
async def test_timeouts_and_formats_set_by_operators_do_not_touch_a_move(what: str) -> None:
    """F25, in the mover's sessions, the apply worker's, and the walsender's."""
    with EmbeddedServer.start(18) as near, EmbeddedServer.start(18) as far:
        estate = await Estate.make(near, far)
        for server, database in ((near, estate.shared), (far, estate.dedicated)):
            subject = f'DATABASE "{database}"' if what == "databases" else "ROLE postgres"
            for name, value in TIMEOUTS.items():
                server.psql(f"ALTER {subject} SET {name} = '{value}'")
        mover = estate.mover()
        record = await mover.run(await mover.plan(estate.tenant, "acme"))
        assert record.state is State.FLIPPED
        assert (await mover.rollback(record.id)).state is State.ROLLED_BACK


@pytest.mark.faults
async def test_a_pooler_before_a_database_is_refused_by_name(estate18: Estate) -> None:
    """F26."""
    require_program("pgbouncer")
    with PgBouncer.start(estate18.near) as pooler:
        ends = estate18.endpoints
        ends["shared"] = replace(ends["shared"], dsn=pooler.dsn(estate18.shared, user="postgres"))
        said = ""
        try:
            plan = await estate18.mover(endpoints=ends).plan(estate18.tenant, "acme")
            said = "; ".join(f"{finding.problem}: {finding.fix}" for finding in plan.refusals)
        except Unreachable as error:
            said = str(error)
        assert "direct DSN" in said


@pytest.mark.faults
async def test_routers_behind_a_pooler_follow_a_move(estate18: Estate) -> None:
    """F26: the routers' pools go through PgBouncer in transaction mode, the mover past it."""
    require_program("pgbouncer")
    with PgBouncer.start(estate18.near, pool_size=20) as near, PgBouncer.start(estate18.far, pool_size=20) as far:
        pooled = Pooled(**{name: getattr(estate18, name) for name in Estate.__dataclass_fields__})
        pooled.poolers = {"shared": near, "acme": far}
        mover = estate18.mover()
        async with load(pooled) as running:
            record = await mover.run(await mover.plan(estate18.tenant, "acme"))
            await running.reach(estate18.tenant, 20)
            assert (await mover.rollback(record.id)).state is State.ROLLED_BACK
            await running.reach(estate18.tenant, 20)
        print(await check(estate18, running))


class Pooled(Estate):
    """An estate whose services connect through PgBouncer."""

    poolers: dict[str, PgBouncer]

    def application_dsns(self) -> dict[str, str]:
        names = {"shared": self.shared, "acme": self.dedicated}
        return {place: pooler.dsn(names[place], user="app") for place, pooler in self.poolers.items()}
