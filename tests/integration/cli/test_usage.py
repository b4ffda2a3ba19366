"""The commands about use: what they show, in words and in JSON, and what they refuse."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.integration.cli.conftest import Fleet

TODAY = datetime.now(UTC).date()
HEADER = "day,database,tenant,busy_seconds,total_seconds\n"


@pytest.fixture
def used(installed: Fleet, tmp_path: Path) -> Fleet:
    """A fortnight of imported history: one heavy tenant, one on its way, one light."""
    lines = [HEADER]
    for ago in range(14, 0, -1):
        day = TODAY - timedelta(days=ago)
        rising = 4500 if ago <= 5 else 3000
        lines.append(f"{day},shared,heavy,4200,10000\n")
        lines.append(f"{day},shared,rising,{rising},10000\n")
        lines.append(f"{day},shared,light,10,10000\n")
    file = tmp_path / "history.csv"
    file.write_text("".join(lines))
    installed.ok("apply")
    for tenant in ("heavy", "rising", "light"):
        installed.ok("tenants", "add", tenant, "--database", "shared")
    ran = installed.ok("usage", "import", file, "--label", "simulated", "--json")
    assert ran.json == {"rows": 42, "days": 14, "tenants": 3, "label": "simulated"}
    return installed


def test_usage_shows_every_tenants_share_window_and_streak(used: Fleet) -> None:
    rows = {row["tenant"]: row for row in used.ok("usage", "--json").json}

    assert [round(row["share"], 4) for row in rows.values()] == [0.45, 0.42, 0.001, 0.129]
    assert rows[None]["days"] == pytest.approx([0.279] * 9 + [0.129] * 5)
    assert rows["heavy"]["state"] == "candidate"
    assert rows["heavy"]["streak"] == 14
    assert (rows["rising"]["state"], rows["rising"]["streak"]) == ("building", 5)
    assert rows["light"]["days"] == [0.001] * 14
    text = used.ok("usage").out
    assert "42.0%  ████████" in text
    assert "▄" * 14 in text


def test_usage_of_one_tenant_shows_its_days_and_the_rules_words(used: Fleet) -> None:
    rows = used.ok("usage", "rising", "--json").json
    ran = used.ok("usage", "rising")

    assert len(rows) == 14
    assert rows[-1] | {"bar": ""} == {
        "day": (TODAY - timedelta(days=1)).isoformat(),
        "database": "shared",
        "share": 0.45,
        "bar": "",
        "busy_seconds": 4500.0,
        "total_seconds": 10000.0,
        "coverage": 1.0,
        "commits": 0,
        "rollbacks": 0,
        "errors": 0,
        "source": "simulated",
    }
    assert "in the last 5 of 14 days; a candidate in 9 days if that goes on" in ran.err
    assert "leans on imported history: simulated" in ran.err


def test_candidates_says_why_and_what_to_do_next(used: Fleet) -> None:
    rows = used.ok("candidates", "--json").json
    ran = used.ok("candidates")

    assert [(row["tenant"], row["state"], row["to_go"]) for row in rows] == [
        ("heavy", "candidate", 0),
        ("rising", "building", 9),
    ]
    assert rows[0]["next"] == "tenantry promote heavy --to DATABASE --plan"
    assert rows[1]["next"] is None
    assert "above 40.0% of shared in each of the last 14 days" in ran.err
    assert "next, tenantry promote heavy" in ran.err


def test_a_fleet_without_history_has_no_candidates(installed: Fleet) -> None:
    installed.ok("apply")

    assert installed.ok("candidates", "--json").json == []
    assert "nobody is anywhere near the rule" in installed.ok("candidates").err
    assert installed.ok("usage", "--json").json == []


def test_what_is_exported_can_be_imported_again(used: Fleet, tmp_path: Path) -> None:
    out = used.ok("usage", "export").out
    file = tmp_path / "again.csv"
    used.ok("usage", "export", "--file", file)
    listed = used.ok("usage", "export", "--json").json
    some = used.ok("usage", "export", "--since", TODAY - timedelta(days=2)).out

    rows = list(csv.DictReader(io.StringIO(out)))
    assert file.read_text() == out
    assert len(rows) == len(listed) == 42
    assert rows[0]["tenant"] == "heavy"
    assert len(some.splitlines()) == 1 + 2 * 3
    assert used.ok("usage", "import", file, "--label", "copy", "--json").json["rows"] == 42


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEADER + "2026-11-01,shared,a,3,2\n", "line 2: busy_seconds (3) exceed total_seconds (2)"),
        ("day,tenant\n", "line 1: the header lacks database"),
    ],
)
def test_a_file_that_can_not_be_imported_is_refused_by_line(
    installed: Fleet, tmp_path: Path, text: str, words: str
) -> None:
    file = tmp_path / "bad.csv"
    file.write_text(text)

    ran = installed.run("usage", "import", file, "--label", "x")

    assert ran.code == 2
    assert words in ran.err


def test_history_can_not_be_labelled_as_measured(used: Fleet, tmp_path: Path) -> None:
    assert used.run("usage", "import", tmp_path / "history.csv", "--label", "measured").code == 2
    assert used.run("usage", "export", "--since", "yesterday").code == 2
    assert used.run("usage", "--every", "often").code == 2


def test_top_shows_sessions_by_tenant_and_what_they_wait_for(used: Fleet) -> None:
    rows = used.ok("top", "--json").json

    assert all(row["active"] >= 0 and row["connections"] >= 1 for row in rows)
    assert set(rows[0]) >= {"tenant", "waits", "idle_in_transaction"} if rows else True


def test_top_shows_who_waits_in_the_routers_also_without_any_session(used: Fleet) -> None:
    long_id = "a tenant whose id is too long for a session's tag " * 2
    said = f'[["shared", "heavy", 7], ["shared", "{long_id}", 2], ["acme", "", 3]]'
    used.server.psql(
        "INSERT INTO tenantry.waiting VALUES "
        f"(gen_random_uuid(), now(), 60, $${said}$$), (gen_random_uuid(), now(), 60, $${said}$$), "
        f"(gen_random_uuid(), now() - interval '1 hour', 60, $${said}$$)",
        used.control,
    )

    rows = used.ok("top", "--json").json
    waiting = {(row["database"], row["tenant"]): row["waiting"] for row in rows if row["waiting"]}

    assert waiting == {("shared", "heavy"): 14, ("shared", long_id): 4, ("acme", None): 6}
    assert rows[0]["tenant"] == "heavy"
    assert rows[0]["active"] == rows[0]["connections"] == 0
    assert "WAITING" in used.ok("top").out


def test_usage_says_so_where_the_ledger_and_the_witness_disagree(used: Fleet) -> None:
    seen = """
        INSERT INTO tenantry.usage (hour, database, tenant, busy_seconds, statements) SELECT
            date_trunc('hour', now(), 'UTC'), 'shared', tenant, busy, 10
            FROM (VALUES ('heavy', 60), ('rising', 30), ('light', 1)) AS used (tenant, busy);
        INSERT INTO tenantry.database_usage VALUES (date_trunc('hour', now(), 'UTC'), 'shared', 100, 3600);
        INSERT INTO tenantry.sampled VALUES (date_trunc('hour', now(), 'UTC'), 'shared', 3600);
        INSERT INTO tenantry.sample VALUES (date_trunc('hour', now(), 'UTC'), 'shared', 'heavy', 'CPU', 2000),
            (date_trunc('hour', now(), 'UTC'), 'shared', 'rising', 'IO', 1500),
            (date_trunc('hour', now(), 'UTC'), 'shared', '', 'CPU', 1500);
    """
    used.server.psql(seen, used.control)

    rows = {row["tenant"]: row for row in used.ok("usage", "--json").json}
    ran = used.ok("usage")

    assert (rows["heavy"]["today"], rows["heavy"]["witness"]) == pytest.approx((0.6, 0.4))
    assert {tenant for tenant, row in rows.items() if row["disagrees"]} == {"heavy"}
    assert "heavy: the ledger says 60.0% of today, the witness 40.0%" in ran.err
    assert "rising: the ledger says" not in ran.err


def test_watched_as_json_each_look_is_a_list_on_a_line_of_its_own(
    used: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []

    async def twice(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) % 2 == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr("tenantry.cli.watch.asyncio.sleep", twice)
    for command in (["usage"], ["usage", "heavy"], ["top"]):
        ran = used.run(*command, "--watch", "--json")

        lines = [json.loads(line) for line in ran.out.splitlines()]
        assert ran.code == 130
        assert len(lines) == 2
        assert all(isinstance(line, list) for line in lines)
        assert command == ["top"] or lines[0][0]["database"] == "shared"


def test_a_file_as_spreadsheets_write_it_is_taken_and_one_that_is_cut_off_is_not(
    used: Fleet, tmp_path: Path
) -> None:
    """UTF-8 with a mark in front and lines that end as on Windows; and the beginning of a copy of a file."""
    sheet, cut = tmp_path / "sheet.csv", tmp_path / "cut.csv"
    text = HEADER + "2026-11-01,shared,heavy,1,2\n2026-11-02,shared,heavy,1,2\n"
    sheet.write_bytes(("\ufeff" + text).replace("\n", "\r\n").encode())
    cut.write_text(text.removesuffix(",1,2\n"))

    assert used.ok("usage", "import", sheet, "--label", "sheet", "--json").json["rows"] == 2
    before = used.ok("usage", "export").out
    ran = used.run("usage", "import", cut, "--label", "cut")

    assert ran.code == 2
    assert "line 3: fewer fields than the header has" in ran.err
    assert used.ok("usage", "export").out == before


def test_a_tenant_that_nobody_knows_has_no_use(used: Fleet) -> None:
    ran = used.ok("usage", "stranger", "--json")

    assert ran.json == []
