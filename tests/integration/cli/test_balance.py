"""`tenantry balance`: what it proposes of a ledger, and what it says where it proposes nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tenantry.cli.render import Renderer
from tests.integration.cli.conftest import Fleet

TODAY = datetime.now(UTC).date()
FILE = """
tenancy:
  type: text
control:
  dsn: ${TENANTRY_CONTROL_DSN}
databases:
  shared:
    kind: shared
    dsn: ${TENANTRY_SHARED_DSN}
    operator_dsn: ${TENANTRY_SHARED_OPERATOR_DSN}
  acme:
    kind: shared
    dsn: ${TENANTRY_ACME_DSN}
    operator_dsn: ${TENANTRY_ACME_OPERATOR_DSN}
"""
LOADS = {"shared": {"large": 4000, "mid": 3000, "small": 500}, "acme": {"quiet": 1500}}


def used(fleet: Fleet, folder: Path, *, days: int = 7, capacities: str = "") -> Fleet:
    """Both databases shared, four tenants, and so many days of imported history until yesterday."""
    fleet.write(FILE + capacities)
    fleet.ok("init")
    lines = ["day,database,tenant,busy_seconds,total_seconds\n"]
    for name, tenants in LOADS.items():
        for tenant, busy in tenants.items():
            fleet.ok("tenants", "add", tenant, "--database", name)
            for ago in range(1, days + 1):
                lines.append(f"{TODAY - timedelta(days=ago)},{name},{tenant},{busy},{sum(tenants.values())}\n")
    fleet.server.psql(
        "UPDATE tenantry.tenant SET (created_at, placed_at) = (now() - interval '60 d', now() - interval '60 d')",
        fleet.control,
    )
    file = folder / "history.csv"
    file.write_text("".join(lines))
    fleet.ok("usage", "import", file, "--label", "simulated")
    return fleet


def test_the_plan_is_the_move_that_evens_out_in_words_and_in_json(fleet: Fleet, tmp_path: Path) -> None:
    used(fleet, tmp_path)
    told = fleet.ok("balance", "--plan", "--json").json
    assert told["loads"] == pytest.approx({"acme": 1500 / 4500, "shared": 7500 / 4500})
    [move] = told["moves"]
    assert (move["tenant"], move["source"], move["target"]) == ("mid", "shared", "acme")
    assert move["share"] == 0.4
    assert (move["source_after"], move["target_after"]) == (1.0, 1.0)
    assert (told["over"], told["unknown"]) == ([], [])
    words = fleet.ok("balance", "--plan").out
    assert "mid" in words
    assert "1.67" in words


def test_it_asks_before_it_moves_anybody(fleet: Fleet, tmp_path: Path) -> None:
    used(fleet, tmp_path)
    ran = fleet.run("balance")
    assert ran.code == 2
    assert "--yes" in ran.err


def test_a_tenant_that_was_moved_since_the_proposal_is_left_where_it_is(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used(fleet, tmp_path)

    def confirm(_out: Renderer, _question: str, *, yes: bool) -> None:
        fleet.server.psql("UPDATE tenantry.tenant SET database = 'acme' WHERE id = 'mid'", fleet.control)

    monkeypatch.setattr(Renderer, "confirm", confirm)
    ran = fleet.ok("balance")
    assert "tenant mid lives in acme by now: it stays there" in ran.out + ran.err
    assert fleet.ok("moves", "list", "--json").json == []


def test_days_that_are_not_known_are_named_and_move_nobody(fleet: Fleet, tmp_path: Path) -> None:
    used(fleet, tmp_path, days=6)
    told = fleet.ok("balance", "--plan", "--json").json
    assert told["moves"] == []
    assert told["unknown"] == [(TODAY - timedelta(days=7)).isoformat()]
    ran = fleet.ok("balance", "--yes")
    assert (TODAY - timedelta(days=7)).isoformat() in ran.err


def test_a_tenant_that_came_lately_stays_and_the_reason_is_told(fleet: Fleet, tmp_path: Path) -> None:
    used(fleet, tmp_path)
    fleet.server.psql("UPDATE tenantry.tenant SET placed_at = now() WHERE id = 'mid'", fleet.control)
    told = fleet.ok("balance", "--plan", "--json").json
    assert "mid" not in [move["tenant"] for move in told["moves"]]


def test_a_tenant_is_not_sent_back_where_it_came_from(fleet: Fleet, tmp_path: Path) -> None:
    used(fleet, tmp_path)
    fleet.server.psql(
        "INSERT INTO tenantry.move (id, tenant, source, target, state, plan, flipped_at) "
        "VALUES ('m0123456789', 'mid', 'acme', 'shared', 'released', '{}', now() - interval '60 d')",
        fleet.control,
    )
    assert "mid" not in [one["tenant"] for one in fleet.ok("balance", "--plan", "--json").json["moves"]]


def test_sizes_are_the_capacities_where_all_databases_have_one(fleet: Fleet, tmp_path: Path) -> None:
    text = FILE.replace(
        "kind: shared\n    dsn: ${TENANTRY_SHARED", "kind: shared\n    capacity: 500\n    dsn: ${TENANTRY_SHARED"
    )
    text = text.replace(
        "kind: shared\n    dsn: ${TENANTRY_ACME", "kind: shared\n    capacity: 100\n    dsn: ${TENANTRY_ACME"
    )
    used(fleet, tmp_path)
    fleet.write(text)
    assert fleet.ok("balance", "--plan", "--json").json["loads"] == {"acme": 1.0, "shared": 1.0}


def test_one_shared_database_has_nothing_to_balance(installed: Fleet) -> None:
    ran = installed.ok("balance")
    assert "nothing to balance" in ran.err
