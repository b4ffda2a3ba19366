"""What `tenantry serve` promises to Prometheus, to probes, and to people."""

from __future__ import annotations

import re

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.server.conftest import CANARY, Serving


def samples(serving: Serving) -> dict[str, dict[tuple[str, ...], float]]:
    """Every sample of a scrape: name -> label values, in the order of the labels' names -> value."""
    answer = serving.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[_values(sample.labels)] = sample.value
    return found


def _values(labels: dict[str, str]) -> tuple[str, ...]:
    return tuple(value for _, value in sorted(labels.items()))


#: Use since the server has read the ledger for the first time: its counters begin there.
_MORE = """
UPDATE tenantry.usage SET busy_seconds = busy_seconds + 12.5, waited_seconds = waited_seconds + 0.5,
    commits = commits + 100;
UPDATE tenantry.database_usage SET busy_seconds = busy_seconds + 20;
"""


def test_a_scrape_gets_the_fleets_view(serving: Serving) -> None:
    found = samples(serving)
    assert found["tenantry_tenant_busy_seconds_total"]["shared", "heavy"] == 0
    serving.server.psql(_MORE, serving.control)
    # The ledger's tables are read one after the other: a scrape may see one before the update and one after it.
    while not (
        found["tenantry_tenant_busy_seconds_total"]["shared", "heavy"]
        and found["tenantry_database_busy_seconds_total"]["shared",]
    ):
        found = samples(serving)
    assert found["tenantry_control_up"] == {(): 1.0}
    assert found["tenantry_tenant_busy_seconds_total"]["shared", "heavy"] == 12.5
    assert found["tenantry_tenant_wait_seconds_total"]["shared", "heavy"] == 0.5
    assert found["tenantry_tenant_transactions_total"]["shared", "commit", "heavy"] == 100
    assert found["tenantry_database_busy_seconds_total"]["shared",] == 20
    assert found["tenantry_tenant_share_ratio"]["shared", "heavy"] == 0.6
    assert found["tenantry_promotion_candidate"]["heavy",] == 1
    assert found["tenantry_promotion_streak_days"]["heavy",] == 14
    assert found["tenantry_directory_tenants"] == {
        ("shared", "active"): 1200.0,
        ("shared", "suspended"): 1.0,
        ("acme", "active"): 1.0,
        ("acme", "suspended"): 0.0,
    }
    assert found["tenantry_move_pause_seconds_count"][()] == 1
    assert found["tenantry_move_pause_seconds_bucket"]["0.25",] == 1
    assert found["tenantry_move_pause_seconds_bucket"]["0.1",] == 0
    assert found["tenantry_move_pause_seconds_sum"][()] == 0.12
    assert found["tenantry_move_lag_bytes"]["<script>alert(1)</script>",] > 0
    assert found["tenantry_move_phase"] == {("flip", "<script>alert(1)</script>"): 1.0}


def test_no_scrape_has_a_series_for_every_tenant(served: Serving) -> None:
    assert len(served.get("/metrics").text.splitlines()) < 100


def test_the_page_shows_tenants_candidates_and_moves(served: Serving) -> None:
    page = served.get("/")
    assert page.status_code == 200
    for expected in ("1\u202f202", "heavy", "60.0%", "m0000000001", "flipped", "suspended"):
        assert expected in page.text


def test_a_tenants_name_is_text_on_the_page_never_markup(served: Serving) -> None:
    page = served.get("/")
    assert "<script>" not in page.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_the_page_needs_nothing_from_anywhere_else(served: Serving) -> None:
    text = served.get("/").text
    wanted = re.findall(r"<(?:link|script|img)[^>]* (?:src|href)=\"([^\"]+)\"", text)
    assert len(wanted) == 3
    for path in wanted:
        assert path.startswith("/static/")
        assert "url(" not in served.get(path).text
    assert " style=" not in text
    assert "://" not in text


def test_health_says_how_long_a_change_takes_to_arrive(served: Serving) -> None:
    answer = served.get("/healthz")
    assert answer.status_code == 200
    health = answer.json()
    assert health["ok"] is True
    assert health["directory_lag_seconds"] > 0
    assert set(health) == {"ok", "control", "directory_lag_seconds", "poll_seconds"}


def test_with_the_control_database_away_everything_answers_and_says_so_and_comes_back(serving: Serving) -> None:
    before = samples(serving)
    serving.take_control_away()
    try:
        health = serving.get("/healthz")
        assert health.status_code == 503
        assert health.json()["ok"] is False
        away = _until(serving, 0.0)
        assert away["tenantry_tenant_busy_seconds_total"] == before["tenantry_tenant_busy_seconds_total"]
        assert "tenantry_promotion_candidate" not in away
        page = serving.get("/")
        assert page.status_code == 200
        assert "can&#39;t be read" in page.text or "can't be read" in page.text
    finally:
        serving.give_control_back()
    assert _until(serving, 1.0)["tenantry_promotion_candidate"]["heavy",] == 1
    assert serving.get("/healthz").status_code == 200


def _until(serving: Serving, up: float) -> dict[str, dict[tuple[str, ...], float]]:
    """Scrape until the answer is not the one that was kept for a second."""
    while True:
        found = samples(serving)
        if found["tenantry_control_up"][()] == up:
            return found


def test_a_name_that_is_not_ours_is_refused_on_the_loopback(served: Serving) -> None:
    assert served.get("/", Host="evil.example").status_code == 400
    assert served.get("/", Host="localhost:9187").status_code == 200


def test_nothing_can_be_changed_through_serve(served: Serving) -> None:
    for path in ("/", "/metrics", "/healthz", "/tenants", "/tenant", "/index.json", "/live", "/static/live.js"):
        assert httpx.post(served.address + path).status_code == 405
    assert served.get("/nothing").status_code == 404


def test_serve_stops_when_told_and_has_logged_no_secret(serving: Serving) -> None:
    serving.get("/")
    serving.take_control_away()
    serving.get("/healthz")
    serving.give_control_back()
    code, said = serving.stop()
    assert code in (0, -15)
    assert CANARY not in said
    assert "Traceback" not in said
