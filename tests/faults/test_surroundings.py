"""F25, F26: what operators have set for roles and databases, and a pooler in the way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tenantry.move import State
from tenantry.move.errors import Unreachable
from tests.faults.estate import Estate
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
async def test_timeouts_and_formats_set_for_databases_do_not_touch_a_move(estate18: Estate) -> None:
    """F25."""
    for server, database in ((estate18.near, estate18.shared), (estate18.far, estate18.dedicated)):
        for name, value in TIMEOUTS.items():
            server.psql(f"ALTER DATABASE \"{database}\" SET {name} = '{value}'")
    mover = estate18.mover()
    record = await mover.run(await mover.plan(estate18.tenant, "acme"))
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
            said = "; ".join(f"{finding.problem}: {finding.mend}" for finding in plan.refusals)
        except Unreachable as error:
            said = str(error)
        assert "direct DSN" in said
