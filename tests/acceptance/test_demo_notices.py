"""The demo's checks can fail: with isolation switched off and rows tampered with, it says so."""

from __future__ import annotations

import io
import sys

import pytest

from tenantry.demo import Options, run
from tenantry.demo.product import HEAVY, named
from tenantry.demo.stage import Demo
from tenantry.demo.stages import isolation, traffic
from tenantry.demo.teller import Teller
from tenantry.demo.world import SHARED

_TAMPER = (
    "DELETE FROM request_log WHERE id = (SELECT min(id) FROM request_log WHERE operation IS NOT NULL "
    "AND tenant_id = $1)"
)
_DOUBLE = (
    "INSERT INTO request_log (tenant_id, operation, route_id, consumer_id, status, millis) "
    "SELECT tenant_id, operation, route_id, consumer_id, status, millis FROM request_log "
    "WHERE operation IS NOT NULL AND tenant_id = $1 ORDER BY id DESC LIMIT 1"
)


async def tamper(demo: Demo) -> None:
    """Lose one acknowledged write, and double another."""
    await demo.load.flat_out(4, 1.0)
    async with demo.world.connection(SHARED) as connection:
        await connection.execute(_TAMPER, named(HEAVY).id)
        await connection.execute(_DOUBLE, named(HEAVY).id)
    await traffic.tell_history(demo)


async def open_the_doors(demo: Demo) -> None:
    """Somebody switches row-level security off."""
    async with demo.world.connection(SHARED) as connection:
        for table in ("tenants", "routes", "consumers", "request_log"):
            await connection.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")


@pytest.mark.timeout(240)
def test_a_demo_whose_promises_do_not_hold_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = (tamper, open_the_doors, isolation.run)
    monkeypatch.setattr(sys.modules["tenantry.demo.tour"], "STAGES", stages)
    out = io.StringIO()
    summary = run(Options(seconds=1), Teller(out, width=80))
    assert not summary["ok"]
    assert summary["sections"]["history"]["lost"] == 1
    assert summary["sections"]["history"]["doubled"] == 1
    broken = {check["section"] for check in summary["checks"] if not check["held"]}
    assert broken == {"history", "forgotten_where", "cross_tenant_write", "no_scope"}
    assert summary["sections"]["forgotten_where"]["rows_of_others_returned"] > 0
    assert "✗" in out.getvalue()
